"""drain_events: py-amqp's way to get what has arrived.

Layer 4, a base class of Connection, without state. Does not belong here: the events that wait (``event_queue``).
"""

from __future__ import annotations

from .. import green
from ..green.os_threads import get_ident
from .recovering import Recovering

__all__ = ('DrainEvents',)


class DrainEvents(Recovering):
    """What kombu and Celery call in their loops."""

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one event and run its callback here: a delivery, a return, a confirm, a cancel.

        timeout: total seconds, None for ever, 0 for only what is there already.
        Any call is legal inside a callback. Several greenlets may drain at the
        same time; each event goes to one of them. Raises socket.timeout
        (TimeoutError) when nothing came, a ChannelError that belongs to no other
        caller, or that has ended the consumers with a callback meanwhile,
        ConsumerCancelled, and why the connection ended. Switches greenlets.
        """
        if get_ident() != self._affinity.thread:
            self._affinity.check()
        events, flow = self._event_queue, self._flow_control
        if flow.until_look > 1:
            flow.until_look -= 1
        elif flow.turn_overdue():
            events.idle(flow.let_others_run)
        if events.run_event():
            return
        deadline = green.Deadline(timeout)
        while True:
            late = deadline.passed
            events.wait(deadline.left())
            if events.run_event():
                return
            if late:  # others may come first time and again
                raise TimeoutError('timed out')

    def blocking_read(self, timeout: float | None = None) -> bool:
        """``drain_events``, by another name of py-amqp's. Returns True: an event was handled."""
        self.drain_events(timeout)
        return True
