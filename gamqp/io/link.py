"""One connected socket with its transport, decoder, writer, reader greenlet and heartbeat greenlet.

Layer 2. A connection has one link at a time; everything that ends with the socket is in it. ``reason``
is None while the link is open and the first cause of its end afterwards. Does not belong here: channels
and methods; the owner gets decoded events.

The order of an end, which is written in ``Link.end`` only: store the reason, close the writer, close the
socket, wake the reader and the heartbeat greenlet, call the owner's ``_on_link_end``.
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import greenlet

from .. import exceptions, green
from ..green import os_threads
from ..state.counters import Counters
from ..state.error_hints import idle
from ..state.heartbeat import HeartbeatClock
from ..state.lifecycle import Reason
from ..transport import TCPTransport
from . import heartbeat_greenlet, hub_monitor, process_end, reader
from .writer import Writer

if TYPE_CHECKING:
    from ..transport import PollDescriptor
    from ..wire import Decoder

    class LinkAffinity(Protocol):
        """The thread that a connection belongs to. None of these may switch greenlets."""

        def check(self) -> None: ...

        def call_later(self, fn: Callable[[], object]) -> None: ...

        def stop_hub(self) -> None: ...

    class LinkBackpressure(Protocol):
        """When the reader has to stop. Does not switch."""

        def must_pause(self) -> bool: ...

    class LinkOwner(Protocol):
        """What a link needs of its connection. None of these may switch greenlets."""

        @property
        def _affinity(self) -> LinkAffinity: ...

        @property
        def _backpressure(self) -> LinkBackpressure: ...

        def _on_events(self, events: list[Any]) -> None: ...

        def _on_protocol_error(self, error: exceptions.AMQPError) -> None: ...

        def _on_link_end(self, link: Link, reason: Reason) -> None: ...

        def _on_descriptor(self, descriptor: PollDescriptor) -> None: ...

        def _show_events(self) -> None: ...


__all__ = ('Link',)

# Seconds that the reader gets, after a send has failed, to read what the peer sent before it hung up.
READ_AFTER_FAILED_SEND = 1.0

# Passes of the hub that the reader gets to read what has arrived. One pass may not be enough: a hub can run its
# callbacks, and so wake the greenlet that let it run, before it asks the system for ready sockets.
TURNS = 4

# Seconds of a sleep that lets the hub run. A sleep of 0 may not make the hub ask for ready sockets.
TICK = 0.000001

# Seconds between two checks whether a link has ended that another greenlet, the reader or a timer ends.
END_LOOK = 0.002


class Link:
    """Owner of one connected transport. Made and used in the thread of its hub.

    owner: the connection, see ``LinkOwner``; held weakly. counts: the owner's counters, to which the bytes
    are added. stall: as for ``Writer``. thread_beats: the sending thread sends heartbeats while the hub is blocked.
    life: returns None when the thread of the hub has ended.
    """

    def __init__(
        self,
        backend: ModuleType,
        transport: TCPTransport,
        decoder: Decoder,
        owner: LinkOwner,
        counts: Counters,
        stall: float | None = None,
        thread_beats: bool = False,
    ) -> None:
        self.green = backend
        self.thread = os_threads.get_ident()
        self.life = os_threads.life_of_this_thread()
        self.hub = backend.hub()
        self.hub_monitor = hub_monitor.monitor_of(self.hub, backend, self.thread)
        self.transport = transport
        self.decoder = decoder
        # Weak, since the greenlets below hold the link: else a connection that the program drops would never
        # be collected.
        self.owner: Callable[[], LinkOwner | None] = weakref.ref(owner)
        self.heartbeat_clock = HeartbeatClock(0, time.monotonic())
        self.counts = counts
        self.writer = Writer(backend, transport, self.heartbeat_clock, self.lose_writing, stall, counts, self.life)
        self._thread_beats = thread_beats
        self.reason: Reason | None = None
        self.heard = False  # whether any byte of the peer has arrived
        self.abandoned = False  # the owner was garbage-collected, and connection.close was sent for it
        self.batch = green.Batch(backend)  # of the reader
        self.listening = True  # False while the reader pauses because too much is undelivered
        self._resume_slot: green.Slot | None = None  # the paused reader waits here
        self._heartbeat_slot: green.Slot | None = None  # the heartbeat greenlet waits here
        self._end_timer: Any = None  # of ``end_after``
        # Held, since a greenlet that nobody holds may be collected while it waits.
        self._reader: Any = None
        self._heartbeat: Any = None
        transport.serve(self)

    # -- starting --------------------------------------------------------------

    def start_reading(self) -> None:
        """Start the reader greenlet. Does not switch."""
        self._reader = self.green.spawn(reader.run, self)
        process_end.expect_end(self)

    def start_heartbeat(self, interval: float) -> None:
        """Start heartbeats, as tune has settled them. interval: seconds, 0 for none. To be called once.

        Does not switch.
        """
        now = time.monotonic()
        self.heartbeat_clock.interval = interval
        self.heartbeat_clock.heard_at = self.heartbeat_clock.sent_at = now
        if self.reason is not None:
            return  # the link ended during the handshake, and nothing would end these again
        self.hub_monitor.join(self, interval)
        # Only now, since the interval was not known before tune.
        if self._thread_beats:
            self.writer.start_beating(self.hub_monitor)
        if interval:
            self._heartbeat = self.green.spawn(heartbeat_greenlet.run, self)

    # -- ending ----------------------------------------------------------------

    def lose(self, error: BaseException, hung_up: bool = False) -> None:
        """End because something failed. Does not switch, never raises.

        An error that is no AMQPError becomes the cause of a RecoverableConnectionError. hung_up: the peer closed
        the socket without connection.close.
        """
        if self.reason is not None:
            return
        hung_up = hung_up or isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError))
        if not isinstance(error, exceptions.AMQPError):
            lost = exceptions.RecoverableConnectionError(f'connection lost: {str(error) or type(error).__name__}')
            lost.__cause__ = error
            error = lost
        if error.method_sig is None and isinstance(error, exceptions.RecoverableConnectionError):
            # The peer gave no reason. Perhaps it closed the socket because it got no heartbeats.
            now = time.monotonic()
            error.hint = error.hint or self.hub_monitor.block_before(now, self.heartbeat_clock.interval)
            if hung_up and self.heard:
                heartbeat_clock = self.heartbeat_clock
                error.hint = error.hint or idle(
                    heartbeat_clock.silence(now), now - heartbeat_clock.sent_at, heartbeat_clock.interval
                )
        self.end(Reason(error))

    def lose_writing(self, error: BaseException) -> None:
        """A send failed. Let the reader read what the peer sent before: a connection.close tells more than the error.

        Does not switch.
        """
        # After a timeout the peer has not hung up, so nothing that it sent explains the error.
        if self.listening and self.transport.has_input and not isinstance(error, TimeoutError):
            self.end_after(READ_AFTER_FAILED_SEND, functools.partial(self.lose, error))
        else:
            self.lose(error)

    def end(self, reason: Reason) -> None:
        """End the link for this reason. Later calls do nothing: the first reason counts.

        Never raises, does not switch.
        """
        if self.reason is not None:
            return
        # Before everything else: code that runs during the steps below checks it, and may call ``end`` again.
        self.reason = reason
        # A writer that has failed is closed already, and its socket takes nothing more.
        if not self.writer.closed:
            self.writer.flush()  # perhaps a close or close-ok is queued, and the kernel has room for it
        # The writer before the socket, so that nothing sends on a closed descriptor.
        self.writer.close()
        self.transport.close()
        self.hub_monitor.leave(self)
        self._wake_own()
        self.batch.timers.end(os_threads.get_ident() == self.thread)
        if self._end_timer is not None:
            self._end_timer.cancel()
        process_end.alive.discard(self)
        # At last, since the owner wakes greenlets of the program, which must find everything closed.
        owner = self.owner()
        if owner is not None:
            owner._on_link_end(self, reason)
            self.writer.take_unsent()  # whoever wanted it has it
        else:
            self.transport.retire()

    def end_by_program(self) -> None:
        """The program called ``close`` of the socket it sees. Raises WrongThread; does not switch."""
        owner = self.owner()
        if owner is not None:
            owner._affinity.check()
        self.lose(exceptions.RecoverableConnectionError('the program closed the socket of this connection'))

    def end_after(self, seconds: float, call: Callable[[], None]) -> None:
        """In *seconds*, call *call*, which must end the link; not if it has ended by then.

        Only the first call counts.
        """
        if self._end_timer is None:
            self._end_timer = self.green.call_later(seconds, call)

    @property
    def has_unread_input(self) -> bool:
        """Whether bytes, or the end of the stream, have arrived that ``let_reader_run`` would let the reader read."""
        return self.reason is None and self.listening and self.transport.has_input and not self._in_hub

    def let_reader_run(self) -> None:
        """Let the reader read what has arrived, for a few passes of the hub at most, since more may go on arriving.

        Switches.
        """
        for _ in range(TURNS):
            self.green.sleep(TICK)
            if not self.has_unread_input:
                break

    def run_overdue_hub(self) -> None:
        """Let the hub run for a moment if it has been blocked for longer than its monitor's pause.

        Switches only then.
        """
        if self.hub_monitor.is_overdue(time.monotonic()) and not self._in_hub:
            self.let_reader_run()

    def wait_for_end(self) -> None:
        """If a send has failed, wait until the reader or the timer of ``lose_writing`` has ended the link. Switches."""
        while self.writer.closed and self.reason is None and not self._in_hub:
            self.green.sleep(END_LOOK)

    def wait_until_ended(self, deadline: green.Deadline) -> bool:
        """Wait for whoever ends it. Returns False if the deadline comes first. Switches, except in the hub itself."""
        while self.reason is None and not self._in_hub:
            if deadline.passed:
                return False
            self.green.sleep(END_LOOK)
        return True

    @property
    def _in_hub(self) -> bool:
        """Whether a callback of the hub is running, which cannot switch greenlets."""
        return greenlet.getcurrent() is getattr(self.hub, 'greenlet', self.hub)

    def disown(self, reason: Reason) -> None:
        """In a forked child: end without touching socket and hub, which are the parent's. Does not switch."""
        self.reason = reason
        self.hub_monitor.forget()
        self.batch.timers.end(os_threads.get_ident() == self.thread)  # those of the child's copy of the hub
        # The child has copies of the greenlets of the thread that forked. Those of other threads do not exist in it,
        # and must not be woken.
        with contextlib.nullcontext() if os_threads.get_ident() == self.thread else green.waking_nobody():
            self.writer.disown()
            self._wake_own()
            owner = self.owner()
            if owner is not None:
                owner._on_link_end(self, reason)

    def _wake_own(self) -> None:
        """Wake the reader and the heartbeat greenlet, which then find the reason and end."""
        for slot in (self._resume_slot, self._heartbeat_slot):
            if slot is not None:
                slot.succeed()

    # -- for the reader ----------------------------------------------------------

    def must_pause(self) -> bool:
        owner = self.owner()
        return owner is not None and owner._backpressure.must_pause()

    def pause(self) -> None:
        """Make the reader wait until ``resume``. Meanwhile nothing is read, so silence of the peer means nothing.

        Switches.
        """
        # The kernel's receive buffer is not made smaller: if it were smaller than what it holds, the kernel would drop
        # packets that are on their way. The broker sends those again 200 ms later, and a reply would come that late.
        self.listening = False
        self.transport.watch_input(False)
        slot = self._resume_slot = green.Slot(self.green)
        # Switches. The reader may be killed here; the attributes are set back in any case.
        try:
            slot.wait()
        finally:
            self._resume_slot = None
            self.listening = True
            self.transport.watch_input(True)
            owner = self.owner()
            if owner is not None:
                owner._show_events()  # a poll descriptor was readable because the reader had to resume
            # The two intervals of silence after which the peer counts as dead begin anew.
            self.heartbeat_clock.heard_at = time.monotonic()

    def resume(self) -> None:
        """Have a paused reader go on. Does not switch."""
        # The slot is settled and not removed: ``resuming`` shows until the reader has run.
        if self._resume_slot is not None:
            self._resume_slot.succeed()

    @property
    def resuming(self) -> bool:
        """Whether a paused reader was resumed and has not run yet."""
        return self._resume_slot is not None and self._resume_slot.done

    def on_descriptor(self, descriptor: PollDescriptor) -> None:
        """An event loop of the program polls this descriptor from now on. Does not switch."""
        # Such a program runs the hub only inside of our calls, so a hub that is late is no fault there.
        self.hub_monitor.polled = True
        self.transport.watch_input(self.listening)
        owner = self.owner()
        if owner is not None:
            owner._on_descriptor(descriptor)

    # -- for the heartbeat ---------------------------------------------------------

    def beat(self) -> None:
        """Send a heartbeat now, see ``heartbeat_greenlet.beat``. Does not switch."""
        heartbeat_greenlet.beat(self)

    def heartbeat_wait(self, seconds: float) -> None:
        """Sleep for so many seconds, or until the link ends. Switches."""
        slot = self._heartbeat_slot = green.Slot(self.green)
        try:
            # Checked when the slot is in place: from here on ``end`` wakes it, before that it could not.
            if self.reason is None:
                slot.wait(seconds)
        finally:
            self._heartbeat_slot = None
