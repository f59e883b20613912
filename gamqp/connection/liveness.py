"""Is the peer still there? Heartbeats as the program sees them, and the read timeout.

Layer 4, a base class of Connection, without state. The heartbeat greenlet (``io.heartbeat_greenlet``) sends
heartbeats and finds a silent peer by itself; the methods here let a program ask and call as py-amqp does.
Does not belong here: the arithmetic of heartbeats (``state.heartbeat``).
"""

from __future__ import annotations

import time
from typing import Any

from .. import green
from ..green.os_threads import get_ident
from ..io import heartbeat_greenlet
from ..state.argument_checks import number
from .dispatch import Dispatch
from .read_timeout import silence

__all__ = ('BLOCKED_TIMEOUT', 'LAST_CLOSE_TIMEOUT', 'Liveness')

# Seconds that a close or cancel waits for the answer of a blocked broker, unless its caller says how long.
BLOCKED_TIMEOUT = 3.0

# Seconds that a close gets at least when what was before it has used up the time of both: acks
# that the broker has not handled when its client hangs up are lost.
LAST_CLOSE_TIMEOUT = 0.5

# Seconds between two looks at a reader that has input and has not come to it yet.
LOOK = 0.01

# Seconds that a call, whose time is up, waits for the reason when its connection has ended: thousands of greenlets get
# it in turns of the hub.
LAST_TURNS = 10.0


class Liveness(Dispatch):
    """What a connection knows of its peer's life."""

    heartbeat: int | None
    read_timeout: float | None

    def is_alive(self) -> bool:
        """Whether the connection can be expected to work. Does not switch, does not ask the broker.

        True only if it is open, the broker was heard within two heartbeat
        intervals (where there are heartbeats), and the socket has neither failed
        nor been closed by the peer.
        """
        # The cheap questions first; the last one is a system call.
        return self._usable_link() and not heartbeat_greenlet.is_dead(self._link) and self._link.transport.is_sound

    def _usable_link(self) -> bool:
        # Both: the link has its reason some steps before the state of the connection changes.
        return self._link is not None and self._link.reason is None and self.is_open

    def heartbeat_tick(self, rate: float = 2) -> None:
        """Send a heartbeat if nothing was sent for interval / rate seconds. Switches only when the hub is overdue.

        Not needed in programs of gevent or eventlet: the connection beats by itself,
        and to call it regularly, as py-amqp asked for, does no harm. In a program
        whose event loop is another one, where the hub runs only inside our calls, it
        lets the hub run for a moment, and so the reader and all that waits there.
        rate: 0 and less count as 2. Raises ConnectionForced when nothing was heard for two
        intervals, and why the connection ended.
        """
        number('rate', rate)
        self._check_open()
        # Kept: the hub may run below, and others may close the connection there or open it again.
        link = self._link
        link.run_overdue_hub()
        # The reader may have run, and have found the end of this link.
        self._check_open(link)
        # None were agreed on in tune, so silence says nothing about the broker.
        if not self.heartbeat:
            return
        # It loses the link when the broker is dead. The line below then raises that.
        heartbeat_greenlet.check(link)
        self._check_open()
        interval = self.heartbeat / (rate if rate > 0 else 2)
        # Any byte counts as a heartbeat, so in a busy connection nothing is sent.
        if time.monotonic() - link.heartbeat_clock.sent_at >= interval:
            link.beat()

    def send_heartbeat(self) -> None:
        """Send a heartbeat frame now. Not needed: the connection does so by itself. Does not switch."""
        self._check_open()
        self._link.beat()

    @property
    def last_heartbeat_sent(self) -> float:
        """When something, heartbeat or not, was sent last: seconds of time.monotonic(), 0 before connecting."""
        return 0 if self._link is None else self._link.heartbeat_clock.sent_at

    @property
    def last_heartbeat_received(self) -> float:
        """When something, heartbeat or not, was received last: seconds of time.monotonic(), 0 before connecting."""
        return 0 if self._link is None else self._link.heartbeat_clock.heard_at

    def _wait_for(self, slot: Any, timeout: float | None) -> bool:
        """``slot.wait(timeout)`` for a reply or a confirm, under the read timeout. Switches.

        Meanwhile the connection is read on, even if the budget is spent. When
        nothing at all was received for read_timeout seconds, the connection is lost;
        then the slot has the reason.
        """
        # First, since the reader may be resumed below: another thread must not touch that.
        if get_ident() != self._affinity.thread:
            self._affinity.check()
        # Of the connection that was asked. When this greenlet wakes, another one may have opened it again.
        link, backpressure = self._link, self._backpressure
        # As wait_begins and wait_ends, without two calls for each confirm.
        backpressure.waits += 1
        try:
            if not backpressure.link.listening:
                backpressure.link.resume()
            # Without a read timeout one wait is enough; else there are several looks at the clock.
            if self.read_timeout is None:
                return bool(slot.wait(timeout)) or self._late_look(slot, link)
            return self._wait_hearing(slot, green.Deadline(timeout), self.read_timeout)
        finally:
            backpressure.waits -= 1

    def _wait_for_close(self, slot: Any, timeout: float) -> bool:
        """``_wait_for`` the answer to a close or cancel: less long where the broker takes no messages. Switches.

        Then it does not read either, and no answer can come.
        """
        # Two waits, since the broker may block, or say so, only while the first lasts.
        if self._wait_for(slot, min(timeout, BLOCKED_TIMEOUT)):
            return True
        return timeout > BLOCKED_TIMEOUT and not self.is_blocked and self._wait_for(slot, timeout - BLOCKED_TIMEOUT)

    def _wait_hearing(self, slot: Any, deadline: green.Deadline, read_timeout: float) -> bool:
        link, begun = self._link, time.monotonic()
        while not slot.done and not deadline.passed:
            # From the last byte, but not from before this wait: an idle connection would be lost at once. heard_at
            # also moves when a reader that had stopped is resumed.
            patience = max(begun, link.heartbeat_clock.heard_at) + read_timeout - time.monotonic()
            # A reader that has stopped hears nothing, and one that is late has not heard yet. Neither is the broker's
            # fault.
            if patience <= 0 and link.listening and not link.transport.has_input:
                link.lose(silence(read_timeout))  # of which those that wait learn in turns of the hub
            left = deadline.left()
            # Switches. At least LOOK: where patience is over and the reader is late this would be a loop without a
            # pause.
            slot.wait(max(patience, LOOK) if left is None else min(left, max(patience, LOOK)))
        return bool(slot.done) or self._late_look(slot, link)

    def _late_look(self, slot: Any, link: Any) -> bool:
        """Time is up; but if it was the hub that was late, what we wait for may be here and unread. Switches."""
        if link.reason is not None:  # the slot gets the reason in one of the next turns of the hub
            return bool(slot.wait(LAST_TURNS))
        # Once and for a moment: bytes are there, but nobody knows whether they are the reply.
        return link.listening and link.transport.has_input and bool(slot.wait(LOOK))
