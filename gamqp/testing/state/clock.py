"""A clock that a test can move, and what is due at some time.

Layer 5, pure: the time comes from callables that are passed in. Not thread-safe: used under the broker's lock.
Does not belong here: waiting.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ('Clock', 'Timer')


class Timer:
    """Something that is due once. ``cancel()`` is idempotent, also after the timer has run."""

    __slots__ = ('_fn', 'when')

    def __init__(self, when: float, fn: Callable[[], None]) -> None:
        self.when = when
        self._fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        """Do not run it."""
        self._fn = None

    @property
    def cancelled(self) -> bool:
        """Whether it will not run (any more)."""
        return self._fn is None

    def run(self) -> None:
        """Run it, unless it was cancelled."""
        fn, self._fn = self._fn, None
        if fn is not None:
            fn()


class Clock:
    """Time in seconds: *monotonic* for what is due, *wall* (since 1970) for timestamps; both moved by ``advance``."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._offset = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f'<Clock {self._offset:+.3f} s, {len(self._heap)} timers>'

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return self._monotonic() + self._offset

    def time(self) -> float:
        """Seconds since 1970."""
        return self._wall() + self._offset

    def call_at(self, when: float, fn: Callable[[], None]) -> Timer:
        """Have *fn* called once it is *when*."""
        timer = Timer(when, fn)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        return timer

    def call_later(self, seconds: float, fn: Callable[[], None]) -> Timer:
        """Have *fn* called in so many seconds."""
        return self.call_at(self.now() + seconds, fn)

    def next_due(self) -> float | None:
        """Seconds until the first timer is due (0.0: it is); None if there is none."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self.now()) if self._heap else None

    def run_due(self) -> None:
        """Run the timers that are due."""
        if self._heap:
            now = self.now()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2].run()

    def advance(self, seconds: float) -> None:
        """Move the clock forward. What is due on the way runs in its order, each at its own time."""
        if not seconds >= 0:
            raise ValueError(f'seconds: a clock goes forward only, not by {seconds!r}')
        target = self._offset + seconds
        while (due := self.next_due()) is not None and self._offset + due <= target:
            self._offset += due
            self.run_due()
        self._offset = max(self._offset, target)
        self.run_due()
