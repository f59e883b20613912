"""Class basic, consume and cancel: consumers, and what the channel knows of them.

Errors and switching: see ``gamqp.channel``. Does not belong here: what becomes of their messages.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import exceptions, green
from ..basic_message import Message
from ..consuming.inbox import Term
from ..green.yielding import in_turns
from ..state.consumers import ConsumerRecord
from ..state.expected_replies import Expected
from ..state.name_arguments import name
from ..state.queue_types import OFFSET, STREAM, has_stream_offset
from ..state.stream_consumers import StreamConsumers
from ..wire.spec import Basic
from .basic_get import GetMethods
from .basic_qos import QosMethods
from .request import Arguments

__all__ = ('ConsumeMethods',)

_NO_CALLBACK = (
    'basic_consume without a callback: its messages are dropped, {}; pass callback=…, '
    'or use consume (an iterator) or subscribe (a handler)'
)


class ConsumeMethods(QosMethods, GetMethods):
    """Mixin of Channel."""

    # Whether there was a consumer for the warning about unacked deliveries to look at.
    _has_watched = False

    # Tags whose consume-ok has not come -> what the cancels expect that wait for it. None for none.
    _starting: dict[str, list[Expected]] | None = None

    _term: Term | None = None  # made for the first consumer of our own kind

    @property
    def consumer_count(self) -> int:
        return len(self._consumers)

    def _queue_of(self, consumer_tag: str) -> str:
        """The queue that a consumer takes from, '' if that is not known."""
        return self._consumers.queue_of(name('consumer_tag', consumer_tag))

    @property
    def _has_callbacks(self) -> bool:
        """Whether a consumer of this channel hands its messages to a callback in drain_events."""
        return self._consumers.with_callback > 0

    def basic_consume(
        self,
        queue: str = '',
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callable[[Message], object] | None = None,
        arguments: Arguments = None,
        on_cancel: Callable[[str], object] | None = None,
        argsig: object = None,
    ) -> str:
        """Start a consumer; its messages go to *callback*, called inside Connection.drain_events.

        consumer_tag: '' chooses a fresh one. callback: takes a Message; None drops
        the messages unsettled, and is a UserWarning. on_cancel: takes the consumer tag
        when the broker cancels the consumer; without it drain_events raises
        ConsumerCancelled then.
        arguments: e.g. {'x-priority': 5}. Returns the consumer tag. A caller that
        is killed while it waits leaves no consumer behind. Raises NotAllowed for
        a tag that this channel already uses. A stream is read with a prefetch
        (``basic_qos``) and acks: ValueError otherwise, and for an x-stream-offset that
        RabbitMQ would not take; nothing was sent then.
        """
        queue = name('queue', queue)
        tag = name('consumer_tag', consumer_tag) or self._consumers.fresh_tag(self.channel_id)
        consumer = ConsumerRecord(tag, callback, on_cancel, no_ack)
        self._check(Basic.Consume)
        wanted = self._prefetch.wanted
        self._check_queue(consumer, queue, wanted, arguments)
        if callback is None:
            warnings.warn(_NO_CALLBACK.format('lost' if no_ack else 'unsettled'), UserWarning, stacklevel=2)
        self._watch(consumer, wanted)
        if self._prefetch.sent is not None:
            self._use_prefetch(wanted)
        self._begin_consumer(consumer, queue, no_local, exclusive, nowait, arguments)
        return tag

    def _watch(self, consumer: ConsumerRecord, prefetch: int) -> None:
        """Say in the log when messages that nobody settles use up the prefetch. Does not switch."""
        if not consumer.no_ack:
            consumer.watched = prefetch
            self._has_watched = True
            self._connection._watch_unsettled()

    def _begin_consumer(
        self, consumer: ConsumerRecord, queue: str, no_local: bool, exclusive: bool, nowait: bool, arguments: Arguments
    ) -> None:
        """Enter a consumer, tell the broker, and wait for its consent."""
        tag = consumer.tag
        self._check(Basic.Consume)
        self._connection._unfinished_handlers.check_taking()
        if tag in self._consumers:
            raise exceptions.NotAllowed(f'consumer tag {tag!r} is in use on this channel', Basic.Consume)
        # Entered first: a delivery may come in the same packet as consume-ok.
        consumer.era = self._era
        if consumer.inbox is not None:
            consumer.inbox.term = self._current_term
        self._consumers.enter(consumer)
        if consumer.of_stream:
            self._reads_stream(consumer)
        try:
            # The wire's nowait is never used: consume-ok tells when a cancel may be sent.
            args = (0, queue, tag, no_local, consumer.no_ack, exclusive, False, arguments)
            self._ask_to_consume(tag, args, wait=not nowait)
        except exceptions.EncodeError:
            self._consumers.remove(tag)
            raise
        except BaseException:
            self._give_up_consumer(consumer)
            raise
        if consumer.of_stream:
            self._connection._queue_types.is_stream(consumer.queue)

    def _ask_to_consume(self, tag: str, args: tuple[Any, ...], wait: bool) -> None:
        starting = self._starting = self._starting or {}
        starting[tag] = []
        try:
            self._call(Basic.Consume, args, self._on_consume_ok, wait=wait, tag=tag)
        except exceptions.EncodeError:
            self._started(tag)
            raise

    def _on_consume_ok(self, reply: Any) -> None:
        """Send the cancels that have waited for it: RabbitMQ 3.10 ends the connection over one that comes first."""
        tag = reply[0]
        for expected in self._started(tag):
            if self.is_open:
                self._ask(Basic.Cancel, (tag, False), expected)

    def _started(self, tag: str) -> list[Expected]:
        """It is starting no longer. Returns what the cancels that wait expect."""
        starting = self._starting
        waiting = starting.pop(tag, []) if starting is not None else []
        if not starting:
            self._starting = None
        return waiting

    def _give_up_consumer(self, consumer: ConsumerRecord) -> None:
        """The caller of consume has gone: cancel what nobody knows of, and give back what is delivered until then."""
        tag = consumer.tag
        consumer.discard = True
        starting = self._starting is not None and tag in self._starting
        if self._consumers.get(tag) is consumer and (starting or self.is_open) and not self._awaits_cancel(tag):
            self._ask_to_cancel(tag)
        self._withdraw(consumer)

    def _awaits_cancel(self, tag: str) -> bool:
        """Whether a cancel waits for consume-ok."""
        return self._starting is not None and bool(self._starting.get(tag))

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
        connection._check_thread()
        consumer_tag = name('consumer_tag', consumer_tag)
        if self.connection is None:
            return
        consumer = self._consumers.get(consumer_tag)
        if consumer is None or consumer.callback is None:
            self._cancel(consumer_tag, not nowait)
            return
        self._check(Basic.Cancel)
        expected = self._ask_to_cancel(consumer_tag, not nowait)
        try:
            if not nowait:
                self._await_reply(expected, Basic.Cancel, None)
        finally:
            consumer.discard = not consumer.no_ack
        if not connection._event_queue.callbacks_around():
            connection._unfinished_handlers.hand_out(consumer, connection.rpc_timeout)

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

    def _inboxes(self) -> list[Any]:
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
        if self._starting is not None and tag in self._starting:
            self._starting[tag].append(expected)
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
        consumer = self._consumers.leave(reply[0])
        if consumer is not None:
            if consumer.inbox is not None:
                consumer.inbox.finish(None)
            else:
                self._close_books(consumer)

    @property
    def _current_term(self) -> Term:
        """In which the consumers that it has now live."""
        if self._term is None:
            self._term = Term()
        return self._term

    # -- streams ---------------------------------------------------------------------

    def _check_queue(
        self, consumer: ConsumerRecord, queue: str, prefetch: int, arguments: Mapping[str, Any] | None
    ) -> None:
        """Raise if the queue cannot be consumed from in that way; else note what is known of it."""
        consumer.queue = queue or self._declared
        types = self._connection._queue_types
        types.check_consume(consumer.queue, consumer.no_ack, prefetch, self._prefetch.of_channel > 0, arguments)
        if (arguments and OFFSET in arguments) or types.type_of(consumer.queue) == STREAM:
            consumer.of_stream = True

    def _look_at_first(self, consumer: ConsumerRecord, message: Any) -> None:
        """The first delivery of a consumer that acks: does it come from a stream? Does not switch."""
        consumer.books = True
        types = self._connection._queue_types
        # What was delivered before is no stream's, but a copy of a message that was.
        if has_stream_offset(message) and not message.redelivered and not types.type_of(consumer.queue):
            consumer.numbered = True
            types.is_stream(consumer.queue)
            self._reads_stream(consumer)

    def _reads_stream(self, consumer: ConsumerRecord) -> None:
        if self._streams is None:
            self._streams = StreamConsumers(self._connection._queue_types)
        self._streams.enter(consumer.tag)

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
    return consumer.inbox is None or bool(consumer.inbox.brings_work)
