"""The broker that a command works with: its URLs, and a connection to the first that answers.

Layer 5. Does not belong here: what a URL means (``state.uri``).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterable
from typing import Any

from ..connection import Connection
from ..connection import connect as connect_to_any
from ..state import connection_settings
from .exit_codes import UsageError
from .output import Output

__all__ = ('add_reconnect', 'connect', 'reconnecting', 'settings_of', 'urls')

_DEFAULT = 'amqp://localhost'

# Between two URLs: nothing of this can be a part of one.
_BETWEEN = re.compile(r'[\s,;]+(?=amqps?://)')


def urls(options: argparse.Namespace, given: Iterable[str] = ()) -> list[str]:
    """The URLs of --url or of AMQP_URL, checked. given: those of arguments, before all others. Raises UsageError."""
    texts = list(given) or options.url or [os.environ.get('AMQP_URL') or _DEFAULT]
    found = [one for text in texts for one in _BETWEEN.split(text.strip())]
    for one in found:
        settings_of(one)
    return found


def settings_of(url: str, **arguments: Any) -> connection_settings.Settings:
    """The settings of a URL. Raises UsageError that does not quote it."""
    try:
        return connection_settings.from_uri(url, arguments)
    except (TypeError, ValueError) as exc:
        text = str(exc)
    # Outside the block: an error with the first as its context would lead to frames that hold the URL.
    raise UsageError(text)


def connect(
    options: argparse.Namespace, urls_given: list[str] | None = None, shuffle: bool = False, **arguments: Any
) -> Connection:
    """An open connection to the first broker that answers. Switches.

    urls_given: None for those of the options. shuffle: try them in a random order. Raises UsageError, and why none
    could be connected.
    """
    candidates = urls(options) if urls_given is None else urls_given
    usual: dict[str, Any] = {'name': f'gamqp {options.program} {platform.node()}:{os.getpid()}'}
    if options.timeout is not None:  # else the URL may say
        usual.update(dict.fromkeys(('connect_timeout', 'rpc_timeout', 'confirm_timeout'), options.timeout))
    return connect_to_any(candidates, shuffle=shuffle, **{**usual, **arguments})


def add_reconnect(parser: argparse.ArgumentParser) -> None:
    """The option --reconnect."""
    parser.add_argument(
        '--reconnect', action='store_true', help='connect again when the connection is lost, as often as it takes'
    )


def reconnecting(options: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Arguments for the connection, by which it comes back after a loss where --reconnect says so."""
    if not options.reconnect:
        return {}
    told = f'gamqp {options.program}: the connection is open again'
    return {'recover': True, 'on_recovered': lambda report: output.error(told)}
