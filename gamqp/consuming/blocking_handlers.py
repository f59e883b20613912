"""Warns, once per handler, of handlers that block the hub in a process that is not patched.

Layer 3. In a process that gevent or eventlet has not patched, a handler that sleeps or uses sockets of the standard
library stops every greenlet. With a single handler that is easily overlooked. A worker looks at the clock when it
ends and when it lets others run, so the check costs nothing per message. Only after a worker took long are the next
calls of its handler timed one by one. Does not belong here: hubs that are blocked otherwise, see ``io.hub_monitor``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..telemetry.log_fields import log_fields

if TYPE_CHECKING:
    from ..basic_message import Message
    from .owner_protocols import ConsumerConnection

__all__ = ('BlockingWatch', 'watch_of')

logger = logging.getLogger('gamqp.consumer')

# Seconds for which a handler may block the hub before the warning.
LIMIT = 0.1

# So many calls are timed after a worker took long.
CALLS = 10

# The names of the handlers that have been warned of.
_named: set[str] = set()


def watch_of(connection: ConsumerConnection, tag: str, handler: object) -> BlockingWatch | None:
    """The watch for a consumer with this handler; None in a patched process, or if it has been warned of."""
    blocking = connection._green.unpatched()
    name = handler_name(handler)
    return BlockingWatch(connection, tag, name, blocking) if blocking and name not in _named else None


class BlockingWatch:
    """Watches the handler of one consumer."""

    __slots__ = ('_blocking', '_connection', '_left', '_name', '_tag')

    def __init__(self, connection: ConsumerConnection, tag: str, name: str, blocking: list[str]) -> None:
        self._connection = connection
        self._tag = tag
        self._name = name
        self._blocking = blocking
        self._left = 0

    @property
    def armed(self) -> bool:
        """Whether the worker is to call the handler by ``run``."""
        return self._left > 0

    def look(self, begun: float) -> float:
        """A worker ends or lets others run, and has not let others run since *begun*. Returns the time now."""
        now = monotonic()
        if now - begun > LIMIT and self._name not in _named:
            self._left = CALLS
        return now

    def run(self, handler: Callable[[Message], object], message: Message) -> None:
        """Call the handler, and warn if it took long and the hub did not run meanwhile."""
        turns: list[bool] = []
        self._connection._green.run_soon(turns.append, True)
        self._left -= 1
        begun = monotonic()
        try:
            self._connection._run_handler(handler, message)
        finally:
            seconds = monotonic() - begun
            if seconds > LIMIT and not turns and self._name not in _named:
                _named.add(self._name)
                self._left = 0
                fields = {**log_fields(self._connection), 'amqp_consumer': self._tag}
                # In a greenlet of its own: a log handler may switch, and this greenlet may be raising an error.
                self._connection._green.spawn(
                    functools.partial(logger.warning, extra=fields),
                    'consumer %s: the handler %s kept every other greenlet from running for %.2f s. %s not patched in '
                    'this process, so what waits there stops them all: call %s first, or use what %s has instead',
                    self._tag,
                    self._name,
                    seconds,
                    ' and '.join(self._blocking) + (' is' if len(self._blocking) == 1 else ' are'),
                    self._connection._green.PATCH,
                    self._connection._green.NAME,
                )


def handler_name(handler: Any) -> str:
    """'module.name' of a handler, for the log."""
    owner: Any = getattr(handler, '__self__', None)
    if type(owner).__module__.startswith('gamqp.') and hasattr(owner, 'handler'):
        handler = owner.handler  # a method of RPCServer: name the program's handler instead
    handler = getattr(handler, 'func', handler)  # of a partial
    name = getattr(handler, '__qualname__', None) or type(handler).__qualname__
    return f'{getattr(handler, "__module__", None) or type(handler).__module__}.{name}'
