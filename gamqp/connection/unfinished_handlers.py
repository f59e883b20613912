"""Who waits until handlers and callbacks have finished: ``Connection.drain``, and basic_cancel for one consumer.

Layer 4. While they wait they hand out deliveries themselves, as drain_events would, unless another greenlet is
in drain_events to do it. Does not belong here: the steps of a graceful end (``shutdown``), and the queue.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from .. import exceptions, green
from ..consuming.inbox import Inbox
from ..state.consumers import ConsumerRecord
from .event_queue import EventQueue
from .flow_control import FlowControl
from .owner_protocols import OpenOwner

__all__ = ('UnfinishedHandlers',)

# Seconds between two looks at whether handlers and loops have finished: a greenlet that dies wakes nobody here.
LOOK = 0.5


class UnfinishedHandlers:
    """Of one connection.

    owner: the connection. Held weakly.
    draining: whether ``drain`` was called: no consumer may be started any more.
    in_drain: greenlets in ``drain``, and how many callbacks of drain_events each is in.
    retiring: inboxes that have ended while the program works on their last messages.
    """

    __slots__ = ('_events', '_flow', '_owner', 'draining', 'in_drain', 'retiring')

    def __init__(self, owner: OpenOwner, events: EventQueue, flow: FlowControl) -> None:
        self._owner = weakref.ref(owner)
        self._events = events
        self._flow = flow
        self.draining = False
        self.in_drain: dict[Any, int] = {}
        self.retiring: set[Inbox] = set()

    def check_taking(self) -> None:
        """Raise if no consumer may be started any more."""
        if self.draining:
            raise exceptions.RecoverableConnectionError('the connection is being drained: no new consumers')

    def retire(self, inbox: Inbox) -> None:
        """The last message of an inbox that has ended may have been handled."""
        if not inbox.busy and inbox in self.retiring:
            self.retiring.discard(inbox)
            # Only now: while the program works on a message it may still ack it.
            inbox.close_books()
        self._events.wake_finishing()

    def wait_until(self, link: Any, condition: Callable[[], bool], deadline: green.Deadline) -> bool:
        """Wait until *condition*, which handlers change when they end, is true. Returns whether it is. Switches.

        link: the one on which the caller began. Raises what a callback raises, and why the link ended.
        """
        events = self._events
        events.finish_awaited += 1
        try:
            while not condition():
                if deadline.passed:
                    return False
                if not self._hand_out_all(link, deadline):
                    left = deadline.left()
                    events.finished.wait(LOOK if left is None else min(left, LOOK))
                self._check_open(link)
        finally:
            events.finish_awaited -= 1
        return True

    def hand_out(self, link: Any, consumer: ConsumerRecord, patience: float) -> None:
        """Run the callbacks of what is here for *consumer*, and of what came before it. Switches.

        Where another greenlet is in drain_events, that runs them; it is waited for *patience* seconds.
        link: as for ``wait_until``. Raises what a callback raises, and why the link was lost.
        """
        events, deadline = self._events, green.Deadline(patience)
        events.finish_awaited += 1
        try:
            while events.has_some_of(consumer):
                self._check_open(link)
                if not self._others_drain and (events.run_event(notices=False) or not events.has_some_of(consumer)):
                    if self._flow.turn_overdue():
                        self._flow.let_others_run()
                elif deadline.passed:
                    return
                else:
                    events.finished.wait(min(deadline.left() or 0.0, LOOK))
            if link.reason is not None and not link.reason.clean:
                self._check_open(link)  # the loss has taken away what was here
        finally:
            events.finish_awaited -= 1

    def _hand_out_all(self, link: Any, deadline: green.Deadline) -> bool:
        """Run the callbacks of deliveries that no other greenlet comes for. Returns whether there was one. Switches."""
        did, events = False, self._events
        while (
            link.reason is None and not deadline.passed and not self._others_drain and events.run_event(notices=False)
        ):
            did = True
            if self._flow.turn_overdue():
                self._flow.let_others_run()
        return did

    @property
    def _others_drain(self) -> bool:
        """Whether a greenlet is in drain_events, and not in ``drain`` by a callback there: it may come for the next."""
        events = self._events
        return events.drainers_idle + events.handlers_running > sum(self.in_drain.values())

    def _check_open(self, link: Any) -> None:
        owner = self._owner()
        assert owner is not None  # it is in use
        owner._check_open(link)
