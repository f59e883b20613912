"""What arrives on a connection, and who gets it.

Layer 3, base class of Connection. The reader calls the ``on_…`` methods; they
only put things where they belong, wake who waits, and never switch greenlets
nor run user code. Control never stands behind deliveries: replies and confirms
go to their slots at once, deliveries and notices into the queue of drain_events.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import exceptions, green
from .calls import Caller
from .io.link import Link
from .state import lifecycle
from .state.budget import Budget
from .state.consumers import Consumer
from .state.hints import add_hint
from .state.ids import ChannelIds
from .state.lifecycle import Lifecycle, Reason
from .state.replies import Expected, Replies
from .wire import encode_method, encode_reject
from .wire.spec import Channel as ChannelSpec
from .wire.spec import Connection as Spec

__all__ = ('BLOCKED_POLICIES', 'Inbound')

logger = logging.getLogger('gamqp.connection')

# How long drain_events and publish may go on without giving the hub a turn, in
# seconds, and after how many messages or bytes it is worth to look at the clock.
BREATH = 0.01
EVENTS_PER_LOOK = 32
BYTES_PER_LOOK = 64 * 1024

# What a publish does while the broker takes no messages.
BLOCKED_POLICIES = ('wait', 'raise', 'pass')

# Seconds that drain_events(timeout=0) waits for input that is known to be there.
POLL = 0.01


class Inbound(Caller):
    """The receiving half of a connection, and channel 0."""

    channel_ids: ChannelIds
    rpc_timeout: float
    blocked_policy: str
    blocked_timeout: float | None
    on_blocked: Callable[[str], Any] | None
    on_unblocked: Callable[[], Any] | None

    def __init__(self, budget: Budget) -> None:
        self.green: Any = None
        self.link: Any = None
        self.channel_id = 0
        self.channels: dict[int, Any] = {}
        self.blocked_reason: str | None = None
        self._life = Lifecycle()
        self._replies = Replies()
        self._budget = budget
        self._events: deque[tuple[Consumer | None, Any]] = deque()  # (None, call) is a notice
        self._drainers: Any = None
        self._unblocked: Any = None
        self._waits = 0  # greenlets that wait for a reply or a confirm
        self._attempt: object = None
        self._looked_at = 0.0
        self._until_look = EVENTS_PER_LOOK
        self._unlooked = 0

    # -- opening -----------------------------------------------------------------------

    def begin(self, backend: ModuleType) -> object:
        """Everything new for a new socket. Returns what tells this attempt from a later one."""
        self._life.move('open')
        self.green = backend
        self.link = None
        self._drainers = green.Gate(backend)
        self._unblocked = green.Gate(backend)
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
        if self._life.state != lifecycle.OPEN:
            raise self._life.error_maker(f'the connection is {self._life.state}')()

    def expect(self, expected: Expected) -> None:
        """For the handshake: the next method on channel 0. Raises why the link ended, if it has."""
        if self.link.reason is not None:
            raise self.link.reason.make_error()
        self._replies.expect(expected)

    def wait_begins(self) -> None:
        """Somebody waits for a reply: read on, even if the budget is spent."""
        self._waits += 1
        if not self.link.listening:
            self.link.resume()

    def wait_ends(self) -> None:
        self._waits -= 1

    # -- from the reader --------------------------------------------------------------

    def on_events(self, events: list[Any]) -> None:
        """One batch from the decoder."""
        channels = self.channels
        for event in events:
            if type(event) is tuple:
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
                if channel is not None:
                    channel.on_content(event)
            if self.link.reason is not None:
                break
        if self._drainers and self._events:
            self._drainers.wake(len(self._events))

    def on_delivery(self, consumer: Consumer, message: Any) -> None:
        self._budget.take(message.size)
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
        return self._budget.spent and not self._waits

    def _on_own_method(self, sig: tuple[int, int], args: tuple[Any, ...]) -> None:
        if sig == Spec.Close:
            self._on_close(*args)
        elif sig == Spec.Blocked:
            self._on_blocked(*args)
        elif sig == Spec.Unblocked:
            self._on_unblocked()
        else:
            self.on_reply(sig, args)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.link.writer.send(encode_method(0, Spec.CloseOk, ()))
        error = exceptions.error_for_code(code, text, (class_id, method_id), exceptions.ConnectionError)
        self.link.lose(add_hint(error))

    def _on_blocked(self, reason: str) -> None:
        self.blocked_reason = reason
        self.report('%s: the broker takes no messages: %s', repr(self), reason)
        if self.on_blocked is not None:
            self.green.spawn(self.on_blocked, reason)

    def _on_unblocked(self) -> None:
        self.blocked_reason = None
        self._unblocked.wake_all()
        if self.on_unblocked is not None:
            self.green.spawn(self.on_unblocked)

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes no messages at present (a resource alarm)."""
        return self.blocked_reason is not None

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
        self._events.clear()
        self._budget.clear()
        self._replies.fail_all(reason.make_error)
        for channel in list(self.channels.values()):
            channel.on_connection_end(reason)
        self.channels.clear()
        self.blocked_reason = None
        for gate in (self._unblocked, self._drainers):
            if gate is not None:  # else nobody has ever tried to connect
                gate.wake_all()

    # -- drain_events ----------------------------------------------------------------------

    def wait_for_event(self, timeout: float | None) -> None:
        """Wait until there is an event. Raises TimeoutError, and why the connection ended. Switches."""
        self.check_open()
        if timeout is not None and timeout <= 0:
            timeout = POLL if self.link.transport.has_input else 0
            self.green.sleep(0)
        deadline = green.Deadline(timeout)
        while not self._events:
            self.check_open()
            if not self._drainers.wait(deadline.left()) and not self._events:
                self.check_open()
                raise TimeoutError('timed out')

    def run_event(self) -> bool:
        """Take the oldest event and run its callback in this greenlet.

        Returns False if there was nothing left to do: another call came first.
        """
        consumer, item = self._events.popleft()
        if consumer is None:
            return bool(item())
        budget = self._budget
        budget.give_back(item.size)
        if not self.link.listening and budget.relaxed:
            self.link.resume()
        assert consumer.callback is not None  # one without is not queued
        consumer.callback(item)
        return True

    def forget_deliveries(self, channel: Any) -> None:
        """The broker takes them back: drop what is undelivered of this channel."""
        self._filter_events(lambda consumer, message: message.channel is not channel)

    def withdraw(self, consumer: Consumer) -> None:
        """Give back to the queue what is undelivered of this consumer."""

        def keep(owner: Consumer, message: Any) -> bool:
            if owner is not consumer:
                return True
            self.link.writer.send(encode_reject(message.channel_id, message.delivery_tag, True))
            return False

        self._filter_events(keep)

    def _filter_events(self, keep: Callable[[Consumer, Any], bool]) -> None:
        kept = []
        for consumer, item in self._events:
            if consumer is None or keep(consumer, item):
                kept.append((consumer, item))
            else:
                self._budget.give_back(item.size)
        if len(kept) != len(self._events):
            self._events.clear()
            self._events.extend(kept)
            if not self.link.listening and self._budget.relaxed:
                self.link.resume()

    def forget_channel(self, channel: Any) -> None:
        """A channel has ended and its number is free."""
        number = channel.channel_id
        if self.channels.get(number) is channel:
            del self.channels[number]
            self.channel_ids.release(number)
            if self.link.reason is None:
                self.link.decoder.forget(number)

    # -- publishing ----------------------------------------------------------------------

    @property
    def must_wait_to_publish(self) -> bool:
        return self._holds_publishes or self.link.writer.full

    @property
    def _holds_publishes(self) -> bool:
        return self.blocked_reason is not None and self.blocked_policy != 'pass'

    def wait_to_publish(self, deadline: green.Deadline | None) -> None:
        """Wait until the broker takes messages and the send queue has room. Switches.

        deadline: None for blocked_timeout while the broker refuses messages, else
        rpc_timeout. Raises Blocked when it still refuses them, TimeoutError when it
        is only slow; nothing was sent.
        """
        unblocking = deadline or green.Deadline(
            self.rpc_timeout if self.blocked_timeout is None else self.blocked_timeout
        )
        deadline = deadline or green.Deadline(self.rpc_timeout)
        while self.must_wait_to_publish and self.link.reason is None:
            if self._holds_publishes:
                refused = self.blocked_policy == 'raise' or not self._unblocked.wait(unblocking.left())
                if refused and self._holds_publishes:
                    raise exceptions.Blocked(f'the broker takes no messages: {self.blocked_reason}')
            elif not self.link.writer.wait_for_room(deadline.left()):
                raise TimeoutError(f'basic.publish: the send queue was full for {deadline.seconds} s')

    def wait_until_sent(self, deadline: green.Deadline) -> None:
        """Wait until the kernel has taken everything; when time runs out, the connection is given up. Switches."""
        if not self.link.writer.wait_until_empty(deadline.left()):
            # A part of the message may be out, so the stream cannot be used any further.
            self.link.lose(
                exceptions.RecoverableConnectionError(f'basic.publish: not sent within {deadline.seconds} s')
            )
        self.check_open()

    def breath_due(self, size: int) -> bool:
        """Whether a publisher that never waits has kept the hub from its turn for long enough."""
        self._unlooked += size
        if self._unlooked < BYTES_PER_LOOK:
            return False
        self._unlooked = 0
        return time.monotonic() - self._looked_at > BREATH

    def long_without_breath(self) -> bool:
        """The same for a program that drains without ever having to wait."""
        self._until_look -= 1
        if self._until_look > 0:
            return False
        self._until_look = EVENTS_PER_LOOK
        return time.monotonic() - self._looked_at > BREATH

    def breathe(self) -> None:
        """Let everybody else run once. Switches."""
        self.green.sleep(0)
        self._looked_at = time.monotonic()
