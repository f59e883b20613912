# cython: language_level=3, annotation_typing=False
"""Decodes the properties of a content header into a dict, and encodes a dict of them.

Layer 0. The keys are py-amqp's names; only properties that are present are in the dict. No call switches greenlets.
Does not belong here: frames, and what a property means (``content`` applies the content encoding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .read import Reader
from .value_checks import within
from .write import Encoder, ranged

if TYPE_CHECKING:
    import cython
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'CONTENT_ENCODING_FLAG', 'decode_properties', 'write_properties')

COMPILED: bool = cython.compiled

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int

#: The bit of the flags for content_encoding.
CONTENT_ENCODING_FLAG = 0x4000

_SHORTSTR = 0
_OCTET = 1
_TABLE = 2
_TIMESTAMP = 3
_KINDS = {'s': _SHORTSTR, 'o': _OCTET, 'F': _TABLE, 'T': _TIMESTAMP}
# (name, kind) in the order of the wire; the first property has the highest bit.
_ROWS: tuple[tuple[str, int], ...] = tuple((name, _KINDS[letter]) for name, letter in spec.PROPERTIES)
_FIRST_FLAG = 0x8000
_CONTINUED = 1  # lowest bit: another 16 flags follow
_UNASSIGNED = 2  # the one bit between the 14 properties and the continuation


def decode_properties(payload: bytes, offset: _int) -> dict[str, Any]:
    """Decode the flags at *offset* and the properties behind them.

    Raises FrameSyntaxError. Bytes behind the last property are ignored.
    """
    reader = Reader(payload, offset)
    flags = _read_flags(reader)
    properties: dict[str, Any] = {}
    flag = _FIRST_FLAG
    for name, kind in _ROWS:
        if flags & flag:
            if kind == _SHORTSTR:
                properties[name] = reader.shortstr()
            elif kind == _OCTET:
                properties[name] = reader.u8()
            elif kind == _TABLE:
                properties[name] = reader.table()
            else:
                # A number of seconds, as in py-amqp; it is also easy to compare and to send on.
                properties[name] = reader.u64()
        flag >>= 1
    return properties


def _read_flags(reader: Reader) -> int:
    """The first flag word; class basic has no property in any other."""
    flags = reader.u16()
    more = flags
    while more & _CONTINUED:
        more = reader.u16()
        if more & ~_CONTINUED:
            raise exceptions.FrameSyntaxError(f'property flags {more:#06x} in a word that class basic does not have')
    if flags & _UNASSIGNED:
        raise exceptions.FrameSyntaxError(f'property flags {flags:#06x} name a property that class basic does not have')
    return flags


def write_properties(writer: Encoder, properties: Any) -> None:
    """Write flags and properties; None (as the dict, or as a value) means absent.

    A name that is no property is ignored, as in py-amqp: Celery passes names of its own. Raises EncodeError.
    """
    given: dict[str, Any] = properties if type(properties) is dict else dict(properties or ())
    start = writer.tell()
    writer.u16(0)
    flags = 0
    flag = _FIRST_FLAG
    name = ''
    try:
        for name, kind in _ROWS:
            value = given.get(name)
            if value is not None:
                flags |= flag
                if kind == _SHORTSTR:
                    writer.shortstr(value)
                elif kind == _OCTET:
                    writer.u8(ranged(value, 0, 255))
                elif kind == _TABLE:
                    writer.table(value)
                else:
                    writer.timestamp(value)
            flag >>= 1
    except exceptions.EncodeError as exc:
        raise within(name, exc) from None
    writer.patch_u16(start, flags)
