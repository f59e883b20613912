"""What the sending thread does with a writer: it sends what is queued there, and heartbeats.

Layer 2, the base of ``Writer``. Hub and thread both send, one at a time: each holds the transport's guard from
the system call until it has noted how many bytes were taken. Between two sends the guard is free. ``_head`` and
``unsent`` then tell whether the kernel has got only a part of a frame; whoever sends next sends the rest first.

Only the hub changes ``load``, the count of queued bytes. The thread notes what it sends in ``_sent_by_thread``,
and the hub subtracts that when it sends next. The thread stores an error in ``_failure``, and the hub raises it.
Does not belong here: hubs, greenlets and waiting.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..state.counters import Counters
from ..state.heartbeat import HeartbeatClock
from ..transport import TCPTransport
from ..wire import HEARTBEAT
from .send_thread import LOOK, send_thread, with_short_switch_interval
from .send_thread_hubs import HubWriters

if TYPE_CHECKING:
    from .hub_monitor import HubMonitor

__all__ = ('BATCH', 'TURN', 'SendThreadWriter')

# Bytes that are joined for one system call, at most. The call costs about as much as copying so many
# bytes: joining more would save nothing, and make the hub wait longer.
BATCH = 64 * 1024

# Bytes that are sent before other greenlets get to run. At the speed of memory this takes well below a millisecond.
TURN = 1024 * 1024
ALL = float('inf')

# Where the kernel takes nothing, the thread looks again after this share of the time for which that has
# lasted, and after LONGEST_LOOK seconds at most.
LOOK_SHARE = 0.25
LONGEST_LOOK = 1.0

# Bytes that count as sent where the transport sends what it has encrypted before: about a chunk of TLS.
MOVED = 64 * 1024

_NOTHING = memoryview(b'')


class SendThreadWriter:
    """The part of a writer that the sending thread may use.

    hub_thread: returns None when the hub's thread has ended.
    """

    __slots__ = (
        '__weakref__',
        '_failure',
        '_head',
        '_hub_writers',
        '_pushing',
        '_queue',
        '_retired',
        '_sent_by_thread',
        '_touched',
        '_transport',
        '_watching',
        '_went',
        'closed',
        'counts',
        'heartbeat_clock',
        'hub_monitor',
        'hub_thread',
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
        self.load = 0  # bytes in _queue and _head, and those in _sent_by_thread
        self._head: memoryview | None = None  # the rest of a batch of which the kernel has taken a part
        self._pushing = False  # the hub's thread is sending
        self._touched = False  # the thread has set one of the next three, and the hub has not noted it
        self._went = False  # the kernel has taken bytes from the thread, perhaps only some that were encrypted before
        self._sent_by_thread = 0  # bytes that the thread has sent, less those of heartbeats that it has queued itself
        self._failure: OSError | None = None  # the error that the thread has got
        self._watching = False  # the kernel's buffer is full, and the hub calls _push when it has room
        self._retired = False
        self.heartbeat_clock = heartbeat_clock
        self.counts = counts
        self.closed = False
        self.hub_monitor: HubMonitor | None = None
        self.hub_thread = hub_thread
        self._hub_writers = hub_writers
        hub_writers.add(self)

    def start_beating(self, monitor: HubMonitor) -> None:
        """Have the sending thread send heartbeats when the hub is late. monitor: of the hub. Does not switch."""
        self.hub_monitor = monitor
        if self.heartbeat_clock.interval and not self.closed:
            monitor.has_thread = True
            send_thread.add(self)

    def retire(self) -> None:
        """Have the sending thread send nothing more. Blocks while it is sending."""
        # Under the guard, so that the thread is not in the middle of a send when this returns.
        with self._transport.guard:
            self._retired = True
        send_thread.discard(self)

    def send_without_hub(self) -> None:
        """Send as much as the kernel takes now, without the hub. May be called in any thread. Does not switch."""
        with self._transport.guard:
            # _pushing: a signal handler, or the garbage collector, has come here in the middle of _push,
            # which sends the rest.
            if not (self.closed or self._retired or self._pushing):
                self._send_rest(ALL)

    @property
    def may_hold(self) -> bool:
        """False if ``has_unsent`` is certainly False; costs less than that."""
        return bool(self._queue) or self._head is not None or self._watching or self._touched

    @property
    def has_unsent(self) -> bool:
        """Whether any bytes are to be sent."""
        return bool(self._queue) or self._head is not None or self._transport.unsent

    def _gather(self) -> memoryview:
        """Take the next batch from the queue: one large frame set alone, or as many small ones as fit into BATCH.

        If less than two batches are queued it is everything: a small rest would cost a system call of its own.
        """
        queue = self._queue
        if not queue:
            return memoryview(b'')  # only the transport has bytes; it sends them when it is given an empty batch
        first = queue.popleft()
        if not queue or len(first) >= BATCH:
            return memoryview(first)
        if self.load < 2 * BATCH:
            # Only as many as there are now: the hub may add more while the thread takes them.
            return memoryview(b''.join([first, *[queue.popleft() for _ in range(len(queue)) if queue]]))
        batch = [first]
        size = len(first)
        while queue and size + len(queue[0]) <= BATCH:
            size += len(queue[0])
            batch.append(queue.popleft())
        return memoryview(b''.join(batch))

    # -- in the thread ------------------------------------------------------------

    def help(self, now: float) -> float | None:
        """Send what is queued. Returns seconds until the next look, None when nothing is queued."""
        if not self._transport.guard.acquire(blocking=False):
            return LOOK  # the hub is sending at this moment
        try:
            if self.closed or self._retired or self._failure is not None or not self.has_unsent:
                return None
            if now - self.heartbeat_clock.sent_at < LOOK:
                return LOOK  # the hub was sending just now, so it is probably not blocked
            if self._transport.encrypts:
                with_short_switch_interval(self._send_rest)
            else:
                self._send_rest()
            if self._failure is not None:
                return None
            return min(max(LOOK, (now - self.heartbeat_clock.sent_at) * LOOK_SHARE), LONGEST_LOOK)
        finally:
            self._transport.guard.release()

    def send_overdue_heartbeat(self, now: float) -> float:
        """Send a heartbeat that the hub should have sent. Returns seconds until this is to be called again.

        If the hub's thread has ended none is sent: the broker must notice that this connection is dead.
        """
        late_in = self.heartbeat_clock.late_in(now)
        if late_in > 0:
            return late_in
        # A connection whose thread has ended will never be read again, and must not look alive to the broker.
        if self.hub_thread() is None:
            send_thread.discard(self)
            return self.heartbeat_clock.interval
        if self.hub_monitor is not None:
            self.hub_monitor.look_who()
        if not self._transport.guard.acquire(blocking=False):
            return LOOK
        try:
            return self.heartbeat_clock.interval if self.closed or self._retired else self._beat()
        finally:
            self._transport.guard.release()

    def _beat(self) -> float:
        """Send what is queued, or a heartbeat if nothing is. Returns seconds until there may be more to do."""
        before = self.heartbeat_clock.sent_at
        self._send_rest()
        if self.heartbeat_clock.sent_at == before and not self.has_unsent and self._failure is None:
            self._touched = True
            self._head = memoryview(HEARTBEAT)
            self._sent_by_thread -= len(HEARTBEAT)
            self._send_rest()
        if self.heartbeat_clock.sent_at == before:
            return self.heartbeat_clock.interval / 8
        return LOOK if self.has_unsent else self.heartbeat_clock.late_in(self.heartbeat_clock.sent_at)

    def _send_rest(self, turn: float = TURN) -> None:
        """Send the rest of what was begun, then what is queued, until about *turn* bytes are sent."""
        transport = self._transport
        try:
            while turn > 0 and self._failure is None and self.has_unsent:
                if self._head is None and self._queue:
                    self._head = self._gather()
                head = _NOTHING if self._head is None else self._head
                taken = transport.send_without_hub(head)
                self._touched = self._went = True
                if taken:
                    self._head = head[taken:] if taken < len(head) else None
                    self._sent_by_thread += taken
                    self.counts.bytes_out += taken
                self.heartbeat_clock.sent_at = time.monotonic()
                turn -= taken or MOVED
        except BlockingIOError:
            pass  # the kernel has no room
        except Exception as exc:
            # How many bytes were sent may be unknown, so nothing more may be sent, whatever the error is.
            self._touched = True
            self._hub_writers.helped = False  # so that the hub calls _get_help, and sees the error, at its next send
            self._failure = _as_loss(exc)


def _as_loss(exc: Exception) -> OSError:
    if isinstance(exc, OSError):
        return exc.with_traceback(None)
    return OSError(f'{type(exc).__name__} while sending: {exc}')
