"""Layer 0: AMQP 0-9-1 as bytes and values, both directions, without I/O.

    spec        the protocol as data
    read        bytes -> values             write       values -> bytes, with value_checks
    properties  of a message, both ways     methods     arguments and method frames, both ways
    content     one message, decoded lazily
    frames      stream of bytes -> events   publish     messages -> frames
                with assembly, buffer, frame_errors

A module imports only from its own line and those above it, and of the rest of gamqp only the exceptions.
Does not belong here: sockets, clocks, logs, threads and greenlets, so no call can switch greenlets.

Only this package is compiled, and of it the modules in ``COMPILED_MODULES``. Each of those is an ordinary ``.py`` file
with a ``.pxd`` file that adds types and nothing else. Both builds give the same values and the same errors, and the
same tests run with both. ``COMPILED`` tells which build is loaded. With ``GAMQP_PURE_PYTHON=1`` in the
environment the sources are used although there are extensions. Public: nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from typing import Any

#: The modules that are compiled; setup.py builds exactly these.
COMPILED_MODULES = ('read', 'write', 'properties', 'methods', 'content', 'publish', 'frames')


class _SourceOnly:
    """Finds the modules of this package as sources, whatever extensions lie beside them."""

    _finder = FileFinder(os.path.dirname(__file__), (SourceFileLoader, SOURCE_SUFFIXES))

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return cls._finder.find_spec(name) if name.startswith(__name__ + '.') else None


def _all_built() -> bool:
    """Whether every module has its extension: they use each other's types and only work together."""
    here = os.path.dirname(__file__)
    return all(
        any(os.path.exists(os.path.join(here, name + suffix)) for suffix in EXTENSION_SUFFIXES)
        for name in COMPILED_MODULES
    )


if os.environ.get('GAMQP_PURE_PYTHON', '0') not in ('', '0') or not _all_built():
    sys.meta_path.insert(0, _SourceOnly)

from . import spec  # noqa: E402
from .content import Content, add_frames, end_of_run, note_run  # noqa: E402
from .frames import COMPILED, MAX_BODY, Decoder  # noqa: E402
from .methods import decode_args, dumps, encode_ack, encode_method, encode_nack, encode_reject, loads  # noqa: E402
from .properties import decode_properties, write_properties  # noqa: E402
from .publish import HEARTBEAT, PROTOCOL_HEADER, encode_content, encode_publish  # noqa: E402
from .read import MAX_DEPTH, Reader  # noqa: E402
from .spec import METHODS, PROPERTIES  # noqa: E402
from .write import Encoder  # noqa: E402

__all__ = (
    'COMPILED',
    'COMPILED_MODULES',
    'HEARTBEAT',
    'MAX_BODY',
    'MAX_DEPTH',
    'METHODS',
    'PROPERTIES',
    'PROTOCOL_HEADER',
    'Content',
    'Decoder',
    'Encoder',
    'Reader',
    'add_frames',
    'decode_args',
    'decode_properties',
    'dumps',
    'encode_ack',
    'encode_content',
    'encode_method',
    'encode_nack',
    'encode_publish',
    'encode_reject',
    'end_of_run',
    'loads',
    'note_run',
    'spec',
    'write_properties',
)
