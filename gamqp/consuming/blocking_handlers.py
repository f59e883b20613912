"""Handlers that keep the hub from everything else, where sleeping and sockets do so: named once in the log.

Layer 3. A process that gevent or eventlet has patched needs none of this. In another a handler that
sleeps or uses sockets by the standard library stops every greenlet, which nobody sees who has one
handler only. A worker looks at the clock when it ends and when it pauses, which costs a message
nothing; only after it took long are the next calls of the handler watched one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

__all__ = ('BlockingWatch', 'watch_of')

logger = logging.getLogger('gamqp.consumer')

# Seconds for which a handler may keep the hub.
LIMIT = 0.1

# Calls that are watched after a worker took long.
CALLS = 10

# Handlers that have been named.
_named: set[str] = set()


def watch_of(connection: Any, tag: str, handler: Any) -> BlockingWatch | None:
    """For a consumer of this handler; None where nothing blocks, or where it has been said."""
    blocking = connection.green.unpatched()
    name = handler_name(handler)
    return BlockingWatch(connection, tag, name, blocking) if blocking and name not in _named else None


class BlockingWatch:
    """Of one consumer. armed: whether ``run`` is to call the handler."""

    __slots__ = ('_blocking', '_connection', '_left', '_name', '_tag')

    def __init__(self, connection: Any, tag: str, name: str, blocking: list[str]) -> None:
        self._connection = connection
        self._tag = tag
        self._name = name
        self._blocking = blocking
        self._left = 0

    @property
    def armed(self) -> bool:
        return self._left > 0

    def look(self, begun: float) -> float:
        """A worker that began then, or let others run then, has come to its end, or lets them run. Returns the time."""
        now = monotonic()
        if now - begun > LIMIT and self._name not in _named:
            self._left = CALLS
        return now

    def run(self, handler: Callable[[Any], Any], message: Any) -> None:
        """Call the handler, and see whether the hub had a turn."""
        turns: list[bool] = []
        self._connection.green.run_soon(turns.append, True)
        self._left -= 1
        begun = monotonic()
        try:
            self._connection._run_handler(handler, message)
        finally:
            seconds = monotonic() - begun
            if seconds > LIMIT and not turns and self._name not in _named:
                _named.add(self._name)
                self._left = 0
                # In a greenlet of its own: a log handler may wait, and this one may be on its way out.
                self._connection.green.spawn(
                    logger.warning,
                    'consumer %s: the handler %s kept every other greenlet from running for %.2f s. %s not patched in '
                    'this process, so what waits there stops them all: call %s first, or use what %s has instead',
                    self._tag,
                    self._name,
                    seconds,
                    ' and '.join(self._blocking) + (' is' if len(self._blocking) == 1 else ' are'),
                    self._connection.green.PATCH,
                    self._connection.green.NAME,
                )


def handler_name(handler: Any) -> str:
    """'module.name' of a handler."""
    owner: Any = getattr(handler, '__self__', None)
    if type(owner).__module__.startswith('gamqp.') and hasattr(owner, 'handler'):
        handler = owner.handler  # of an RPCServer: the program's
    handler = getattr(handler, 'func', handler)  # of a partial
    name = getattr(handler, '__qualname__', None) or type(handler).__qualname__
    return f'{getattr(handler, "__module__", None) or type(handler).__module__}.{name}'
