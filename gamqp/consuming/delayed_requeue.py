"""Keeps the messages of failed handlers for a while before they are requeued.

Layer 3. A message that is requeued at once is delivered again at once, so a handler that always fails would run in a
tight loop. While a message is kept here it is not acked, and takes one place of the prefetch; its worker is
free for other messages. When the consumer ends, the messages that are left are given back, or the broker has
requeued them. Does not belong here: for how long a message is kept, see ``state.handler_failures``.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..basic_message import Message

__all__ = ('MOST_DELAYED', 'DelayedRequeue')

# Messages that one consumer keeps, at most. Without a prefetch there is no other limit.
MOST_DELAYED = 1000


class DelayedRequeue:
    """Calls *release* in the hub with each message whose time has come. *release* must neither switch nor raise."""

    __slots__ = ('_due', '_green', '_heap', '_number', '_release', '_timer')

    def __init__(self, backend: ModuleType, release: Callable[[Message], None]) -> None:
        self._green = backend
        self._release = release
        self._heap: list[tuple[float, int, Message]] = []  # (due time, running number, message)
        self._number = 0
        self._timer: Any = None
        self._due = 0.0  # when the timer is due

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, message: Message, seconds: float) -> None:
        """Keep a message for so many seconds. Does not switch."""
        due = time.monotonic() + seconds
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, message))
        if self._timer is None or due < self._due:
            self._arm(due)

    def take_all(self) -> list[Message]:
        """Remove and return all messages, in the order in which they were added. Does not switch."""
        self._disarm()
        heap, self._heap = self._heap, []
        return [message for _, _, message in sorted(heap, key=lambda one: one[1])]

    def _arm(self, due: float) -> None:
        self._disarm()
        self._due = due
        self._timer = self._green.call_later(max(0.0, due - time.monotonic()), self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Called by the timer, in the hub: release what is due."""
        self._timer = None
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            self._release(heapq.heappop(self._heap)[2])
        if self._heap and self._timer is None:
            self._arm(self._heap[0][0])
