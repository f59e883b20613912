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

__all__ = ('LOOK', 'UnfinishedHandlers')

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
        # Set by drain, and set back by the next connect(); it ends with the socket whose consumers it has cancelled.
        self.draining = False
        # An entry leaves when its greenlet comes out of drain. Without it two callbacks that drain would each wait
        # for the other one to return.
        self.in_drain: dict[Any, int] = {}
        # An inbox enters at its end if it is busy, and leaves in retire(), so the set is empty most of the time.
        # Inbox asks for that before it calls.
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
        # In any case: each greenlet that waits asks its own condition.
        self._events.wake_finishing()

    def wait_until(self, link: Any, condition: Callable[[], bool], deadline: green.Deadline) -> bool:
        """Wait until *condition*, which handlers change when they end, is true. Returns whether it is. Switches.

        link: the one on which the caller began. Raises what a callback raises, and why the link ended.
        """
        events = self._events
        # Before the condition is asked: a handler that ends from here on wakes this greenlet.
        events.finish_awaited += 1
        try:
            # Asked again after each wake, since other greenlets are woken by the same gate.
            while not condition():
                if deadline.passed:
                    return False
                # Switches. In callbacks of the program: the connection may be closed there, or opened again.
                if not self._hand_out_all(link, deadline):
                    left = deadline.left()
                    # Switches. LOOK bounds it, since a greenlet that is killed ends without a call of ours.
                    events.finished.wait(LOOK if left is None else min(left, LOOK))
                # Of the caller's link: if another one is open by now, what the caller has waited for is gone all the
                # same.
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
            # The loop ends: the broker has the cancel, so soon no more messages of this consumer arrive.
            while events.has_some_of(consumer):
                self._check_open(link)
                # Runs what came before, of other consumers, too: the order of arrival holds. The second question is
                # for a message that turned out to be void.
                if not self._others_drain and (events.run_event(notices=False) or not events.has_some_of(consumer)):
                    # Callbacks that never wait must not keep the hub: heartbeats and the reader run in its turns.
                    if self._flow.turn_overdue():
                        self._flow.let_others_run()
                # The other greenlet is in a callback for long. The messages stay for the next drain_events.
                elif deadline.passed:
                    return
                else:
                    # Switches. Woken by each callback that returns, and by messages that come while nobody drains.
                    events.finished.wait(min(deadline.left() or 0.0, LOOK))
            if link.reason is not None and not link.reason.clean:
                self._check_open(link)  # the loss has taken away what was here
        finally:
            events.finish_awaited -= 1

    def _hand_out_all(self, link: Any, deadline: green.Deadline) -> bool:
        """Run the callbacks of deliveries that no other greenlet comes for. Returns whether there was one. Switches."""
        # All of it before each event: while a callback here waits another greenlet may enter drain_events, and then
        # that one takes the rest.
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
        # A callback that has called drain counts in handlers_running and in in_drain. It comes back to drain_events
        # only after drain, so it takes nothing meanwhile.
        return events.drainers_idle + events.handlers_running > sum(self.in_drain.values())

    def _check_open(self, link: Any) -> None:
        owner = self._owner()
        assert owner is not None  # it is in use
        owner._check_open(link)
