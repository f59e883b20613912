"""The writer, the only code that sends on a connection's socket.

Layer 2. Callers queue complete frame sets and go on. The bytes belong to the writer from then on, so a caller that
is killed or times out never leaves half a frame behind. The first set of a pass of the hub is sent at once. What is
queued later in the same pass is sent together, when the pass ends or when there is enough of it. What the kernel
does not take waits here and is sent from a hub callback, since a callback, unlike a greenlet, cannot be killed.

While the hub is blocked its pass does not end. So while bytes wait here the sending thread looks at
this writer and sends them, see ``send_thread_writer``. Does not belong here: what frames mean.
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
from ..state.unsent_publishes import sets_behind
from ..transport import TCPTransport
from .send_thread import send_thread
from .send_thread_hubs import writers_of
from .send_thread_writer import BATCH, TURN, SendThreadWriter

__all__ = ('HIGH_WATER', 'Writer')

# When nothing was sent for so many seconds, and the pass of the hub has not ended since, the hub is blocked. The next
# set is sent at once then: the end of the pass, and the sending thread, would come later.
BLOCKED_AFTER = 0.005

# Publishers wait while so many bytes are queued here. A multiple of what a kernel buffers per
# socket, so that there is always something to send while the publishers wake up.
HIGH_WATER = 4 * 1024 * 1024


class Writer(SendThreadWriter):
    """Queue of complete frame sets in front of one transport.

    on_lost(error): called once when the transport fails, possibly in the hub; it must not switch greenlets.
    stall: when the kernel takes no byte for so many seconds, the peer counts as lost; None leaves that to the
    heartbeat. counts: the counters to which sent bytes are added. hub_thread: returns None when the hub's thread
    has ended. From then on the sending thread sends no heartbeats for it.
    """

    __slots__ = (
        '_green',
        '_on_lost',
        '_pass_due',
        '_room',
        '_stall',
        '_stall_timer',
        '_unsent',
        '_waits',
        'combines',
        'keeps_unsent',
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
        self._pass_due = False  # _end_of_pass will be called at the end of this pass of the hub
        self._room = green.Gate(backend)
        self._waits = 0  # greenlets that wait there, or are about to: a number, since each send asks for it
        self._stall = stall
        self._stall_timer: Any = None
        self._unsent: list[Any] = []
        #: Whether acks may be combined, see ``replace_last``: the connection's *combine_acks*.
        self.combines = False
        #: Whether ``take_unsent`` will be called at the end.
        self.keeps_unsent = False

    @property
    def queued(self) -> int:
        """How many bytes are queued that the kernel has not taken."""
        return max(0, self.load - self._sent_by_thread)

    @property
    def full(self) -> bool:
        """Whether a publisher should ``wait_for_room`` first."""
        return self.load >= HIGH_WATER

    def send(self, frames: Any) -> None:
        """Queue a complete frame set, or send it at once. Does not switch, raises no error of the socket."""
        if self.closed:
            return
        # Append first: a set is in the queue before anything can look at the load.
        self._queue.append(frames)
        queued = self.load = self.load + len(frames)
        if self._pass_due:
            # Not the first set of this pass: it waits for the end of the pass, or until a whole batch is queued.
            if queued >= BATCH and not self._watching:
                self._push(frames)
            elif not self._hub_writers.helped:
                self._get_help(frames)
        elif self._watching:
            # The kernel has no room. The hub calls _push when it has.
            if not self._hub_writers.helped:
                self._get_help(frames)
        else:
            # The first set of this pass is sent at once: a single publish does not wait for the end of the pass.
            self._pass_due = True
            self._green.run_soon(self._end_of_pass)
            self._push(frames)

    def replace_last(self, last: bytes, frames: bytes) -> bool:
        """Put a frame set into the place of *last*, which has the same size, if that is the last one in the queue.

        Returns False if it is not there any more, or others stand behind it. Does not switch.
        """
        queue = self._queue
        # The sending thread may take sets out of the queue, from the front, at any moment: if it takes this one after
        # the first line, the queue is empty in the second. Only this thread adds any, and nothing is called between.
        try:
            if queue[-1] is not last:
                return False
            queue[-1] = frames
        except IndexError:
            return False
        return True

    def flush(self) -> None:
        """Send as much as the kernel takes now. Does not switch."""
        if not self._watching:
            self._push()

    def wait_for_room(self, timeout: float | None) -> bool:
        """Wait until the queue is below HIGH_WATER or the writer closed. False after *timeout* seconds. Switches."""
        deadline = green.Deadline(timeout)
        # Else a publisher could wait for room that there is already.
        if self._touched:
            self._push()  # the sending thread may have made room, which only this call notes
        while self.full and not self.closed:
            if not self._wait_at_room(deadline) and self.full and not self.closed:
                return False
        return True

    def _wait_at_room(self, deadline: green.Deadline) -> bool:
        self._waits += 1
        try:
            return self._room.wait(deadline.left())
        finally:
            self._waits -= 1

    def wait_until_empty(self, timeout: float | None) -> bool:
        """Wait until the kernel has taken everything or the writer is closed. False after *timeout* seconds.

        Switches.
        """
        deadline = green.Deadline(timeout)
        self.flush()
        while self.pending and not self.closed:
            if not self._wait_at_room(deadline) and self.pending and not self.closed:
                return False
        return True

    @property
    def pending(self) -> bool:
        """Whether bytes are queued here, or are encrypted in the transport and not sent."""
        return self.queued > 0 or self._transport.unsent

    def close(self) -> None:
        """Drop what is queued and wake all that wait for room. Does not switch, never raises."""
        # Under the guard, so that the sending thread is not in the middle of a send.
        with self._transport.guard:
            self._unwatch()
            self.disown()
        self._hub_writers.discard(self)
        send_thread.discard(self)

    def disown(self) -> None:
        """``close`` without touching the socket, which is used by another process, or no more."""
        self.closed = True
        if self.keeps_unsent:
            self._keep_unsent(not self._pushing)
        self._queue.clear()
        self._head = None
        self.load = self._sent_by_thread = 0
        self._touched = False
        self._failure = None  # its traceback would keep the objects of its stack frames alive
        self._on_lost = _nothing  # the old one refers to the link: without it there is no reference cycle
        self._room.wake_all()

    def leftover(self) -> bytes:
        """The bytes that are queued, for the end of the interpreter."""
        return b''.join(([] if self._head is None else [self._head]) + list(self._queue))

    def take_unsent(self) -> list[Any]:
        """The frame sets of which no byte had been sent when the writer was closed, oldest first. Only once.

        Those of ``send`` calls that have returned. May leave out some, the oldest ones, where it is not known. Empty
        without *keeps_unsent*.
        """
        unsent, self._unsent = self._unsent, []
        return unsent

    def _keep_unsent(self, exact: bool) -> None:
        """exact: it is known how much of _head the transport has taken, and that is what the peer may get."""
        self.keeps_unsent = False
        head = self._head if exact and not self._transport.encrypts else None
        self._unsent = [*([] if head is None else sets_behind(head)), *self._queue]

    # -- in the hub, or in the caller without switching ------------------------

    def _end_of_pass(self) -> None:
        self._pass_due = False
        # First of all, since _push below may raise in a signal handler.
        self._hub_writers.turns += 1  # the sending thread sees by this that the hub is not blocked
        if self.load and not self._watching and not self.closed:
            self._push()

    def _push(self, just_queued: Any = None) -> None:
        """just_queued: the set that ``send`` is about; its caller learns that it was not sent."""
        with self._transport.guard:
            if self._pushing:
                return  # called by a signal handler or the garbage collector inside the loop below, which sends it all
            transport, queue, turn = self._transport, self._queue, TURN
            encrypts = transport.encrypts  # only then it may have bytes that it has not sent
            try:
                self._pushing = True
                if self._touched:
                    self._note_help()
                # At most TURN bytes, then other greenlets run; _watch has the hub call this method again.
                rest: Any = queue or self._head is not None or (encrypts and transport.unsent)
                while rest and turn > 0:
                    head = self._head
                    if head is None:
                        # Mostly there is one set, hence without a call.
                        head = memoryview(queue.popleft()) if len(queue) == 1 else self._gather()
                    self._head = head or None  # never empty: a _head means that the stream may stand inside a frame
                    taken = transport.send(head)
                    self.load -= taken
                    self.counts.bytes_out += taken
                    turn -= taken
                    self._head = head[taken:] if taken < len(head) else None
                    self.heartbeat_clock.sent_at = time.monotonic()
                    if self._stall_timer is not None:
                        self._restart_stall_timer()
                    rest = queue or self._head is not None or (encrypts and transport.unsent)
                if rest:
                    self._watch()
                elif self._watching:
                    self._unwatch()
            except BlockingIOError:
                self._watch()
            except OSError as exc:
                self._lose(exc, just_queued)
            except BaseException as exc:
                # A signal handler may raise between the system call and the lines that note how many bytes it took.
                # That number is unknown then, so nothing more may be sent on this socket.
                self._lose(exc, just_queued)
                raise
            finally:
                self._pushing = False
        # At half of the limit, not at each byte below it: publishers then wake up rarely, and many at a time.
        if self._waits and self.load < HIGH_WATER // 2:
            self._room.wake_all()

    def _lose(self, exc: BaseException, just_queued: Any = None) -> None:
        if self.keeps_unsent:
            # Another error may be a signal handler's, raised when the kernel had taken something.
            self._keep_unsent(isinstance(exc, ConnectionError))
            if just_queued is not None and self._unsent and self._unsent[-1] == just_queued:
                self._unsent.pop()
        on_lost = self._on_lost  # close() replaces it
        self.close()
        on_lost(exc)

    # -- the kernel's buffer is full -------------------------------------------

    def _watch(self) -> None:
        if self._watching or self.closed:
            return
        self._watching = True  # before the next lines, which may call _push, and that this method
        self._transport.watch_writable(self._push)
        if not self._hub_writers.helped:
            self._get_help(None)
        if self._stall is not None:
            self._stall_timer = self._green.call_later(self._stall, self._stalled)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._transport.unwatch_writable()
            self._cancel_stall()

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
        self._push()  # perhaps there was room, and only the hub was late
        if self._stall_timer is not timer:
            return  # the kernel took something: the timer was replaced, or needed no more
        self._stall_timer = None
        self._lose(TimeoutError(f'write timeout: the peer took nothing for {in_seconds(self._stall)}'))

    # -- the sending thread -------------------------------------------------------

    def _get_help(self, just_queued: Any) -> None:
        """Bytes stay queued. Send them now if the hub is blocked, else have the sending thread watch for that."""
        if not self._watching and time.monotonic() - self.heartbeat_clock.sent_at > BLOCKED_AFTER:
            self._push(just_queued)
            return
        if self._failure is None:
            try:
                self._hub_writers.begin_help(not self._watching)
                return
            except RuntimeError:
                pass  # no thread can be started: send each set at once
        self._push(just_queued)

    def catch_up(self) -> None:
        """Note what the sending thread has sent, and send the rest of what it began. Does not switch."""
        if self._touched or (not self._watching and (self._head is not None or self._transport.unsent)):
            self._push()

    def _note_help(self) -> None:
        """Subtract what the sending thread has sent from the load. Raises the error that the thread has got."""
        self.load -= self._sent_by_thread
        if self._went:
            self._restart_stall_timer()
        self._sent_by_thread = 0
        self._touched = self._went = False
        if self._failure is not None:
            raise self._failure


def _nothing(error: BaseException) -> None:
    """The on_lost of a closed writer."""
