"""One socket's life: transport, decoder, writer, reader and heartbeat, bound together.

A connection has one link at a time; everything that dies with the socket is in
it. ``reason`` is None while it lives and the first cause of its end afterwards.
What must not enter: channels and methods; the owner gets decoded events.

Order of teardown, written here and nowhere else: note the reason, close the
writer, close the socket, wake reader and heartbeat, tell the owner.
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

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

__all__ = ('Link',)

# Seconds the reader gets for what the peer sent before it stopped taking.
LAST_WORDS = 1.0

# Turns of the hub that the reader gets for what has arrived. One may not be enough: a hub can
# run its callbacks, and so wake the one who let it run, before it asks for sockets.
TURNS = 4

# Seconds to let the hub run for, where a sleep of 0 may not make it ask for sockets.
TICK = 0.000001

# Seconds between two looks whether a link whose writer has failed has ended.
END_LOOK = 0.002


class Link:
    """Owner of one connected transport. Made, and used, in the thread of its hub.

    owner: has ``on_events(list)``, ``on_protocol_error(error)``, ``on_link_end(reason)``,
    ``must_pause()``, ``on_descriptor(descriptor)``, ``show_events()``, ``check_thread()``,
    ``leave_word(fn)`` and ``stop_hub()``; none may switch greenlets. Held weakly.
    life: of its thread, gives None when that has ended.
    counts: the owner's; bytes are added to it. thread_beats: the sending thread sends
    heartbeats while the hub is held up.
    """

    def __init__(
        self,
        backend: ModuleType,
        transport: TCPTransport,
        decoder: Any,
        owner: Any,
        counts: Counters,
        stall: float | None = None,
        thread_beats: bool = False,
    ) -> None:
        self.green = backend
        self.thread = os_threads.get_ident()
        self.life = os_threads.life_of_this_thread()
        self.hub = backend.hub()
        self.watch = hub_monitor.watch_of(self.hub, backend, self.thread)
        self.transport = transport
        self.decoder = decoder
        self.owner = weakref.ref(owner)
        self.heartbeat_clock = HeartbeatClock(0, time.monotonic())
        self.counts = counts
        self.writer = Writer(backend, transport, self.heartbeat_clock, self.lose_writing, stall, counts, self.life)
        self._thread_beats = thread_beats
        self.reason: Reason | None = None
        self.heard = False  # whether the peer has ever said anything
        self.abandoned = False  # the owner was collected, and close is said in the background
        self.listening = True  # False while the reader does not read on purpose
        self._resume: Any = None
        self._beat: Any = None
        self._last_words: Any = None
        self._reader: Any = None
        self._heartbeat: Any = None
        transport.serve(self)

    # -- starting --------------------------------------------------------------

    def start_reading(self) -> None:
        self._reader = self.green.spawn(reader.run, self)
        process_end.expect_end(self)

    def start_heartbeat(self, interval: float) -> None:
        """interval: seconds, 0 for none. May be called once, after tune."""
        now = time.monotonic()
        self.heartbeat_clock.interval = interval
        self.heartbeat_clock.heard_at = self.heartbeat_clock.sent_at = now
        if self.reason is not None:
            return
        self.watch.join(self, interval)
        if self._thread_beats:
            self.writer.start_beating(self.watch)
        if interval:
            self._heartbeat = self.green.spawn(heartbeat_greenlet.run, self)

    # -- ending ----------------------------------------------------------------

    def lose(self, error: BaseException, hung_up: bool = False) -> None:
        """End because something failed. An error of the system becomes a recoverable connection error.

        hung_up: the peer closed its end, and said nothing.
        """
        if self.reason is not None:
            return
        hung_up = hung_up or isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError))
        if not isinstance(error, exceptions.AMQPError):
            lost = exceptions.RecoverableConnectionError(f'connection lost: {str(error) or type(error).__name__}')
            lost.__cause__ = error
            error = lost
        if error.method_sig is None and isinstance(error, exceptions.RecoverableConnectionError):
            # Nothing that the peer has said: perhaps it heard nothing of us for too long.
            now = time.monotonic()
            error.hint = error.hint or self.watch.block_before(now, self.heartbeat_clock.interval)
            if hung_up and self.heard:
                heartbeat_clock = self.heartbeat_clock
                error.hint = error.hint or idle(
                    heartbeat_clock.silence(now), now - heartbeat_clock.sent_at, heartbeat_clock.interval
                )
        self.end(Reason(error))

    def lose_writing(self, error: BaseException) -> None:
        """A send failed. What the peer said before it hung up tells more than our error, so read that first."""
        if self.listening and self.transport.has_input and not isinstance(error, TimeoutError):
            self.end_after(LAST_WORDS, functools.partial(self.lose, error))
        else:
            self.lose(error)

    def end(self, reason: Reason) -> None:
        """End. The first reason wins, later calls do nothing. Never raises, does not switch."""
        if self.reason is not None:
            return
        self.reason = reason
        if not self.writer.closed:
            self.writer.flush()  # a last close or close-ok, if the kernel takes it
        self.writer.close()
        self.transport.close()
        self.watch.leave(self)
        self._wake_own()
        if self._last_words is not None:
            self._last_words.cancel()
        process_end.alive.discard(self)
        owner = self.owner()
        if owner is not None:
            owner.on_link_end(self, reason)
        else:
            self.transport.retire()

    def end_by_program(self) -> None:
        """The program has closed the socket. Raises WrongThread; does not switch."""
        owner = self.owner()
        if owner is not None:
            owner.check_thread()
        self.lose(exceptions.RecoverableConnectionError('the program closed the socket of this connection'))

    def end_after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call *call*, which ends the link, unless it has ended by then."""
        if self._last_words is None:
            self._last_words = self.green.call_later(seconds, call)

    @property
    def has_unheard(self) -> bool:
        """Whether something has arrived, perhaps the end, that ``hear`` would bring to the reader."""
        return self.reason is None and self.listening and self.transport.has_input and not self._in_hub

    def hear(self) -> None:
        """Let the reader take what has arrived; it may go on arriving, so not for long. Switches."""
        for _ in range(TURNS):
            self.green.sleep(TICK)
            if not self.has_unheard:
                break

    def run_overdue_hub(self) -> None:
        """Let the hub run for a moment if nobody else does. Switches only then."""
        if self.watch.is_overdue(time.monotonic()) and not self._in_hub:
            self.hear()

    def wait_for_end(self) -> None:
        """The writer has failed: wait until the reader, or LAST_WORDS, has ended the link. Switches."""
        while self.reason is None and not self._in_hub:
            self.green.sleep(END_LOOK)

    @property
    def _in_hub(self) -> bool:
        """Whether it is a callback of the hub that runs, which cannot switch."""
        return greenlet.getcurrent() is getattr(self.hub, 'greenlet', self.hub)

    def disown(self, reason: Reason) -> None:
        """In a forked child: socket and hub are its parent's, so touch neither."""
        self.reason = reason
        self.watch.forget()
        # A child has copies of the greenlets of one thread, the one that forked.
        with contextlib.nullcontext() if os_threads.get_ident() == self.thread else green.waking_nobody():
            self.writer.disown()
            self._wake_own()
            owner = self.owner()
            if owner is not None:
                owner.on_link_end(self, reason)

    def _wake_own(self) -> None:
        """Reader and heartbeat see that it has ended, and end."""
        for slot in (self._resume, self._beat):
            if slot is not None:
                slot.succeed()

    # -- for the reader ----------------------------------------------------------

    def must_pause(self) -> bool:
        owner = self.owner()
        return owner is not None and owner.must_pause()

    def pause(self) -> None:
        """Stop reading until ``resume``; the peer's silence proves nothing meanwhile. Switches."""
        # The kernel's receive buffer is left alone: below what it holds, it drops what is
        # under way, and a reply then comes 200 ms later, when the broker has sent all that again.
        self.listening = False
        self.transport.watch_input(False)
        self._resume = green.Slot(self.green)
        try:
            self._resume.wait()
        finally:
            self._resume = None
            self.listening = True
            self.transport.watch_input(True)
            owner = self.owner()
            if owner is not None:
                owner.show_events()  # there is one reason less for the hub to run
            self.heartbeat_clock.heard_at = time.monotonic()

    def resume(self) -> None:
        if self._resume is not None:
            self._resume.succeed()

    @property
    def resuming(self) -> bool:
        """Whether the reader is to read on and has not had its turn of the hub yet."""
        return self._resume is not None and self._resume.done

    def on_descriptor(self, descriptor: Any) -> None:
        """A foreign event loop polls this PollDescriptor from now on."""
        self.watch.polled = True
        self.transport.watch_input(self.listening)
        owner = self.owner()
        if owner is not None:
            owner.on_descriptor(descriptor)

    # -- for the heartbeat ---------------------------------------------------------

    def beat(self) -> None:
        heartbeat_greenlet.beat(self)

    def heartbeat_wait(self, seconds: float) -> None:
        """Sleep, less when the link ends. Switches."""
        self._beat = green.Slot(self.green)
        try:
            if self.reason is None:
                self._beat.wait(seconds)
        finally:
            self._beat = None
