"""The hub watch: how long a hub was kept from its work, and by whom.

Layer 2. A timer of the hub that looks at the clock: what it is late by is the time
for which some greenlet has not let go. One per hub, however many connections it
has, and only while it has any. Heartbeats that were missed for that reason are no
fault of the network, so it says so. Who it was, only another thread can see, and
only while it lasts: the heartbeat thread looks when it has to beat for a hub.
What must not enter: sockets.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from types import ModuleType
from typing import Any

__all__ = ('HubMonitor', 'watch_of')

logger = logging.getLogger('gamqp.hub')

# Seconds between two looks at the clock. An idle process wakes that often, for some microseconds.
LOOK = 1.0

# Looks that fit into what is reported: a time is measured with the error of one look.
LOOKS = 4

# Seconds that count as the heartbeat interval of a connection without heartbeats.
WITHOUT_HEARTBEATS = 60.0

# Frames of a stack that are told, from the innermost on.
DEPTH = 4

# id of a hub -> its watch. Those who are watched for hold it, and it holds the hub.
_watches: weakref.WeakValueDictionary[int, HubMonitor] = weakref.WeakValueDictionary()


def watch_of(hub: Any, backend: ModuleType, thread: int) -> HubMonitor:
    """The watch of the running thread's hub, which is *hub*."""
    watch = _watches.get(id(hub))
    if watch is None:
        watch = _watches[id(hub)] = HubMonitor(hub, backend, thread)
    return watch


class HubMonitor:
    """lag: seconds by which the hub was late at the latest look. worst_lag: the most since it is watched.

    thread: native ident of the hub's thread.
    """

    def __init__(self, hub: Any, backend: ModuleType, thread: int) -> None:
        self.hub = hub
        self.lag = 0.0
        self.worst_lag = 0.0
        self._green = backend
        self._thread = thread
        self._intervals: dict[int, float] = {}  # of the links, by their ids
        self._timer: Any = None
        self._pause = 0.0
        self._due = 0.0
        self.polled = False  # by a foreign event loop, which lets the hub run now and then: a late hub is no news
        self.has_thread = False  # somebody looks while the hub is late
        self._seen: str | None = None  # who held the hub when the heartbeat thread looked
        self._block = (0.0, 0.0, '')  # the latest time for which it was held: seconds, until when, by whom

    def __repr__(self) -> str:
        return f'<HubWatch of {len(self._intervals)} links, lag {self.lag:.3f} s, worst {self.worst_lag:.3f} s>'

    def join(self, link: Any, interval: float) -> None:
        """Watch for this link, too. interval: of its heartbeats, in seconds, 0 for none. Does not switch."""
        self._intervals[id(link)] = interval or WITHOUT_HEARTBEATS
        if self._timer is None or self._next_pause() < self._pause:
            self._arm()

    def leave(self, link: Any) -> None:
        """Does nothing for one that never joined. Does not switch."""
        self._intervals.pop(id(link), None)
        if not self._intervals and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.polled = False

    def forget(self) -> None:
        """In a forked child: the links are its parent's. The timer, in a hub that is shared, finds nobody and ends."""
        self._intervals.clear()

    @property
    def limit(self) -> float:
        """Seconds above which a lag is reported: the shortest heartbeat interval."""
        return min(self._intervals.values(), default=WITHOUT_HEARTBEATS)

    def lag_at(self, now: float) -> float:
        """The lag of the latest look, or that of the one which is overdue now. From any thread."""
        return max(self.lag, now - self._due) if self._timer is not None else self.lag

    def is_overdue(self, now: float) -> bool:
        """Whether the hub has missed its look, and the time of another one: nobody lets it run at present."""
        return self._timer is not None and now - self._due > self._pause

    def block_before(self, now: float, interval: float) -> str | None:
        """What to say of a link that is lost now, if the hub was held for longer than its heartbeat interval before.

        interval: in seconds, 0 for none. A peer that got no heartbeat hangs up after two intervals.
        """
        if self.polled:
            return None
        interval = interval or WITHOUT_HEARTBEATS
        overdue = now - self._due if self._timer is not None else 0.0
        seconds, until, who = self._block
        if overdue > interval:
            seconds, who = overdue, self._describe(self._seen)
        elif seconds <= interval or now - until > 2 * interval:
            return None
        held = f'the hub was blocked for {seconds:.1f} s before that'
        return f'{held}, longer than a heartbeat interval ({interval:g} s). {who}'

    def _next_pause(self) -> float:
        return min(LOOK, self.limit / LOOKS)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pause = self._next_pause()
        self._due = time.monotonic() + self._pause
        self._timer = self._green.call_later(self._pause, self._look)

    def _look(self) -> None:
        self.lag = max(0.0, time.monotonic() - self._due)
        self.worst_lag = max(self.worst_lag, self.lag)
        seen, self._seen = self._seen, None
        limit = self.limit
        if not self._intervals:
            self._timer = None
            return
        if self.lag > limit:
            self._block = (self.lag, time.monotonic(), self._describe(seen))
        self._arm()
        if self.lag > limit and not self.polled and logger.isEnabledFor(logging.WARNING):
            # In a greenlet of its own, since a log handler is user code and may wait.
            self._green.spawn(_report, self.lag, limit, self._describe(seen))

    def _describe(self, seen: str | None) -> str:
        if seen is not None:
            return f'It was in {seen}'
        if self.has_thread:
            return 'The heartbeat thread did not get to see what it was'
        return 'Connection(heartbeat_thread=True) tells by whom, and keeps heartbeats flowing'

    # -- in the heartbeat thread ---------------------------------------------------------

    def look_who(self) -> None:
        """The hub is late: note what its thread is doing."""
        self._seen = stack_of(self._thread)


def _report(lag: float, limit: float, who: str) -> None:
    logger.warning(
        'the hub was blocked for %.1f s by something that did not let other greenlets run, '
        'longer than a heartbeat interval (%g s). %s',
        lag,
        limit,
        who,
    )


def stack_of(thread: int) -> str | None:
    """'inner (file:line), called by outer (file:line), …' of what a thread is doing, if it still lives."""
    frame = sys._current_frames().get(thread)
    places: list[str] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        places.append(f'{code.co_name} ({code.co_filename}:{frame.f_lineno})')
        frame = frame.f_back
    return ', called by '.join(places) or None
