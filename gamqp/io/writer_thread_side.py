"""What the sending thread does at a writer: send what waits there, and heartbeats.

Layer 2, the base of ``Writer``. The transport's guard is held by whoever sends, from the
first byte of a call to the note of how many went. Between two sends it is free, and
``_head`` and ``unsent`` tell whether the stream stands in the middle of a frame: what the
kernel has taken a part of comes first, whoever sends next.

The count of queued bytes is the hub's alone: what the thread moves, it notes in ``_aside``,
and the hub subtracts it when it sends next. The thread touches nothing else of the hub's, and
leaves an error to it. What must not enter: hubs, greenlets and waiting.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..state.counters import Counters
from ..state.heartbeat import HeartbeatClock
from ..transport import TCPTransport
from ..wire import HEARTBEAT
from .hub_writers import HubWriters
from .send_thread import LOOK, in_a_hurry, send_thread

__all__ = ('BATCH', 'TURN', 'WriterThreadSide')

# Bytes sent together at most. One system call costs about as much as copying
# this much, so more brings nothing and makes the hub wait longer.
BATCH = 64 * 1024

# Bytes sent in one go before somebody else gets a turn; at memory speed this is
# well below a millisecond.
TURN = 1024 * 1024
ALL = float('inf')

# Where the kernel takes nothing, the thread comes again after a quarter of the time for which
# that has lasted, and after so many seconds at most.
PATIENCE = 0.25
LONGEST_LOOK = 1.0

# What a send that says nothing of bytes counts: about a chunk of TLS.
MOVED = 64 * 1024

_NOTHING = memoryview(b'')


class WriterThreadSide:
    """hub_thread: alive (not None when called) as long as the hub's thread is."""

    __slots__ = (
        '__weakref__',
        '_aside',
        '_failure',
        '_head',
        '_hub_writers',
        '_pushing',
        '_queue',
        '_retired',
        '_touched',
        '_transport',
        '_watching',
        '_went',
        'closed',
        'counts',
        'heartbeat_clock',
        'hub_thread',
        'hub_watch',
        'load',
    )

    def __init__(
        self,
        transport: TCPTransport,
        heartbeat_clock: HeartbeatClock,
        counts: Counters,
        hub_thread: Callable[[], Any],
        hub_writers: HubWriters,
    ) -> None:
        self._transport = transport
        self._queue: deque[Any] = deque()
        self.load = 0  # bytes in _queue and _head, and _aside
        self._head: memoryview | None = None  # rest of a batch the kernel has taken a part of
        self._pushing = False  # the hub is sending
        self._touched = False  # by the thread; the hub is to note what follows
        self._went = False  # the kernel has taken something, if only what was encrypted before
        self._aside = 0  # bytes of the queue that the thread has sent, less those that it has queued itself
        self._failure: OSError | None = None  # what the thread has met
        self._watching = False  # the kernel's buffer is full, the hub calls us when it is not
        self._retired = False
        self.heartbeat_clock = heartbeat_clock
        self.counts = counts
        self.closed = False
        self.hub_watch: Any = None
        self.hub_thread = hub_thread
        self._hub_writers = hub_writers
        hub_writers.add(self)

    def start_beating(self, watch: Any) -> None:
        """Have the thread send heartbeats, too. watch: the HubWatch, told when the hub is late."""
        self.hub_watch = watch
        if self.heartbeat_clock.interval and not self.closed:
            watch.has_thread = True
            send_thread.add(self)

    def retire(self) -> None:
        """Have the thread send nothing more. Waits for a send that is under way."""
        with self._transport.guard:
            self._retired = True
        send_thread.discard(self)

    def send_aside(self) -> None:
        """Give the kernel whatever it takes now, from any thread, and touch nothing of the hub's. Does not switch."""
        with self._transport.guard:
            if not (self.closed or self._retired or self._pushing):
                self._send_rest(ALL)

    @property
    def may_hold(self) -> bool:
        """Whether it is worth to ask ``has_unsent``; costs next to nothing."""
        return bool(self._queue) or self._head is not None or self._watching or self._touched

    @property
    def has_unsent(self) -> bool:
        return bool(self._queue) or self._head is not None or self._transport.unsent

    def _gather(self) -> memoryview:
        """The next batch: one large set alone, or as many small ones as fit.

        Where what waits is little more than that it is all: the last set would go by itself, and cost a system call.
        """
        queue = self._queue
        if not queue:
            return memoryview(b'')  # only the transport holds something: a send of nothing moves it
        first = queue.popleft()
        if not queue or len(first) >= BATCH:
            return memoryview(first)
        if self.load < 2 * BATCH:
            # Those that are here now: the hub may go on adding while the thread takes.
            return memoryview(b''.join([first, *[queue.popleft() for _ in range(len(queue)) if queue]]))
        batch = [first]
        size = len(first)
        while queue and size + len(queue[0]) <= BATCH:
            size += len(queue[0])
            batch.append(queue.popleft())
        return memoryview(b''.join(batch))

    # -- in the thread ------------------------------------------------------------

    def help(self, now: float) -> float | None:
        """Send what waits here. Returns seconds until the next look, None when nothing waits."""
        if not self._transport.guard.acquire(blocking=False):
            return LOOK  # the hub is just sending
        try:
            if self.closed or self._retired or self._failure is not None or not self.has_unsent:
                return None
            if now - self.heartbeat_clock.sent_at < LOOK:
                return LOOK  # the hub was here just now, and may come again
            if self._transport.encrypts:
                in_a_hurry(self._send_rest)
            else:
                self._send_rest()
            if self._failure is not None:
                return None
            return min(max(LOOK, (now - self.heartbeat_clock.sent_at) * PATIENCE), LONGEST_LOOK)
        finally:
            self._transport.guard.release()

    def attend(self, now: float) -> float:
        """Send a heartbeat that the hub should have sent. Returns seconds until it is to be asked again.

        Where the hub is gone for good it sends none: the broker must not take it to be alive.
        """
        late_in = self.heartbeat_clock.late_in(now)
        if late_in > 0:
            return late_in
        if self.hub_thread() is None:
            send_thread.discard(self)
            return self.heartbeat_clock.interval
        self.hub_watch.look_who()
        if not self._transport.guard.acquire(blocking=False):
            return LOOK
        try:
            return self.heartbeat_clock.interval if self.closed or self._retired else self._beat()
        finally:
            self._transport.guard.release()

    def _beat(self) -> float:
        """What waits here first, else a heartbeat. Returns seconds until there may be more to do."""
        before = self.heartbeat_clock.sent_at
        self._send_rest()
        if self.heartbeat_clock.sent_at == before and not self.has_unsent and self._failure is None:
            self._touched = True
            self._head = memoryview(HEARTBEAT)
            self._aside -= len(HEARTBEAT)
            self._send_rest()
        if self.heartbeat_clock.sent_at == before:
            return self.heartbeat_clock.interval / 8
        return LOOK if self.has_unsent else self.heartbeat_clock.late_in(self.heartbeat_clock.sent_at)

    def _send_rest(self, turn: float = TURN) -> None:
        """Send what is begun and what is queued; of *turn* bytes at once nobody will notice."""
        transport = self._transport
        try:
            while turn > 0 and self._failure is None and self.has_unsent:
                if self._head is None and self._queue:
                    self._head = self._gather()
                head = _NOTHING if self._head is None else self._head
                taken = transport.send_aside(head)
                self._touched = self._went = True
                if taken:
                    self._head = head[taken:] if taken < len(head) else None
                    self._aside += taken
                    self.counts.bytes_out += taken
                self.heartbeat_clock.sent_at = time.monotonic()
                turn -= taken or MOVED
        except BlockingIOError:
            pass  # no room
        except Exception as exc:
            # Whatever it is: how much went out may be unknown, so nothing more may follow.
            self._touched = True
            self._hub_writers.helped = False  # so that the hub comes here at the next occasion
            self._failure = _as_loss(exc)


def _as_loss(exc: Exception) -> OSError:
    if isinstance(exc, OSError):
        return exc.with_traceback(None)
    return OSError(f'{type(exc).__name__} while sending: {exc}')
