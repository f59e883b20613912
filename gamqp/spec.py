"""The numbers of every method under py-amqp's names: ``spec.Basic.Ack`` is (60, 80).

Layer 5. The table itself is in ``gamqp.wire.spec``. Does not belong here: numbers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

from .wire import spec as _spec

__all__ = ('Basic', 'Channel', 'Confirm', 'Connection', 'Exchange', 'Queue', 'Tx', 'method', 'method_t')


class method_t(NamedTuple):
    """What py-amqp knows of a method: its number, the letters of its arguments, whether a content follows."""

    method_sig: tuple[int, int]
    args: str | None
    content: bool


def method(method_sig: tuple[int, int], args: str | None = None, content: bool = False) -> method_t:
    """A method_t, with py-amqp's defaults."""
    return method_t(method_sig, args, content)


def _as_class(name: str, space: SimpleNamespace) -> Any:
    """A class with these attributes, because py-amqp has classes here and programs may subclass them."""
    return type(name, (), {'__doc__': f'Methods of class {name.lower()}.', '__module__': __name__, **vars(space)})


Connection = _as_class('Connection', _spec.Connection)
Channel = _as_class('Channel', _spec.Channel)
Exchange = _as_class('Exchange', _spec.Exchange)
Queue = _as_class('Queue', _spec.Queue)
Basic = _as_class('Basic', _spec.Basic)
Confirm = _as_class('Confirm', _spec.Confirm)
Tx = _as_class('Tx', _spec.Tx)
