"""Timers that go on from one wait to the next, since to start and stop one costs more than a short wait itself.

Layer 2. Nearly every wait for a reply or a confirm ends long before its time is up. So the timer of such a wait is left
running, and the next wait takes it over: it fires too early for that one, and is started again for the time that is
left, once in as long as a wait may take. Each of them fires for one wait at a time, and none is looked for in a list.
No call switches greenlets. Does not belong here: what is done when the time is up (``waiting``).
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .waiting import Slot

__all__ = ('KeptTimer', 'KeptTimers')

# So many timers are kept for waits to come; the others are stopped when their wait ends.
MOST = 64

_NEVER = float('inf')


class KeptTimers:
    """Those of one link. Nothing else keeps them running: they are stopped when it ends.

    free: those that no wait has. ended: whether none is kept any more.
    """

    __slots__ = ('ended', 'free', 'green')

    def __init__(self, green: ModuleType) -> None:
        self.green = green
        self.free: list[KeptTimer] = []
        self.ended = False

    def begin(self, slot: Slot, seconds: float) -> KeptTimer:
        """Have this slot expire in so many seconds, unless the timer is given back before."""
        free = self.free
        timer = free.pop() if free else KeptTimer(self)
        timer.slot = slot
        timer.until = until = time.monotonic() + seconds
        if timer.fires_at > until:
            timer.start(seconds)
        return timer

    def end(self, stop: bool = True) -> None:
        """Keep none any more. stop: whether they may be touched, which is in the thread of their hub only."""
        self.ended = True
        free, self.free = self.free, []
        for timer in free if stop else ():
            timer.stop()


class KeptTimer:
    """fires_at: when it does, in seconds of time.monotonic(). slot, until: what is to expire, and when.

    While it is free slot is None.
    """

    __slots__ = ('_timer', '_timers', 'fires_at', 'slot', 'until')

    def __init__(self, timers: KeptTimers) -> None:
        self._timers = timers
        self._timer: Any = None
        self.fires_at = _NEVER
        self.slot: Slot | None = None
        self.until = _NEVER

    def start(self, seconds: float) -> None:
        """Let it fire in so many seconds and not when it would have."""
        self.stop()
        self.fires_at = time.monotonic() + seconds
        self._timer = self._timers.green.call_later(seconds, self._fire)

    def stop(self) -> None:
        timer, self._timer = self._timer, None
        self.fires_at = _NEVER
        if timer is not None:
            timer.cancel()

    def cancel(self) -> None:
        """The wait has ended."""
        self.slot = None
        timers = self._timers
        if timers.ended or len(timers.free) >= MOST:
            self.stop()
        else:
            timers.free.append(self)

    def _fire(self) -> None:
        self.stop()
        slot = self.slot
        if slot is None:
            return  # the wait for which it was started has ended, and none has begun since
        left = self.until - time.monotonic()
        if left > 0:
            self.start(left)
        else:
            slot.expire()  # switches to the greenlet, which gives the timer back
