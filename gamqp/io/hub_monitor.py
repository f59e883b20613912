"""Measures for how long a hub was blocked, that is, for how long one greenlet did not let the others run.

Layer 2. A timer of the hub compares the clock with the time at which it was due: the difference is the
time for which the hub was blocked. There is one monitor per hub, while the hub has connections.
When heartbeats were missed because the hub was blocked, the log and the error say so, since the network is
not the cause then. Which code blocked the hub can be seen only from another thread and only while it
lasts: the sending thread looks when it sends a heartbeat in the place of a blocked hub
(``Connection(heartbeat_thread=True)``). Does not belong here: sockets.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .link import Link

__all__ = ('HubMonitor', 'monitor_of')

logger = logging.getLogger('gamqp.hub')

# Seconds between two looks at the clock, at most. An idle process wakes up that often, for some microseconds.
LOOK = 1.0

# Looks at the clock per heartbeat interval, at least. A block is measured with an error of one pause between
# two looks, so one that is as long as an interval is measured to a quarter.
LOOKS = 4

# Seconds that count as the heartbeat interval of a connection without heartbeats.
WITHOUT_HEARTBEATS = 60.0

# Frames of the blocking stack that are written to the log, from the innermost on.
DEPTH = 4

# id of a hub -> its monitor. The links hold the monitor, and the monitor holds the hub.
_monitors: weakref.WeakValueDictionary[int, HubMonitor] = weakref.WeakValueDictionary()


def monitor_of(hub: Any, backend: ModuleType, thread: int) -> HubMonitor:
    """The monitor of *hub*, which must be the running thread's hub. thread: ident of that thread."""
    monitor = _monitors.get(id(hub))
    if monitor is None:
        monitor = _monitors[id(hub)] = HubMonitor(hub, backend, thread)
    return monitor


class HubMonitor:
    """Watches one hub. lag: seconds by which the hub was late at the latest look. worst_lag: the most so far.

    thread: ident of the hub's thread. polled: set to True when an event loop of the program polls the
    connection. has_thread: set to True when the sending thread looks at a late hub. Both are False again when the last
    link has left.
    """

    def __init__(self, hub: Any, backend: ModuleType, thread: int) -> None:
        self.hub = hub
        self.lag = 0.0
        self.worst_lag = 0.0
        self._green = backend
        self._thread = thread
        self._intervals: dict[int, float] = {}  # id of a link -> its heartbeat interval
        self._timer: Any = None
        self._pause = 0.0
        self._due = 0.0
        # An event loop of the program lets this hub run only now and then, so a late hub is not reported.
        self.polled = False
        self.has_thread = False
        self._seen: str | None = None  # the stack that the sending thread saw while the hub was blocked
        self._block = (0.0, 0.0, '')  # the latest block: for how many seconds, until when, by what

    def __repr__(self) -> str:
        return f'<HubMonitor of {len(self._intervals)} links, lag {self.lag:.3f} s, worst {self.worst_lag:.3f} s>'

    def join(self, link: Link, interval: float) -> None:
        """Watch the hub for this link, too. interval: of its heartbeats, in seconds, 0 for none. Does not switch."""
        self._intervals[id(link)] = interval or WITHOUT_HEARTBEATS
        if self._timer is None:
            self._seen = None  # of a block after which the last link was gone; the next one has another cause
        # A shorter interval than before needs more frequent looks. A longer one is considered at the next look.
        if self._timer is None or self._next_pause() < self._pause:
            self._arm()

    def leave(self, link: Link) -> None:
        """The link has ended. Does nothing for a link that has not joined. Does not switch."""
        self._intervals.pop(id(link), None)
        if not self._intervals and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.polled = self.has_thread = False

    def forget(self) -> None:
        """In a forked child: forget the links, which are the parent's. The timer ends itself when it finds no link."""
        self._intervals.clear()

    @property
    def limit(self) -> float:
        """Seconds above which a lag is reported: the shortest heartbeat interval."""
        return min(self._intervals.values(), default=WITHOUT_HEARTBEATS)

    def lag_at(self, now: float) -> float:
        """Seconds by which the hub was late at the latest look, or is late now if that is more. From any thread."""
        return max(self.lag, now - self._due) if self._timer is not None else self.lag

    def is_overdue(self, now: float) -> bool:
        """Whether the timer is late by more than a whole pause between looks: the hub is blocked at present."""
        # One pause more than due: a timer that is a little late is no blocked hub.
        return self._timer is not None and now - self._due > self._pause

    def block_before(self, now: float, interval: float) -> str | None:
        """A sentence for the error of a link that is lost now, if the hub was blocked shortly before; else None.

        interval: of the link's heartbeats, in seconds, 0 for none. Blocks that lasted an interval or less are not
        reported, nor those that ended more than two intervals ago: by then the peer would have hung up.
        """
        if self.polled:
            return None
        interval = interval or WITHOUT_HEARTBEATS
        overdue = now - self._due if self._timer is not None else 0.0
        # The block may be over: then its seconds were measured by the timer, else they are counted up to now.
        seconds, until, who = self._block
        if overdue > interval:  # the hub is still blocked, so the timer has not run
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
        if not self._intervals:  # only in a forked child, see forget
            self._timer = None
            return
        if self.lag > limit:
            self._block = (self.lag, time.monotonic(), self._describe(seen))
        self._arm()
        if self.lag > limit and not self.polled and logger.isEnabledFor(logging.WARNING):
            # In a greenlet of its own, since a log handler is user code, and may switch greenlets.
            self._green.spawn(_report, self.lag, limit, self._describe(seen))

    def _describe(self, seen: str | None) -> str:
        if seen is not None:
            return f'It was in {seen}'
        if self.has_thread:
            return 'The heartbeat thread did not get to see what it was'
        return 'Connection(heartbeat_thread=True) tells by whom, and keeps heartbeats flowing'

    # -- in the sending thread -----------------------------------------------------------

    def look_who(self) -> None:
        """The hub is late: note the stack of the hub's thread."""
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
    """'inner (file:line), called by outer (file:line), …' of the thread with this ident; None if it has ended."""
    frame = sys._current_frames().get(thread)
    places: list[str] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        places.append(f'{code.co_name} ({code.co_filename}:{frame.f_lineno})')
        frame = frame.f_back
    return ', called by '.join(places) or None
