"""The only send of a connection.

Callers hand over complete frame sets and go on; the writer owns the bytes from
then on, so killing or timing out a caller can never leave half a frame behind.
The first set of a hub pass goes to the kernel at once; what follows in the same
pass goes together, when the pass ends or when there is enough of it. What the
kernel does not take waits here and goes out from a hub callback, because a
callback, unlike a greenlet, cannot be killed. What must not enter: frames' meaning.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import green
from ..state.counts import Counts
from ..state.pulse import Pulse
from ..transport import TCPTransport

__all__ = ('HIGH_WATER', 'Writer')

# Bytes sent together at most. One system call costs about as much as copying
# this much, so more brings nothing and makes the hub wait longer.
BATCH = 64 * 1024

# Bytes sent in one go before the hub gets its turn; at memory speed this is
# well below a millisecond.
TURN = 1024 * 1024

# Bytes waiting here above which publishers wait. A multiple of what a kernel
# buffers per socket, so that the socket never runs dry while they wake up.
HIGH_WATER = 4 * 1024 * 1024


class Writer:
    """Queue of complete frame sets in front of one transport.

    on_lost(error): called once when the transport fails, possibly from the hub;
    it must not block. stall: seconds without the kernel taking a byte after
    which the peer counts as lost; None leaves that to the heartbeat. counts: bytes are added to it.
    """

    __slots__ = (
        '_green',
        '_head',
        '_on_lost',
        '_pass_due',
        '_pushing',
        '_queue',
        '_queued',
        '_room',
        '_stall',
        '_stall_timer',
        '_transport',
        '_watching',
        'closed',
        'counts',
        'pulse',
    )

    def __init__(
        self,
        backend: ModuleType,
        transport: TCPTransport,
        pulse: Pulse,
        on_lost: Callable[[BaseException], None],
        stall: float | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._green = backend
        self._transport = transport
        self._on_lost = on_lost
        self._queue: deque[Any] = deque()
        self._head: memoryview | None = None  # rest of a batch the kernel has taken a part of
        self._queued = 0  # bytes in _queue and _head
        self._pass_due = False  # something was sent in this pass of the hub, its end will be told
        self._pushing = False
        self._watching = False  # the kernel's buffer is full, the hub calls us when it is not
        self._room = green.Gate(backend)
        self._stall = stall
        self._stall_timer: Any = None
        self.pulse = pulse
        self.closed = False
        self.counts = counts or Counts()

    @property
    def queued(self) -> int:
        """Bytes handed over and not yet taken by the kernel."""
        return self._queued

    @property
    def full(self) -> bool:
        """Whether a publisher should ``wait_for_room`` first."""
        return self._queued >= HIGH_WATER

    def send(self, frames: Any) -> None:
        """Take over a complete frame set. Never switches, never raises for the socket's sake."""
        if self.closed:
            return
        self._queue.append(frames)
        self._queued += len(frames)
        if self._watching:
            return
        if not self._pass_due:
            self._pass_due = True
            self._green.run_soon(self._end_of_pass)
            self._push()
        elif self._queued >= BATCH:
            self._push()

    def flush(self) -> None:
        """Give the kernel whatever it takes now. Does not switch."""
        if not self._watching:
            self._push()

    def wait_for_room(self, timeout: float | None) -> bool:
        """Wait until the queue is below its limit (or closed), at most *timeout* seconds. Switches."""
        deadline = green.Deadline(timeout)
        while self.full and not self.closed:
            if not self._room.wait(deadline.left()) and self.full and not self.closed:
                return False
        return True

    def wait_until_empty(self, timeout: float | None) -> bool:
        """Wait until the kernel has taken everything, at most *timeout* seconds. Switches."""
        deadline = green.Deadline(timeout)
        self.flush()
        while self.pending and not self.closed:
            if not self._room.wait(deadline.left()) and self.pending and not self.closed:
                return False
        return True

    @property
    def pending(self) -> bool:
        """Whether the kernel has not got everything: some is queued here, or encrypted and not sent."""
        return self._queued > 0 or self._transport.unsent

    def close(self) -> None:
        """Drop what is queued and wake all who wait. Does not switch, never raises."""
        self._unwatch()
        self.disown()

    def disown(self) -> None:
        """``close`` without touching the socket, which is another process's."""
        self.closed = True
        self._queue.clear()
        self._head = None
        self._queued = 0
        self._on_lost = _nothing  # and no reference back to the owner
        self._room.wake_all()

    def leftover(self) -> bytes:
        """What is still queued, for the end of the interpreter."""
        return b''.join(([] if self._head is None else [self._head]) + list(self._queue))

    # -- in the hub, or in the caller without switching ------------------------

    def _end_of_pass(self) -> None:
        self._pass_due = False
        if self._queue and not self._watching and not self.closed:
            self._push()

    def _push(self) -> None:
        if self._pushing:
            return  # for a signal handler, or an object that is collected: what it queued goes out with the rest
        turn = TURN
        try:
            self._pushing = True
            while (self._queued or self._transport.unsent) and turn > 0:
                head = self._head or self._gather()
                self._head = head or None  # nothing is no rest: whoever finds one takes the stream to be inside a frame
                taken = self._transport.send(head)
                self._queued -= taken
                self.counts.bytes_out += taken
                turn -= taken
                self._head = head[taken:] if taken < len(head) else None
                self._progress()
            if self._queued or self._transport.unsent:
                self._watch()
            else:
                self._unwatch()
        except BlockingIOError:
            self._watch()
        except OSError as exc:
            self._lose(exc)
        except BaseException as exc:
            # A signal handler may raise between the system call and our note of
            # it; how much went out is unknown then, so nothing more may follow.
            self._lose(exc)
            raise
        finally:
            self._pushing = False
        if self._room and self._queued < HIGH_WATER // 2:
            self._room.wake_all()

    def _gather(self) -> memoryview:
        """The next batch: one large set alone, or as many small ones as fit."""
        queue = self._queue
        if not queue:
            return memoryview(b'')  # only the transport holds something: a send of nothing moves it
        first = queue.popleft()
        if not queue or len(first) >= BATCH:
            return memoryview(first)
        batch = [first]
        size = len(first)
        while queue and size + len(queue[0]) <= BATCH:
            size += len(queue[0])
            batch.append(queue.popleft())
        return memoryview(b''.join(batch))

    def _lose(self, exc: BaseException) -> None:
        on_lost = self._on_lost
        self.close()
        on_lost(exc)

    # -- the kernel's buffer is full -------------------------------------------

    def _watch(self) -> None:
        if self._watching or self.closed:
            return
        self._watching = True
        self._transport.watch_writable(self._push)
        if self._stall is not None:
            self._stall_timer = self._green.call_later(self._stall, self._stalled)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._transport.unwatch_writable()
            self._cancel_stall()

    def _progress(self) -> None:
        self.pulse.sent_at = time.monotonic()
        if self._stall_timer is not None:
            self._cancel_stall()
            self._stall_timer = self._green.call_later(self._stall, self._stalled)

    def _cancel_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stalled(self) -> None:
        timer = self._stall_timer
        self._push()  # it may be the hub that was late, and no room that was lacking
        if self._stall_timer is not timer:
            return  # there is another one, or none: something went
        self._stall_timer = None
        self._lose(TimeoutError(f'write timeout: the peer took nothing for {self._stall} s'))

    # -- what a writer with a heartbeat thread does, see ``shared_writer`` -------

    def start_beating(self, watch: Any) -> None:
        pass

    def stop_beating(self) -> None:
        pass

    def catch_up(self) -> None:
        pass


def _nothing(error: BaseException) -> None:
    """What a closed writer does about an error."""
