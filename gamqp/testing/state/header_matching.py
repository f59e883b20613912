"""Whether the headers of a message match the arguments of a binding to a headers exchange.

Layer 5, pure. Does not belong here: exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import Refusal, precondition_failed, text_of
from .queue_arguments import type_of

__all__ = ('check_binding', 'matches')

_KINDS = ('all', 'any', 'all-with-x', 'any-with-x')


def check_binding(arguments: Mapping[Any, Any]) -> None:
    """Raise a Refusal unless x-match is a known one."""
    kind = arguments.get('x-match', 'all')
    if kind not in _KINDS:
        raise _unknown(kind)


def _unknown(kind: Any) -> Refusal:
    if isinstance(kind, (str, bytes)):
        return precondition_failed(
            f'Invalid x-match field value <<"{text_of(kind)}">>; expected all, any, all-with-x, or any-with-x'
        )
    return precondition_failed(f'Invalid x-match field type {type_of(kind)} (value {kind!r}); expected longstr')


def matches(arguments: Mapping[Any, Any], headers: Mapping[Any, Any], typed: bool) -> bool:
    """Whether a message with *headers* matches a binding with *arguments*.

    Arguments that begin with 'x-' are not compared, unless x-match ends in '-with-x'. A void argument asks only
    that the header is there. typed: whether 1 is not 1.0.
    """
    kind = arguments.get('x-match', 'all')
    compared = arguments.items()
    if not kind.endswith('-with-x'):
        wanted = [(name, value) for name, value in compared if not text_of(name).startswith('x-')]
    else:
        wanted = [(name, value) for name, value in compared if name != 'x-match']
    hits = (name in headers and (value is None or _same(value, headers[name], typed)) for name, value in wanted)
    return any(hits) if kind.startswith('any') else all(hits)


def _same(wanted: Any, value: Any, typed: bool) -> bool:
    # True == 1 in Python, but they are of different types in AMQP.
    if isinstance(wanted, bool) != isinstance(value, bool) or (
        typed and isinstance(wanted, float) != isinstance(value, float)
    ):
        return False
    return bool(wanted == value)
