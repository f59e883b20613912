"""The callbacks of a recovering connection: one after the other, in a greenlet of their own.

Layer 4. Neither the reader nor the greenlet that recovers runs code of the program, which may take its time, raise, or
close the connection. Does not belong here: when there is something to say (``engine``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import greenlet

__all__ = ('MOST_WAITING', 'OrderedCallbacks')

logger = logging.getLogger('gamqp.recovery')

# Calls that may wait while one takes its time. An outage of days makes one for each attempt.
MOST_WAITING = 50


class OrderedCallbacks:
    """Of one connection. There is a greenlet only while calls wait."""

    __slots__ = ('_green', '_running', '_waiting')

    def __init__(self) -> None:
        self._green: ModuleType | None = None
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...], bool]] = deque()
        self._running: Any = None  # the greenlet

    def add(
        self, backend: ModuleType, callback: Callable[..., object] | None, *args: Any, droppable: bool = False
    ) -> None:
        """Have the program's *callback*, if there is one, called behind those before. Does not switch.

        droppable: where too many wait, the oldest of these is left out.
        """
        if callback is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            oldest = next((one for one in self._waiting if one[2]), self._waiting[0])
            self._waiting.remove(oldest)
        self._waiting.append((callback, args, droppable))
        # A greenlet that was killed before it ran has not removed itself.
        if self._running is None or self._running.dead:
            self._running = backend.spawn(self._run)

    def _run(self) -> None:
        """Body of the greenlet. Switches if the callbacks do."""
        try:
            while self._waiting:
                callback, args, _ = self._waiting.popleft()
                try:
                    callback(*args)
                except greenlet.GreenletExit:
                    raise
                except BaseException:  # also a gevent.Timeout: it ends this call, and not those behind it
                    logger.exception('a callback of a recovering connection has failed: %r', callback)
                # What a callback got must not stay alive in this frame while the next one runs.
                del callback, args
        finally:
            # Also when it was killed: the next call begins a new greenlet, which makes those that wait.
            self._running = None
