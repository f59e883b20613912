"""What arrives on a connection, and who gets it.

Layer 3, base class of Connection. The reader calls the ``on_…`` methods; they
only put things where they belong, wake who waits, and never switch greenlets
nor run user code. Control never stands behind deliveries: replies and confirms
go to their slots at once, deliveries and notices into the queue of drain_events.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import exceptions, green, tracing
from .backlog import Backlog
from .calls import Caller
from .io.link import Link
from .pacing import Pacing
from .state import lifecycle
from .state.budget import Budget
from .state.consumers import Consumer
from .state.counts import Counts
from .state.hints import add_hint
from .state.ids import ChannelIds
from .state.lifecycle import Lifecycle, Reason
from .state.queue_types import QueueTypes
from .state.replies import Expected, Replies
from .threads import HubBound
from .wire import encode_method
from .wire.spec import Channel as ChannelSpec
from .wire.spec import Connection as Spec

__all__ = ('Inbound', 'OpenChannels')

logger = logging.getLogger('gamqp.connection')

# Seconds between two looks at whether handlers and loops have finished.
QUIET_LOOK = 0.5

# Seconds between two warnings that the budget is spent.
COMPLAIN_EVERY = 60.0

# Seconds that drain_events(timeout=0) waits for input that is known to be there.
POLL = 0.01


class OpenChannels:
    """The numbers of a connection's channels, for its decoder, which must not keep the connection."""

    def __init__(self, root: Inbound) -> None:
        self._root = weakref.ref(root)

    def __contains__(self, number: int) -> bool:
        root = self._root()
        return root is not None and number in root.channels


