"""Messages that go back to their queue after a while: the brake on a handler that always fails.

Layer 3. A message that goes back at once comes back at once. While it is kept here it is unsettled
and its worker does something else; so its place in the prefetch is what a consumer pays for it.
Whoever ends the consumer takes what is here, or the broker has taken it back. Does not belong here:
how long, that is ``state.handler_failures``.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ('MOST_DELAYED', 'DelayedRequeue')

# Messages that are kept at a time by one consumer. Without a prefetch there would be no end of them.
MOST_DELAYED = 1000


class DelayedRequeue:
    """Calls *release* with each message when its time has come, in the hub: it must neither switch nor raise."""

    __slots__ = ('_due', '_green', '_heap', '_number', '_release', '_timer')

    def __init__(self, backend: ModuleType, release: Callable[[Any], None]) -> None:
        self._green = backend
        self._release = release
        self._heap: list[tuple[float, int, Any]] = []  # when, a number that makes it unique, which
        self._number = 0
        self._timer: Any = None
        self._due = 0.0  # of the timer

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, message: Any, seconds: float) -> None:
        """Does not switch."""
        due = time.monotonic() + seconds
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, message))
        if self._timer is None or due < self._due:
            self._arm(due)

    def take_all(self) -> list[Any]:
        """The messages, oldest first; they are not kept any longer. Does not switch."""
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
        """In the hub."""
        self._timer = None
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            self._release(heapq.heappop(self._heap)[2])
        if self._heap and self._timer is None:
            self._arm(self._heap[0][0])
