"""The only send of a connection.

Callers hand over complete frame sets and go on; the writer owns the bytes from
then on, so killing or timing out a caller can never leave half a frame behind.
The first set of a hub pass goes to the kernel at once; what follows in the same
pass goes together, when the pass ends or when there is enough of it. What the
kernel does not take waits here and goes out from a hub callback, because a
callback, unlike a greenlet, cannot be killed.

A hub that gets no turn ends no pass. So while something waits here the sending
thread looks here and sends it, see ``writer_thread_side``. What must not enter: frames' meaning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import green
from ..state.counters import Counters
from ..state.durations import in_seconds
from ..state.heartbeat import HeartbeatClock
from ..transport import TCPTransport
from .hub_writers import writers_of
from .send_thread import send_thread
from .writer_thread_side import BATCH, TURN, WriterThreadSide

__all__ = ('HIGH_WATER', 'Writer')

# Seconds without a send in a pass of the hub after which the next set goes to the kernel at
# once: the hub is held up, and its end of the pass, or the thread, would only come later.
HELD_UP = 0.005

# Bytes waiting here above which publishers wait. A multiple of what a kernel
# buffers per socket, so that the socket never runs dry while they wake up.
HIGH_WATER = 4 * 1024 * 1024


class Writer(WriterThreadSide):
    """Queue of complete frame sets in front of one transport.

    on_lost(error): called once when the transport fails, possibly from the hub;
    it must not block. stall: seconds without the kernel taking a byte after
    which the peer counts as lost; None leaves that to the heartbeat. counts: bytes are added to it.
    hub_thread: alive (not None when called) as long as the hub's thread is. A hub
    that is gone for good must not look alive to the broker.
    """

    __slots__ = (
        '_green',
        '_on_lost',
        '_pass_due',
        '_room',
        '_stall',
        '_stall_timer',
    )

    def __init__(
        self,
        backend: ModuleType,
        transport: TCPTransport,
        heartbeat_clock: HeartbeatClock,
        on_lost: Callable[[BaseException], None],
        stall: float | None = None,
        counts: Counters | None = None,
        hub_thread: Callable[[], Any] = object,
    ) -> None:
        super().__init__(transport, heartbeat_clock, counts or Counters(), hub_thread, writers_of(backend.hub()))
        self._green = backend
        self._on_lost = on_lost
        self._pass_due = False  # something was sent in this pass of the hub, its end will be told
        self._room = green.Gate(backend)
        self._stall = stall
        self._stall_timer: Any = None

    @property
    def queued(self) -> int:
        """Bytes handed over and not yet taken by the kernel."""
        return max(0, self.load - self._aside)

    @property
    def full(self) -> bool:
        """Whether a publisher should ``wait_for_room`` first."""
        return self.load >= HIGH_WATER

    def send(self, frames: Any) -> None:
        """Take over a complete frame set. Never switches, never raises for the socket's sake."""
        if self.closed:
            return
        self._queue.append(frames)
        queued = self.load = self.load + len(frames)
        if self._pass_due:
            if queued >= BATCH and not self._watching:
                self._push()
            elif not self._hub_writers.helped:
                self._get_help()
        elif self._watching:
            if not self._hub_writers.helped:
                self._get_help()
        else:
            self._pass_due = True
            self._green.run_soon(self._end_of_pass)
            self._push()

    def flush(self) -> None:
        """Give the kernel whatever it takes now. Does not switch."""
        if not self._watching:
            self._push()

    def wait_for_room(self, timeout: float | None) -> bool:
        """Wait until the queue is below its limit (or closed), at most *timeout* seconds. Switches."""
        deadline = green.Deadline(timeout)
        if self._touched:
            self._push()
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
        return self.queued > 0 or self._transport.unsent

    def close(self) -> None:
        """Drop what is queued and wake all who wait. Does not switch, never raises."""
        with self._transport.guard:
            self._unwatch()
            self.disown()
        self._hub_writers.discard(self)
        send_thread.discard(self)

    def disown(self) -> None:
        """``close`` without touching the socket, which is another process's."""
        self.closed = True
        self._queue.clear()
        self._head = None
        self.load = self._aside = 0
        self._touched = False
        self._failure = None  # it refers to the frames it came through
        self._on_lost = _nothing  # and no reference back to the owner
        self._room.wake_all()

    def leftover(self) -> bytes:
        """What is still queued, for the end of the interpreter."""
        return b''.join(([] if self._head is None else [self._head]) + list(self._queue))

    # -- in the hub, or in the caller without switching ------------------------

    def _end_of_pass(self) -> None:
        self._pass_due = False
        self._hub_writers.turns += 1
        if self.load and not self._watching and not self.closed:
            self._push()

    def _push(self) -> None:
        with self._transport.guard:
            if self._pushing:
                return  # for a signal handler, or an object that is collected: what it queued goes out with the rest
            transport, turn = self._transport, TURN
            try:
                self._pushing = True
                if self._touched:
                    self._note_help()
                while turn > 0 and (self._queue or self._head is not None or transport.unsent):
                    head = self._head or self._gather()
                    self._head = head or None  # nothing is no rest: a rest means that the stream is inside a frame
                    taken = transport.send(head)
                    self.load -= taken
                    self.counts.bytes_out += taken
                    turn -= taken
                    self._head = head[taken:] if taken < len(head) else None
                    self._progress()
                if self._queue or self._head is not None or transport.unsent:
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
        if self._room and self.load < HIGH_WATER // 2:
            self._room.wake_all()

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
        if not self._hub_writers.helped:
            self._get_help()
        if self._stall is not None:
            self._stall_timer = self._green.call_later(self._stall, self._stalled)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._transport.unwatch_writable()
            self._cancel_stall()

    def _progress(self) -> None:
        self.heartbeat_clock.sent_at = time.monotonic()
        self._restart_stall_timer()

    def _restart_stall_timer(self) -> None:
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
        self._lose(TimeoutError(f'write timeout: the peer took nothing for {in_seconds(self._stall)}'))

    # -- the sending thread -------------------------------------------------------

    def _get_help(self) -> None:
        """Something stays here: should the hub get no turn, the thread is to send it."""
        if not self._watching and time.monotonic() - self.heartbeat_clock.sent_at > HELD_UP:
            self._push()
            return
        if self._failure is None:
            try:
                self._hub_writers.begin_help(not self._watching)
                return
            except RuntimeError:
                pass  # no thread can be started: send each set by itself
        self._push()

    def catch_up(self) -> None:
        """After the thread was at work: note it, and send the rest of what it began."""
        if self._touched or (not self._watching and (self._head is not None or self._transport.unsent)):
            self._push()

    def _note_help(self) -> None:
        """Count what the thread has sent. Raises what it has met."""
        self.load -= self._aside
        if self._went:
            self._restart_stall_timer()
        self._aside = 0
        self._touched = self._went = False
        if self._failure is not None:
            raise self._failure


def _nothing(error: BaseException) -> None:
    """What a closed writer does about an error."""