class Inbound(Pacing, HubBound, Caller):
    """The receiving half of a connection, and channel 0."""

    #: A Tracing, or None; set by ``tracing.install``.
    tracing: Any = None

    channel_ids: ChannelIds
    max_inbound_body: int
    rpc_timeout: float
    spool: bool

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.green: Any = None
        self.link: Any = None
        self.channel_id = 0
        self.channels: dict[int, Any] = {}
        self._life = Lifecycle()
        self._replies = Replies()
        self.budget = budget  # of the present link
        self.spool_failed = False  # once, and it was told
        self.backlog: Backlog | None = None  # what is there
        self.crowded = False  # reading has stopped, or there is a backlog: whoever makes room calls freed
        self.counts = Counts()
        self.retiring: set[Any] = set()  # intakes that have ended while the program works on their last messages
        self.queue_types = QueueTypes()  # as far as this connection knows them
        self.draining = False
        self.in_drain: dict[Any, int] = {}  # greenlets in ``drain``, and how many callbacks of drain_events each is in
        self.handlers_running = 0  # callbacks inside drain_events
        self._drainers_idle = 0  # greenlets in drain_events that run no callback: they wait, or let others run
        self._quiet: Any = None  # who waits for handlers to finish
        self._events: deque[tuple[Consumer | None, Any]] = deque()  # (None, call) is a notice
        self._drainers: Any = None
        self._may_complain_at = 0.0
        self._pump: Any = None  # what calls the metrics hook
        self._waits = 0  # greenlets that wait for a reply or a confirm
        self._attempt: object = None

    # -- opening -----------------------------------------------------------------------

    def begin(self, backend: ModuleType) -> object:
        """Everything new for a new socket. Returns what tells this attempt from a later one."""
        self._life.move('open')
        self.bind_to_thread(backend)
        self.green = backend
        self.link = None
        self.draining = self.crowded = False
        self.queue_types = QueueTypes()
        self._drainers = green.Gate(backend)
        self._unblocked = green.Gate(backend)
        self._quiet = green.Gate(backend)
        self._attempt = object()
        return self._attempt

    def check_opening(self, attempt: object) -> None:
        """Raise if another greenlet closed the connection meanwhile, or the link was lost."""
        if self._attempt is not attempt or self._life.state != lifecycle.OPENING:
            raise self._life.error_maker('the connection was closed while it was being opened')()

    def give_up(self, attempt: object, error: BaseException) -> None:
        """The attempt has failed; one that came after it is left alone."""
        if self._attempt is attempt:
            if self.link is not None:
                self.link.lose(error)
            self.end(Reason(exceptions.RecoverableConnectionError(f'could not connect: {error}')))

    # -- what Caller asks ------------------------------------------------------------

    def _root(self) -> Any:
        return self

    def _check(self, sig: tuple[int, int]) -> None:
        if sig != Spec.Close:
            self.check_open()

    def check_open(self) -> None:
        """Raise why the connection cannot be used, if it cannot. Does not switch."""
        self.check_thread()
        if self._life.state != lifecycle.OPEN:
            raise self._life.error_maker(f'the connection is {self._life.state}')()

    def expect(self, expected: Expected) -> None:
        """For the handshake: the next method on channel 0. Raises why the link ended, if it has."""
        if self.link.reason is not None:
            raise self.link.reason.make_error()
        self._replies.expect(expected)

    def wait_begins(self) -> None:
        """Somebody waits for a reply: read on, even if the budget is spent."""
        self.check_thread()
        self._waits += 1
        if not self.link.listening:
            self.link.resume()

    def wait_ends(self) -> None:
        self._waits -= 1

    # -- from the reader --------------------------------------------------------------

    def on_events(self, events: list[Any]) -> None:
        """One batch from the decoder."""
        channels = self.channels
        backlog = self._backlog_for_more() if self.backlog is None and self.budget.overspent else self.backlog
        methods = 0
        for event in events:
            if type(event) is tuple:
                methods += 1
                channel_id, sig, args = event
                if not channel_id:
                    self._on_own_method(sig, args)
                elif channel_id in channels:
                    channels[channel_id].on_method(sig, args)
                elif sig == ChannelSpec.Close:
                    # A close that crossed ours must be answered all the same.
                    self.link.writer.send(encode_method(channel_id, ChannelSpec.CloseOk, ()))
            else:
                channel = channels.get(event.channel_id)
                if channel is not None and (backlog is None or not backlog.put(channel, event)):
                    channel.on_content(event)
            if self.link.reason is not None:
                break
        self.counts.delivered += len(events) - methods
        self.wake_drainers()

    def _backlog_for_more(self) -> Backlog | None:
        if self.spool:
            self.crowded = True
            self.backlog = Backlog(self)
        return self.backlog

    def on_delivery(self, consumer: Consumer, message: Any) -> None:
        self.budget.take(message.weight)
        self._events.append((consumer, message))

    def on_notice(self, notice: Callable[[], bool]) -> None:
        """Have drain_events call *notice*, which returns whether it did anything."""
        self._events.append((None, notice))
        self._drainers.wake()

    def on_protocol_error(self, error: Any) -> None:
        """The peer broke the protocol: tell it which rule, and end."""
        text = str(error.reply_text).encode()[:200].decode(errors='ignore')  # a short string has 255 bytes
        args = (error.reply_code or 501, text, *(error.method_sig or (0, 0)))
        self.link.writer.send(encode_method(0, Spec.Close, args))
        self.link.lose(error)

    def report(self, text: str, *args: Any) -> None:
        """Log a warning from the reader: in a greenlet of its own, since a log handler is user code and may wait."""
        if logger.isEnabledFor(logging.WARNING):
            self.green.spawn(logger.warning, text, *args)

    def must_pause(self) -> bool:
        if self._waits or not (self.budget.spent or self.backlog is not None):
            return False
        self.crowded = True
        now = time.monotonic()
        if now >= self._may_complain_at:
            self._may_complain_at = now + COMPLAIN_EVERY
            self._name_hoarder()
        return True

    def freed(self) -> None:
        """There is more room: for what is on disk first, and for the socket when that is empty. Does not switch."""
        if self.budget.relaxed:
            if self.backlog is not None:
                self.backlog.come_back()
            else:
                self.crowded = False
                self.link.resume()

    def _name_hoarder(self) -> None:
        """Tell whose messages fill the budget. Looks at each of them, so not too often."""
        held = Counter(item.channel_id for consumer, item in self._events if consumer is not None)
        tags = Counter((item.channel_id, consumer.tag) for consumer, item in self._events if consumer is not None)
        for number, channel in self.channels.items():
            for intake in channel.intakes():
                held[number] += len(intake.messages or ())
                tags[number, intake.tag] += len(intake.messages or ())
        backlog = self.backlog
        for number, tag, count in () if backlog is None else backlog.holders():
            held[number] += count
            tags[number, tag] += count
        if not held:
            return
        number, count = held.most_common(1)[0]
        (_, tag), most = max(tags.items(), key=lambda one: (one[0][0] == number, one[1]))
        self.report(
            '%s reads no more until messages are handled: %s of %s undelivered messages (%s bytes in all, and %s '
            'in temporary files) are of channel %s, %s of them of consumer %r. A lower prefetch, acks or more '
            'handlers help',
            repr(self),
            count,
            self.budget.messages + (0 if backlog is None else backlog.messages),
            self.budget.bytes,
            0 if backlog is None else backlog.bytes,
            number,
            most,
            tag,
        )

    def _on_own_method(self, sig: tuple[int, int], args: tuple[Any, ...]) -> None:
        if sig == Spec.Close:
            self._on_close(*args)
        elif sig == Spec.Blocked:
            self._on_blocked(exceptions.as_text(args[0]))
        elif sig == Spec.Unblocked:
            self._on_unblocked()
        else:
            self.on_reply(sig, args)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.link.writer.send(encode_method(0, Spec.CloseOk, ()))
        error = exceptions.error_for_code(code, text, (class_id, method_id), exceptions.ConnectionError)
        self.link.lose(add_hint(error))

    # -- the end -------------------------------------------------------------------------

    def on_link_end(self, link: Link, reason: Reason) -> None:
        if link is self.link:
            self.end(reason)

    def end(self, reason: Reason) -> None:
        """Everybody gets the reason; socket and greenlets go. The first reason wins. Does not switch."""
        if not self._life.end(reason):
            return
        if self.link is not None:
            self.link.end(reason)
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        if self.backlog is not None:
            self.backlog.close()
        self._events.clear()
        self._replies.fail_all(reason.make_error)
        for channel in list(self.channels.values()):
            channel.on_connection_end(reason)
        self.channels.clear()
        # A new one: what was received with no_ack may still be handed out, and goes by the old one.
        self.budget = Budget(self.budget.max_messages, self.budget.max_bytes)
        self._end_blockage()
        for gate in (self._unblocked, self._drainers, self._quiet):
            if gate is not None:  # else nobody has ever tried to connect
                gate.wake_all()

    # -- drain_events ----------------------------------------------------------------------

    def wait_for_event(self, timeout: float | None) -> None:
        """Wait until there is an event. Raises TimeoutError, and why the connection ended. Switches."""
        self.check_open()
        self._drainers_idle += 1
        try:
            self._wait_for_event(timeout)
        finally:
            self._drainers_idle -= 1

    def _wait_for_event(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            timeout = POLL if self.backlog is not None or self.link.transport.has_input else 0
            self.green.sleep(0)
        deadline = green.Deadline(timeout)
        while not self._events:
            self.check_open()
            if not self._drainers.wait(deadline.left()) and not self._events:
                self.check_open()
                raise TimeoutError('timed out')

    def _breathe_as_drainer(self) -> None:
        """``breathe`` in drain_events. Switches."""
        self._drainers_idle += 1
        try:
            self.breathe()
        finally:
            self._drainers_idle -= 1

    def run_event(self) -> bool:
        """Take the oldest event that is still good for anything and run its callback in this greenlet.

        Returns False if there was none; then it has not switched.
        """
        while self._events:
            consumer, item = self._events.popleft()
            if consumer is not None:
                self.budget.give_back(item.weight)
                if self.crowded:
                    self.freed()
            self.handlers_running += 1
            try:
                if consumer is None:
                    if not item():
                        continue  # another call came first
                else:
                    assert consumer.callback is not None  # one without is not queued
                    if tracing.installed:
                        self.run_handler(consumer.callback, item)
                    else:
                        consumer.callback(item)
            finally:
                self.handlers_running -= 1
                if self.draining:
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
        if self.backlog is not None and self.backlog.concerns_callbacks:
            return True
        return any(consumer is not None for consumer, _ in self._events)

    def wait_for_quiet(self, condition: Callable[[], bool], deadline: green.Deadline) -> bool:
        """Wait until *condition*, which handlers change when they end, is true. Returns whether it is. Switches.

        Meanwhile it hands out deliveries as drain_events would, unless another greenlet is there to do it.
        """
        while not condition():
            if deadline.passed:
                return False
            if not self._hand_out(deadline):
                left = deadline.left()
                # Looked at now and then, too: nobody tells that a greenlet has died.
                self._quiet.wait(QUIET_LOOK if left is None else min(left, QUIET_LOOK))
            self.check_open()
        return True

    def _hand_out(self, deadline: green.Deadline) -> bool:
        """Run the callbacks of deliveries that no other greenlet comes for. Returns whether there was one. Switches."""
        did = False
        while not deadline.passed and not self._others_drain and self._bring_delivery_forward():
            self.run_event()
            did = True
            if self.long_without_breath():
                self.breathe()
        return did

    @property
    def _others_drain(self) -> bool:
        """Whether a greenlet is in drain_events, and not in ``drain`` by a callback there: it may come for the next."""
        return self._drainers_idle + self.handlers_running > sum(self.in_drain.values())

    def _bring_delivery_forward(self) -> bool:
        """Have run_event take the oldest delivery next, past the notices before it. Returns whether there is one."""
        for place, event in enumerate(self._events):
            if event[0] is not None:
                del self._events[place]
                self._events.appendleft(event)
                return True
        return False

    def retire(self, intake: Any) -> None:
        """The last message of an ended intake may have been handled."""
        if not intake.busy and intake in self.retiring:
            self.retiring.discard(intake)
            intake.close_books()
        self.wake_quiet()

    def wake_quiet(self) -> None:
        """Something that drain may wait for has ended."""
        if self.draining:
            self._quiet.wake_all()

    def wake_drainers(self) -> None:
        """There are events."""
        if self._drainers and self._events:
            self._drainers.wake(len(self._events))
        elif self._events:
            self.wake_quiet()  # ``drain`` hands out what nobody else comes for

    def check_taking(self) -> None:
        """Raise if no consumer may be started any more."""
        if self.draining:
            raise exceptions.RecoverableConnectionError('the connection is being drained: no new consumers')

    def forget_deliveries(self, channel: Any) -> None:
        """The broker takes them back: drop what is undelivered of this channel."""
        if self.backlog is not None:
            self.backlog.forget_channel(channel)
        self._take_out(lambda consumer, message: message.channel is channel)

    def forget_unsettled(self, channel: Any) -> None:
        """The same for those that await an ack, of consumers that go on."""
        if self.backlog is not None:
            self.backlog.forget_channel(channel, all_of_callbacks=False)
        self._take_out(lambda consumer, message: message.channel is channel and not consumer.no_ack)

    def withdraw(self, consumer: Consumer) -> None:
        """Give back to the queue what is undelivered of this consumer."""
        for message in self._take_out(lambda owner, message: owner is consumer):
            if not consumer.no_ack:
                message.channel.give_back(message, consumer.of_stream)
        if self.backlog is not None:
            self.backlog.withdraw(consumer)

    def _take_out(self, unwanted: Callable[[Consumer, Any], bool]) -> list[Any]:
        """Take the *unwanted* deliveries out of the queue, and return them. Sends nothing: a send may end the link."""
        budget = self.budget
        kept: deque[tuple[Consumer | None, Any]] = deque()
        taken = []
        for event in list(self._events):
            consumer, item = event
            if consumer is None or not unwanted(consumer, item):
                kept.append(event)
            else:
                taken.append(item)
        if taken and budget is self.budget:  # else the collector has run what sends, and the end came of it
            self._events = kept
            for message in taken:
                budget.give_back(message.weight)
            if self.crowded:
                self.freed()
        return taken

    def forget_channel(self, channel: Any) -> None:
        """A channel has ended and its number is free."""
        number = channel.channel_id
        if self.channels.get(number) is channel:
            del self.channels[number]
            self.channel_ids.release(number)
            if self.link.reason is None:
                self.link.decoder.forget(number)
