"""The events of a connection that wait for drain_events: deliveries to callbacks, and notices.

Layer 4, a base class of Connection. The messages of each consumer wait in a queue of their own
(``WaitingMessages``); the queue of events has one entry for each event, in order of arrival: the Waiting
whose turn it is, or a notice. So what is undelivered of one consumer can be taken away without a
walk over the others. The entries that stay behind are void: they are passed over, and removed when
there are many. Does not belong here: what a delivery means, and when the socket is read.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

from .. import green
from ..consuming.overflow import Overflow
from ..green.yielding import AT_ONCE, TICK, in_turns
from ..state.confirms import Ending
from ..state.consumers import ConsumerRecord
from ..state.receive_budget import ReceiveBudget
from ..telemetry import tracing
from .flow_control import FlowControl

__all__ = ('EventQueue',)

# Seconds between two looks at whether handlers and loops have finished.
QUIET_LOOK = 0.5

# Seconds that drain_events(timeout=0) waits for input that is known to be there.
POLL = 0.01


class WaitingMessages(deque[Any]):
    """Undelivered messages of one consumer."""

    __slots__ = ('consumer',)

    consumer: ConsumerRecord


class EventQueue:
    """What a connection knows of its undelivered events, and of the greenlets that come for them."""

    green: Any
    link: Any
    tracing: Any
    overflow: Overflow | None
    budget: ReceiveBudget
    crowded: bool
    descriptor: Any
    flow_control: FlowControl

    def __init__(self) -> None:
        super().__init__()
        self.draining = False
        self.in_drain: dict[Any, int] = {}  # greenlets in ``drain``, and how many callbacks of drain_events each is in
        self.handlers_running = 0  # callbacks inside drain_events
        self.doubtful = False  # whether a channel is, see Channel._is_void
        self.retiring: set[Any] = set()  # intakes that have ended while the program works on their last messages
        self._drainers: Any = None
        self._drainers_idle = 0  # greenlets in drain_events that run no callback: they wait, or let others run
        self._quiet: Any = None  # where greenlets wait for callbacks and handlers to finish
        self._quiet_awaited = 0  # how many do
        self.endings: list[Ending] = []  # of channels whose publishers are being told
        self._walks: list[Iterator[None]] | None = None  # what the end of the connection has still to walk over
        self._forget_events()

    def _forget_events(self) -> None:
        self._waiting: dict[ConsumerRecord, WaitingMessages] = {}  # of those that have messages
        self._events: deque[Any] = deque()  # of Waiting, and of notices
        self._older: deque[Any] = deque()  # entries before those, left by a removal of void ones
        self._notices = 0  # how many entries are notices
        self._void = 0  # how many are of a Waiting that has fewer messages than entries
        self._unswept = 0  # entries that a removal of void ones has still to look at

    def _begin_events(self, backend: ModuleType) -> None:
        """For a new socket."""
        self._forget_events()
        self.draining = False
        self._drainers = green.Gate(backend)
        self._quiet = green.Gate(backend)

    @property
    def drains(self) -> bool:
        """Whether a greenlet is in drain_events and runs no callback."""
        return self._drainers_idle > 0

    def check_drainable(self) -> None:
        raise NotImplementedError

    def check_open(self) -> None:
        raise NotImplementedError

    def show_events(self) -> None:
        raise NotImplementedError

    def freed(self) -> None:
        raise NotImplementedError

    # -- from the reader --------------------------------------------------------------

    def on_delivery(self, consumer: ConsumerRecord, message: Any) -> None:
        budget = self.budget  # as Budget.take, without another call for each message
        budget.messages += 1
        budget.bytes += message.weight
        try:
            waiting = self._waiting[consumer]
        except KeyError:
            waiting = self._waiting[consumer] = WaitingMessages()
            waiting.consumer = consumer
        waiting.append(message)
        self._events.append(waiting)

    def on_notice(self, notice: Callable[[], bool]) -> None:
        """Have drain_events call *notice*, which returns whether it did anything."""
        self._notices += 1
        self._events.append(notice)
        self._drainers.wake()
        self.show_events()

    def wake_drainers(self) -> None:
        """There are events."""
        if self.descriptor is not None:
            self.show_events()
        if self._drainers and self._events:
            self._drainers.wake(len(self._events))
        elif self._events:
            self.wake_quiet()  # ``drain`` and ``basic_cancel`` hand out what nobody else comes for

    # -- drain_events ----------------------------------------------------------------------

    def wait_for_event(self, timeout: float | None) -> None:
        """Wait until there is an event. Raises TimeoutError, and why the connection ended. Switches."""
        self.check_drainable()
        self._drainers_idle += 1
        try:
            self._wait_for_event(timeout)
        finally:
            self._drainers_idle -= 1

    def _wait_for_event(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            timeout = POLL if self.overflow is not None or self.link.transport.has_input else 0
            self.green.sleep(0)
        deadline = green.Deadline(timeout)
        while not (self._events or self._older):
            self.check_drainable()
            if not self._drainers.wait(deadline.left()) and not (self._events or self._older):
                self.check_drainable()
                self.show_events()
                raise TimeoutError('timed out')

    def let_others_run_as_drainer(self) -> None:
        """``let_others_run`` in drain_events. Switches."""
        self._drainers_idle += 1
        try:
            self.flow_control.let_others_run()
        finally:
            self._drainers_idle -= 1

    def _turn_as_drainer(self) -> None:
        """A turn of the hub, sockets and timers included. Switches."""
        self._drainers_idle += 1
        try:
            self.green.sleep(TICK)
        finally:
            self._drainers_idle -= 1

    def run_event(self, notices: bool = True) -> bool:
        """Take the oldest event that is still good for anything and run its callback in this greenlet. Switches.

        notices: False for deliveries only; notices before them are put behind them.
        Returns False if there was none.
        """
        passed_over = 0
        while events := self._older or self._events:
            if not (notices or self._has_deliveries):
                return False
            event = events.popleft()
            if type(event) is WaitingMessages:
                if not event:
                    self._void -= 1
                    passed_over += 1
                    if not passed_over % AT_ONCE:
                        self._turn_as_drainer()
                    continue
                message = event.popleft()
                consumer = event.consumer
                if not event:
                    del self._waiting[consumer]
                budget = self.budget  # as Budget.give_back
                budget.messages -= 1
                budget.bytes -= message.weight
                if self.crowded:
                    self.freed()
                if self.doubtful and message.channel._doubtful and message.channel._is_void(consumer, message):
                    passed_over += 1
                    if not passed_over % AT_ONCE:
                        self._turn_as_drainer()
                    continue
            elif notices:
                self._notices -= 1
                consumer = None
            else:
                self._events.append(event)
                continue
            if self.descriptor is not None:
                self.show_events()
            self.handlers_running += 1
            try:
                if consumer is None:
                    if not event():  # pyright: ignore[reportCallIssue]  # without a consumer it is a notice
                        continue  # another call came first
                else:
                    assert consumer.callback is not None  # one without is not queued
                    if tracing.installed:
                        self.run_handler(consumer.callback, message)
                    else:
                        consumer.callback(message)
            finally:
                self.handlers_running -= 1
                if self._quiet_awaited:
                    self._quiet.wake_all()
            return True
        return False

    def run_handler(self, handler: Callable[[Any], Any], message: Any) -> None:
        """Call the program's handler or callback of a message."""
        if tracing.installed and self.tracing is not None:
            self.tracing.process(self, message, handler)
        else:
            handler(message)

    @property
    def undelivered(self) -> bool:
        """Whether a delivery waits for drain_events."""
        return self._has_deliveries or (self.overflow is not None and self.overflow.concerns_callbacks)

    @property
    def has_events(self) -> bool:
        """Whether drain_events has something to hand out that is here already."""
        return len(self._events) + len(self._older) > self._void

    @property
    def _has_deliveries(self) -> bool:
        return len(self._events) + len(self._older) > self._void + self._notices

    # -- drain and basic_cancel ----------------------------------------------------------------------------

    def wait_for_quiet(self, condition: Callable[[], bool], deadline: green.Deadline) -> bool:
        """Wait until *condition*, which handlers change when they end, is true. Returns whether it is. Switches.

        Meanwhile it hands out deliveries as drain_events would, unless another greenlet is there to do it.
        """
        self._quiet_awaited += 1
        try:
            while not condition():
                if deadline.passed:
                    return False
                if not self._hand_out(deadline):
                    left = deadline.left()
                    # Looked at now and then, too: nobody tells that a greenlet has died.
                    self._quiet.wait(QUIET_LOOK if left is None else min(left, QUIET_LOOK))
                self.check_open()
        finally:
            self._quiet_awaited -= 1
        return True

    def hand_out(self, consumer: ConsumerRecord, patience: float) -> None:
        """Run the callbacks of what is here for *consumer*, and of what came before it. Switches.

        Where another greenlet is in drain_events, that runs them; it is waited for *patience* seconds.
        Raises what a callback raises, and why the connection ended.
        """
        deadline = green.Deadline(patience)
        self._quiet_awaited += 1
        try:
            while self._has_some_of(consumer):
                self.check_open()
                if not self._others_drain and (self.run_event(notices=False) or not self._has_some_of(consumer)):
                    if self.flow_control.turn_overdue():
                        self.flow_control.let_others_run()
                elif deadline.passed:
                    return
                else:
                    self._quiet.wait(min(deadline.left() or 0.0, QUIET_LOOK))
        finally:
            self._quiet_awaited -= 1

    def _has_some_of(self, consumer: ConsumerRecord) -> bool:
        return consumer in self._waiting or (self.overflow is not None and self.overflow.of(consumer) > 0)

    def callbacks_around(self) -> int:
        """How many callbacks of drain_events this greenlet is in. Looked up here, so that callbacks pay nothing for it.

        Does not switch.
        """
        count = 0
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is EventQueue.run_event.__code__ and frame.f_locals.get('self') is self:
                count += 1
            frame = frame.f_back
        return count

    def _hand_out(self, deadline: green.Deadline) -> bool:
        """Run the callbacks of deliveries that no other greenlet comes for. Returns whether there was one. Switches."""
        did = False
        while not deadline.passed and not self._others_drain and self.run_event(notices=False):
            did = True
            if self.flow_control.turn_overdue():
                self.flow_control.let_others_run()
        return did

    @property
    def _others_drain(self) -> bool:
        """Whether a greenlet is in drain_events, and not in ``drain`` by a callback there: it may come for the next."""
        return self._drainers_idle + self.handlers_running > sum(self.in_drain.values())

    def retire(self, inbox: Any) -> None:
        """The last message of an ended intake may have been handled."""
        if not inbox.busy and inbox in self.retiring:
            self.retiring.discard(inbox)
            inbox.close_books()
        self.wake_quiet()

    def wake_quiet(self) -> None:
        """Something that drain may wait for has ended."""
        if self._quiet_awaited:
            self._quiet.wake_all()

    def waiting_deliveries(self) -> Iterator[tuple[int, str, int]]:
        """(channel number, consumer tag, messages) of each consumer that has some here."""
        for consumer, waiting in list(self._waiting.items()):
            if waiting:
                yield waiting[0].channel_id, consumer.tag, len(waiting)

    # -- deliveries that nobody will get ------------------------------------------------------

    def forget_deliveries(self, channel: Any, consumers: list[ConsumerRecord]) -> None:
        """The broker takes them back, and these consumers have ended: drop what they have here. Does not switch.

        From now on they are void by themselves (``Channel._is_void``); the room is freed little by little.
        """
        if self.overflow is not None:
            self.overflow.forget_channel(channel)
        self.walk(self._drop_all(consumers))

    def walk(self, work: Iterator[None]) -> None:
        """``in_turns``; at the end of the connection, which has one for each channel, as one walk. Does not switch."""
        if self._walks is None:
            in_turns(self.green, work)
        else:
            self._walks.append(work)

    def _drop_all(self, consumers: list[ConsumerRecord]) -> Iterator[None]:
        for consumer in consumers:
            if consumer.inbox is None:
                consumer.discard = True
                if consumer in self._waiting:
                    yield from self._drop(self._take_away(consumer))
            elif not consumer.inbox.over:  # else what came with no_ack can still be had
                consumer.discard = True
                yield from consumer.inbox.take_all()
            yield

    def forget_unsettled(self, channel: Any, consumers: list[ConsumerRecord]) -> None:
        """The same for those that await an ack, of consumers that go on."""
        if self.overflow is not None:
            self.overflow.forget_channel(channel, all_of_callbacks=False)
        in_turns(self.green, self._drop_void(channel, consumers))

    def _drop_void(self, channel: Any, consumers: list[ConsumerRecord]) -> Iterator[None]:
        budget = self.budget
        for consumer in consumers:
            if consumer.inbox is not None:
                yield from consumer.inbox.drop_void()
            while waiting := self._waiting.get(consumer):
                if budget is not self.budget or not channel._is_void(consumer, waiting[0]):
                    break
                message = waiting.popleft()
                self._void += 1
                if not waiting:
                    del self._waiting[consumer]
                self._free(budget, message)
                yield
            yield
        self._sweep_if_due()
        self.show_events()

    def withdraw(self, consumer: ConsumerRecord) -> None:
        """Give back to the queue what is undelivered of this consumer. Does not switch."""
        if consumer in self._waiting:
            work = self._drop if consumer.no_ack else self._give_back
            in_turns(self.green, work(self._take_away(consumer), consumer.of_stream))
        if self.overflow is not None:
            self.overflow.withdraw(consumer)

    def _take_away(self, consumer: ConsumerRecord) -> deque[Any]:
        """The messages of a consumer; their entries in the queue are void."""
        waiting = self._waiting.pop(consumer)
        messages = deque(waiting)
        waiting.clear()
        self._void += len(messages)
        self._sweep_if_due()
        self.show_events()
        return messages

    def _drop(self, messages: deque[Any], of_stream: bool = False) -> Iterator[None]:
        budget = self.budget
        while messages and budget is self.budget:  # else the connection has ended, and a new budget begun
            self._free(budget, messages.popleft())
            yield

    def _give_back(self, messages: deque[Any], of_stream: bool) -> Iterator[None]:
        budget = self.budget
        while messages and budget is self.budget:
            message = messages.popleft()
            message.channel._give_back_known(message, of_stream)
            self._free(budget, message)
            yield

    def _free(self, budget: ReceiveBudget, message: Any) -> None:
        budget.give_back(message.weight)
        if self.crowded:
            self.freed()

    # -- void entries ------------------------------------------------------------------------

    def _sweep_if_due(self) -> None:
        """Remove void entries, if most are: there would be more and more of them where nobody drains."""
        if not self._unswept and self._void > AT_ONCE and 2 * self._void > len(self._events) + len(self._older):
            self._older.extend(self._events)
            self._events, self._older = self._older, deque()
            self._unswept = len(self._events)
            in_turns(self.green, self._sweep())

    def _sweep(self) -> Iterator[None]:
        """What is kept goes to ``_older``, where drain_events looks first."""
        while self._unswept and self._events:
            self._unswept -= 1
            event = self._events.popleft()
            if type(event) is WaitingMessages and not event:
                self._void -= 1
            else:
                self._older.append(event)
            yield
        self._unswept = 0
        self._sweep_if_due()
