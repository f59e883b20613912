"""Class basic, cancel: a consumer ends, because the program has it so or the broker.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: what becomes of the messages of a consumer
that has ended (``gamqp.consuming``, and the event queue of ``gamqp.connection``).
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import green
from ..green.yielding import in_turns
from ..state.consumers import ConsumerInbox, ConsumerRecord
from ..state.earlier_channel import EarlierChannel
from ..state.error_hints import cancelled
from ..state.expected_replies import Expected, fail_each
from ..state.lifecycle import Reason
from ..state.name_arguments import name
from ..state.negotiation import rabbitmq_version
from ..state.stream_consumers import StreamConsumers
from ..wire import encode_method
from ..wire.spec import Basic
from .basic_get import GetMethods

if TYPE_CHECKING:
    from .event_handler_calls import EventHandlerCalls

__all__ = ('CancelMethods',)


class CancelMethods(GetMethods):
    """Mixin of Channel."""

    _earlier: EarlierChannel | None

    if TYPE_CHECKING:
        _due_calls: EventHandlerCalls

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, argsig: object = None) -> None:
        """Stop a consumer, and have its callback called with what has arrived for it; no callback runs after this.

        The callbacks run in this greenlet, in the order of arrival and so with those of
        other consumers whose messages came before; or in the greenlet that is in
        drain_events already, and then this one waits for it, at most rpc_timeout.
        What a callback raises comes out, and the rest is left to drain_events. Called
        in a callback of drain_events it runs none: the next drain_events does.
        An iterator, or a handler of subscribe, gets nothing more: what waits goes back
        to its queue, and what came with no_ack is still handed out.

        nowait: do not wait for the broker; what arrives later goes back to the queue.
        Does nothing when the channel is closed, and its consumers with it. Switches
        greenlets. Raises TimeoutError, and why the channel or connection ended.
        """
        connection = self._connection
        connection._affinity.check()
        consumer_tag = name('consumer_tag', consumer_tag)
        if self.connection is None:
            return
        consumer = self._consumers.get(consumer_tag)
        if consumer is None or consumer.callback is None:
            self._cancel(consumer_tag, not nowait)
            return
        self._check(Basic.Cancel)
        link = connection._link
        expected = self._ask_to_cancel(consumer_tag, not nowait)
        try:
            if not nowait:
                self._await_reply(expected, Basic.Cancel, None)
        finally:
            consumer.discard = not consumer.no_ack
        if link.reason is not None and connection._topology is not None:
            return  # a loss has overtaken it, from which the connection recovers: what waited for the callback is void
        if not connection._event_queue.callbacks_around():
            connection._unfinished_handlers.hand_out(link, consumer, connection.rpc_timeout)

    def _cancel(self, tag: str, wait: bool, timeout: float | None = None) -> None:
        self._check(Basic.Cancel)
        consumer = self._consumers.get(tag)
        # The wire's nowait is never used: cancel-ok tells when the last delivery has passed.
        expected = self._ask_to_cancel(tag, wait)
        # After the cancel on the wire, or the broker would deliver to this consumer again what it gets back.
        if consumer is not None:
            self._stop_taking(consumer)
        if wait:
            self._await_reply(expected, Basic.Cancel, timeout, ending=timeout is None)

    def _end_consumer(self, consumer: ConsumerRecord, wait: bool, timeout: float | None = None) -> None:
        """basic_cancel for a consumer of our own kind. Without *wait* it does not switch and raises nothing."""
        if wait:
            self._cancel(consumer.tag, True, timeout)
        elif self._consumers.get(consumer.tag) is consumer and self._usable_in is not None:
            self._ask_to_cancel(consumer.tag)
            self._stop_taking(consumer)

    def _inboxes(self) -> list[ConsumerInbox]:
        """Those of the consumers of our own kind."""
        return list(self._consumers.inboxes.values())

    def _ask_to_cancel_all(self) -> Iterator[Expected | None]:
        """Begin to cancel every consumer that brings work. Gives what the broker will answer.

        A step does not switch; between two of them the program may run. None for a consumer that is
        left alone, and for each message that is given back.
        """
        for tag, consumer in list(self._consumers.items()):
            if not self.is_open:
                return
            if self._consumers.get(tag) is not consumer or not _brings_work(consumer):
                yield None
                continue
            expected = self._ask_to_cancel(tag, wait=True)
            budget = self._connection._backpressure.budget
            before = budget.messages
            self._stop_taking(consumer)
            yield expected
            yield from itertools.repeat(None, max(0, before - budget.messages))

    def _ask_to_cancel(self, tag: str, wait: bool = False) -> Expected:
        slot = green.Slot(self._connection._green) if wait else None
        expected = Expected((Basic.CancelOk,), slot, self._on_cancel_ok, tag=tag)
        if self._consumers.is_starting(tag):
            self._consumers.cancel_when_started(tag, expected)
        else:
            self._ask(Basic.Cancel, (tag, False), expected)
        return expected

    def _stop_taking(self, consumer: ConsumerRecord) -> None:
        if not consumer.no_ack:
            consumer.discard = True
            self._withdraw(consumer)

    def _withdraw(self, consumer: ConsumerRecord) -> None:
        """Give back to the queue what has arrived for a consumer and was not handed out."""
        if consumer.inbox is None:
            self._event_queue.withdraw(consumer)
            return
        overflow = self._connection._backpressure.overflow
        if overflow is not None:
            overflow.withdraw(consumer)
        consumer.inbox.withdraw(give_back=not consumer.no_ack)

    def _on_cancel_ok(self, reply: Any) -> None:
        topology = self._connection._topology
        if topology is not None:
            topology.consumer_ended(self._number, reply[0])
        consumer = self._consumers.leave(reply[0])
        if consumer is not None:
            if consumer.inbox is not None:
                consumer.inbox.finish(None)
            else:
                self._close_books(consumer)

    def _fail_cancels(self, make_error: Callable[[], BaseException]) -> Iterator[None]:
        """The channel is gone: no cancel that waits for consume-ok will be sent. Each step fails one."""
        return fail_each(self._consumers.take_cancels(), make_error)

    # -- by the broker ---------------------------------------------------------------

    def _on_cancel(self, consumer_tag: str, nowait: bool) -> None:
        """The broker cancels a consumer, and may keep it, as RabbitMQ 4.3 does, until we have cancelled it, too.

        Not by cancel-ok, over which RabbitMQ before 4.3 ends the connection.
        """
        if self._earlier is not None and self._consumers.is_starting(consumer_tag):
            return  # a consumer of the channel that had this number before
        topology = self._connection._topology
        if topology is not None:
            topology.consumer_cancelled(self._number, consumer_tag)
        consumer = self._consumers.leave(consumer_tag)
        if self._takes_settlements:  # the broker knows the channel
            self._connection._count_answer()
            self._writer.send(encode_method(self.channel_id, Basic.Cancel, (consumer_tag, True)))
        if consumer is None:
            return
        version = rabbitmq_version(self._connection.server_properties)
        error = cancelled(consumer_tag, consumer.queue, version, self._unacked.oldest(), time.monotonic())
        reason = Reason(error)
        if consumer.inbox is not None:
            self._stop_taking(consumer)  # a classic queue leaves them with the channel, whose time runs out then
            consumer.inbox.finish(reason)
            return
        if consumer.on_cancel is not None:
            self._due_calls.pending.add_error(functools.partial(consumer.on_cancel, consumer_tag))
        else:
            self._due_calls.pending.add_error(reason.throw)
        self._close_books(consumer)
        self._due_calls.flag()

    # -- streams ---------------------------------------------------------------------

    def _close_books(self, consumer: ConsumerRecord) -> None:
        """A consumer has ended: what a stream gave it and nobody acked awaits nothing any more. Does not switch.

        The program may ack it all the same; the broker knows it until the channel is closed.
        """
        if self._streams is None or not (consumer.of_stream or consumer.numbered):
            return
        self._streams.leave(consumer.tag)
        in_turns(self._connection._green, self._take_out_of_books(self._streams, consumer.tag))

    def _take_out_of_books(self, streams: StreamConsumers, tag: str) -> Iterator[None]:
        """A step for each delivery of the channel."""
        incarnation = self._incarnation
        for known, entry in list(self._unacked.items()):
            yield
            if self._incarnation != incarnation:
                return  # and the numbers are those of other deliveries
            if entry[0] == tag and self._unacked.settle(known, False):
                streams.note_left_unacked()
                self._counts.given_back += 1


def _brings_work(consumer: ConsumerRecord) -> bool:
    return consumer.inbox is None or consumer.inbox.brings_work
