"""The events of a connection that wait for drain_events: deliveries to callbacks, and notices.

Layer 4. The reader puts events in, and greenlets in drain_events take them out. Does not belong here: how what is
undelivered is kept (``event_entries``), what a delivery means, when the socket is read, and who waits until handlers
have finished.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import repeat
from types import ModuleType
from typing import Any

from greenlet import getcurrent

from .. import green
from ..basic_message import Message
from ..consuming.owner_protocols import ConsumerChannel
from ..green.yielding import AT_ONCE, TICK, in_turns
from ..state.consumers import ConsumerRecord
from ..telemetry import tracing
from ..transport import PollDescriptor
from .event_entries import EventEntries, WaitingMessages
from .owner_protocols import DrainedOwner
from .receive_backpressure import ReceiveBackpressure
from .work_in_turns import WorkInTurns

__all__ = ('EventQueue',)

# Seconds that drain_events(timeout=0) waits for input that is known to be there.
POLL = 0.01


class EventQueue(EventEntries):
    """The undelivered events of one connection, and the greenlets that come for them.

    owner: the connection. Held weakly.
    descriptor: None as long as no other event loop polls the connection.
    doubtful: whether a channel has messages here that may be void, see ``VoidDeliveries``.
    drainers_idle: greenlets in drain_events that run no callback: they wait, or let others run.
    finish_awaited: greenlets that wait, in ``finished``, for callbacks and handlers to finish.
    loss_unraised: the connection was lost while it had callback consumers, and no drain_events has raised that yet.
    """

    def __init__(self, owner: DrainedOwner, backpressure: ReceiveBackpressure, walks: WorkInTurns) -> None:
        super().__init__(backpressure)
        self._owner = weakref.ref(owner)
        self._walks = walks
        # The present link, and after the end the last one; None until a socket is there. Set by Dispatch._use_link.
        self.link: Any = None
        # These two are what show() goes by. descriptor is set when the program first asks for sock.fileno(), and None
        # again as soon as the program knows of the end; both change together in forget_loss.
        self.descriptor: PollDescriptor | None = None
        self.loss_unraised = False
        # Set by a connection that recovers: who waits in drain_events then waits through a loss.
        self.outlives_link = False
        # Set by the first channel that closes, is told to recover or settles with multiple, and never reset: from
        # then on each message is looked up before it is handed out. Until then it costs a message one comparison.
        self.doubtful = False
        self._drainers: Any = None  # where greenlets in drain_events wait
        # A greenlet that goes from waiting to its callback leaves this number and enters handlers_running without a
        # switch between. One that drains inside a callback is in both.
        self.drainers_idle = 0
        self._handler: Any = None  # a greenlet that is in a callback of drain_events
        self._more_handlers: list[Any] = []  # the others, each as often as it is in one
        self.finished: Any = None
        # As long as it is 0 the end of a callback wakes nobody, which is the usual case.
        self.finish_awaited = 0

    def begin(self, backend: ModuleType) -> None:
        """For a new socket, whose ``link`` is set as soon as there is one."""
        super().begin(backend)
        self.link = None
        # New ones: greenlets that waited at the old ones are woken by the end of the connection, in turns of the hub.
        self._drainers = green.Gate(backend)
        self.finished = green.Gate(backend)

    def wake_all(self) -> list[Iterator[None]]:
        """The connection has ended. Returns what wakes everybody who waits here, a step for each."""
        return [gate.wake_each() for gate in (self._drainers, self.finished) if gate is not None]

    # -- from the reader --------------------------------------------------------------

    def on_delivery(self, consumer: ConsumerRecord, message: Message) -> None:
        """A message has arrived for a consumer with a callback."""
        budget = self._backpressure.budget  # as ReceiveBudget.take, without another call for each message
        budget.messages += 1
        budget.bytes += message._weight
        # A consumer has an entry as long as messages wait, so under load the lookup succeeds. A test first would cost
        # each message.
        try:
            waiting = self._waiting[consumer]
        except KeyError:
            waiting = self._waiting[consumer] = WaitingMessages()
            waiting.consumer, waiting.void = consumer, 0
        # One entry for each message: run_event takes the oldest message of a consumer for each of its entries.
        waiting.append(message)
        self._events.append(waiting)

    def on_deliveries(self, consumer: ConsumerRecord, run: list[Message], weight: int) -> None:
        """``on_delivery`` for messages that have arrived together. weight: the sum of theirs."""
        budget = self._backpressure.budget
        budget.messages += len(run)
        budget.bytes += weight
        waiting = self._waiting.get(consumer)
        if waiting is None:
            waiting = self._waiting[consumer] = WaitingMessages()
            waiting.consumer, waiting.void = consumer, 0
        waiting.extend(run)
        self._events.extend(repeat(waiting, len(run)))

    def on_notice(self, notice: Callable[[], bool]) -> None:
        """Have drain_events call *notice*, which returns whether it did anything."""
        # With its entry, since _has_deliveries subtracts it from the length of the queue.
        self._notices += 1
        self._events.append(notice)
        # At once, unlike deliveries, which wake once a batch: a notice may come when no batch is being read.
        self._drainers.wake()
        self.show()

    def wake_drainers(self) -> None:
        """The reader has put in what had arrived."""
        if self.descriptor is not None:
            self.show()
        if self._events:  # first, since it costs no call
            if self._drainers:
                # Not more than there are events: one that finds none goes back to wait, which costs two switches.
                self._drainers.wake(len(self._events))
            else:
                # Nobody is in drain_events, so ``drain`` and ``basic_cancel``, if they wait, hand it out themselves.
                self.wake_finishing()

    # -- drain_events ----------------------------------------------------------------------

    @property
    def handlers_running(self) -> int:
        """How many callbacks of drain_events run."""
        return (self._handler is not None) + len(self._more_handlers)

    def callbacks_around(self) -> int:
        """How many callbacks of drain_events the calling greenlet is in. Does not switch."""
        # A callback may drain again, and its callback, too: each of them has an entry of its own.
        me = getcurrent()
        return (self._handler is me) + self._more_handlers.count(me)

    def wait(self, timeout: float | None) -> None:
        """Wait until there is an event. Raises TimeoutError, and why the connection ended. Switches."""
        self.idle(self._wait, timeout)

    def _wait(self, timeout: float | None) -> None:
        # Kept for the whole wait: another greenlet may close the connection and open it again meanwhile. Then the
        # events are of the new link, and this call has to raise why the old one ended.
        link = self.link
        if timeout is not None and timeout <= 0:
            # What is known to be near gets some time: bytes in the kernel that the reader has not read, or messages
            # on disk. A program that polls would otherwise miss them, call after call.
            timeout = POLL if self._backpressure.overflow is not None or link.transport.has_input else 0
            # A switch in any case, since in a program that only polls the reader runs in these calls alone.
            self._green.sleep(0)
        # Looked at again after each wake: another greenlet may have taken the event.
        deadline = green.Deadline(timeout)
        # Void entries end this wait, too. run_event passes them over, and drain_events comes here again.
        while not (self._events or self._older):
            # Before the wait: the end of the connection wakes only those who wait already.
            self.check_drainable(link)
            if not self._drainers.wait(deadline.left()) and not (self._events or self._older):
                # The loss before the timeout: when both have come, the program needs the reason.
                self.check_drainable(link)
                # An event loop of the program may have been woken for nothing. If its descriptor stayed readable it
                # would call this without end.
                self.show()
                raise TimeoutError('timed out')

    def idle(self, switch: Callable[..., Any], *args: Any) -> None:
        """Call what switches greenlets, in drain_events and in no callback there. Raises why the connection ended."""
        self.check_drainable()
        link = self.link  # the events that are here later may be those of another one
        # What is thrown into this greenlet there (a kill, a timeout) costs no event: none has been taken yet.
        self._idle(switch, *args)
        if link.reason is not None:
            self.check_drainable(link)

    def _idle(self, switch: Callable[..., Any], *args: Any) -> None:
        self.drainers_idle += 1
        try:
            switch(*args)
        finally:
            # Else drain would leave the deliveries to a greenlet that is gone.
            self.drainers_idle -= 1

    def _pass_over(self, count: int) -> int:
        """An entry was void, as were *count* before it. The hub has a turn after every 1000. Returns how many were."""
        if not (count + 1) % AT_ONCE:
            # Raises when the connection ends in that turn; the entries of the old link are gone then.
            self.idle(self._green.sleep, TICK)
        return count + 1

    def run_event(self, notices: bool = True) -> bool:
        """Take the oldest event that is still good for anything and run its callback in this greenlet. Switches.

        notices: False for deliveries only; notices before them are put behind them.
        Returns False if there was none.
        """
        passed_over = 0
        while events := self._older or self._events:
            if not (notices or self._has_deliveries):
                return False
            # Taken out before anything can switch: no two greenlets get the same event.
            event = events.popleft()
            if type(event) is WaitingMessages:
                if not event:
                    self._void -= 1  # its message was taken away before
                    event.void -= 1
                    passed_over = self._pass_over(passed_over)
                    continue
                message, consumer = event.popleft(), event.consumer
                # Removed with its last message, so that ``has_some_of`` need not look whether it is empty.
                if not event:
                    del self._waiting[consumer]
                backpressure = self._backpressure
                budget = backpressure.budget  # as ReceiveBudget.give_back
                budget.messages -= 1
                budget.bytes -= message._weight
                if backpressure.crowded:
                    backpressure.freed()
                void = self.doubtful and message.channel._void
                if void and void.covers(consumer, message, message.channel._incarnation):
                    passed_over = self._pass_over(passed_over)
                    continue
            elif notices:
                self._notices -= 1
                consumer = None  # stands for a notice below
            else:
                self._events.append(event)  # behind the deliveries: this caller runs no notice
                continue
            if self.descriptor is not None:
                self.show()
            # One greenlet stands in an attribute, which costs less than a list: mostly there is no other.
            me = getcurrent()
            is_only = self._handler is None  # kept, since others may begin while the callback runs
            if is_only:
                self._handler = me
            else:
                self._more_handlers.append(me)
            try:
                if consumer is None:
                    if not event():  # pyright: ignore[reportCallIssue]  # without a consumer it is a notice
                        continue  # another call came first
                else:
                    callback: Any = consumer.callback  # by itself: Python would look for a method in a call
                    if tracing.installed:
                        message.channel._connection._run_handler(callback, message)
                    else:
                        callback(message)
            finally:
                if is_only:
                    self._handler = None
                else:
                    self._more_handlers.remove(me)  # one of its entries; it may have more
                if self.finish_awaited:
                    self.finished.wake_all()
            return True
        return False

    def wake_finishing(self) -> None:
        """Something that drain or basic_cancel may wait for has ended."""
        if self.finish_awaited:
            self.finished.wake_all()

    # -- what is here ----------------------------------------------------------------------

    @property
    def undelivered(self) -> bool:
        """Whether a delivery waits for drain_events."""
        overflow = self._backpressure.overflow
        return self._has_deliveries or (overflow is not None and overflow.concerns_callbacks)

    # -- what an event loop of the program sees ----------------------------------------------------

    def show(self) -> None:
        """Set the descriptor by whether a drain_events would have something to do, or only let the hub run. No switch.

        The hub has to run when the reader was resumed, since the rest of its
        input may be decrypted already, and when deliveries are due to come back from disk.
        """
        descriptor, overflow = self.descriptor, self._backpressure.overflow
        if descriptor is not None:
            is_due = overflow is not None and overflow.due
            descriptor.show(self.has_events or self.loss_unraised or self.link.resuming or is_due)

    def check_drainable(self, link: Any = None) -> None:
        """``_check_open`` in drain_events: a loss that comes out of it is known to the program."""
        owner = self._owner()
        assert owner is not None  # it is in use
        # _check_open raises the loss below, so from here on the program knows it. A call in a wrong thread must not
        # use it up: it gets WrongThread and leaves all as it is.
        if self.loss_unraised:
            owner._affinity.check()
            self.forget_loss()
        if self.outlives_link:
            owner._check_drainable()
        else:
            owner._check_open(link)

    def forget_loss(self) -> None:
        """The program knows that the connection has ended. Does not switch."""
        self.loss_unraised = False
        self.descriptor = None  # before retire() closes it
        if self.link is not None:
            self.link.transport.retire()

    # -- deliveries that nobody will get ------------------------------------------------------

    def forget_deliveries(self, channel: ConsumerChannel, consumers: list[ConsumerRecord]) -> None:
        """The broker takes them back, and these consumers have ended: drop what they have here. Does not switch.

        From now on they are void by themselves (``VoidDeliveries``); the room is freed little by little.
        """
        if self._backpressure.overflow is not None:
            self._backpressure.overflow.forget_channel(channel)
        # At the end of the connection this is one of several walks for each channel, and comes in turn with them.
        self._walks.add(self._drop_all(consumers))

    def _drop_all(self, consumers: list[ConsumerRecord]) -> Iterator[None]:
        for consumer in consumers:
            if consumer.inbox is None:
                # What arrives from now on goes back to its queue and not in here.
                consumer.discard = True
                if consumer in self._waiting:
                    yield from self._free_all(self._take_away(consumer))
            elif not consumer.inbox.over:  # else what came with no_ack can still be had
                consumer.discard = True
                yield from consumer.inbox.take_all()
            yield

    def forget_unsettled(self, channel: ConsumerChannel, consumers: list[ConsumerRecord]) -> None:
        """The same for those that await an ack, of consumers that go on."""
        if self._backpressure.overflow is not None:
            self._backpressure.overflow.forget_channel(channel, all_of_callbacks=False)
        # Not among the gathered walks: after basic.recover the connection goes on.
        in_turns(self._green, self._drop_void(channel, consumers))

    def _drop_void(self, channel: ConsumerChannel, consumers: list[ConsumerRecord]) -> Iterator[None]:
        budget, void = self._backpressure.budget, channel._void
        for consumer in consumers:
            if consumer.inbox is not None:
                yield from consumer.inbox.drop_void()
            while waiting := self._waiting.get(consumer):
                # Asked in each step, since steps are taken in later turns: the connection may have ended, and
                # messages that the broker sent again after recover-ok stand behind the void ones in the same queue.
                # Those are kept.
                ended = budget is not self._backpressure.budget
                if ended or void is None or not void.covers(consumer, waiting[0], channel._incarnation):
                    break
                message = waiting.popleft()
                # Its entry stays in the queue, and becomes void when this consumer has no message left.
                self._void += 1
                waiting.void += 1
                if not waiting:
                    del self._waiting[consumer]
                self._free(budget, message)
                yield
            yield
        self._sweep_if_due()
        self.show()
