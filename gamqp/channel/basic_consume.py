"""Class basic, consume: a consumer begins; and what has to be known of its queue.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: how it ends (``basic_cancel``), and what
becomes of its messages.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from .. import exceptions
from ..basic_message import Message
from ..state.consumers import ConsumerRecord
from ..state.heartbeat import HeartbeatClock
from ..state.name_arguments import name
from ..state.queue_types import OFFSET, STREAM, has_stream_offset
from ..state.stream_consumers import StreamConsumers
from ..state.topology_records import RecordedConsumer
from ..wire import note_run
from ..wire.spec import Basic
from .basic_cancel import CancelMethods
from .basic_qos import QosMethods
from .request import Arguments

__all__ = ('ConsumeMethods',)

_NO_CALLBACK = (
    'basic_consume without a callback: its messages are dropped, {}; pass callback=…, '
    'or use consume (an iterator) or subscribe (a handler)'
)


class ConsumeMethods(QosMethods, CancelMethods):
    """Mixin of Channel."""

    _heartbeat_clock: HeartbeatClock
    auto_decode: bool

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
        *,
        recover: bool = True,
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
        RabbitMQ would not take; nothing was sent then. recover: False to leave it out of
        what a connection with ``recover`` starts again after a loss.
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
        self._begin_consumer(consumer, queue, no_local, exclusive, nowait, arguments, recover)
        return tag

    def _watch(self, consumer: ConsumerRecord, prefetch: int) -> None:
        """Say in the log when messages that nobody settles use up the prefetch. Does not switch."""
        if not consumer.no_ack:
            consumer.watched = prefetch
            self._consumers.has_watched = True
            self._connection._while_open.watch_unacked(self._connection)

    def _begin_consumer(
        self,
        consumer: ConsumerRecord,
        queue: str,
        no_local: bool,
        exclusive: bool,
        nowait: bool,
        arguments: Arguments,
        recover: bool,
    ) -> None:
        """Enter a consumer, tell the broker, and wait for its consent."""
        tag = consumer.tag
        self._check(Basic.Consume)
        queue = self._name_to_send(queue, Basic.Consume)
        self._connection._unfinished_handlers.check_taking()
        if tag in self._consumers:
            raise exceptions.NotAllowed(f'consumer tag {tag!r} is in use on this channel', Basic.Consume)
        # Entered first: a delivery may come in the same packet as consume-ok.
        consumer.era = self._era
        if consumer.inbox is not None:
            consumer.inbox.term = self._consumers.term
        self._consumers.enter(consumer)
        if consumer.of_stream:
            self._reads_stream(consumer)
        try:
            # The wire's nowait is never used: consume-ok tells when a cancel may be sent.
            args = (0, queue, tag, no_local, consumer.no_ack, exclusive, False, arguments)
            self._ask_to_consume(tag, args, wait=not nowait, recover=recover)
        except exceptions.EncodeError:
            self._consumers.remove(tag)
            raise
        except BaseException:
            self._give_up_consumer(consumer)
            raise
        if consumer.of_stream:
            self._connection._queue_types.is_stream(consumer.queue)

    def _ask_to_consume(self, tag: str, args: tuple[Any, ...], wait: bool, recover: bool) -> None:
        self._consumers.note_starting(tag)
        try:
            topology, consumer, arrived = self._connection._topology, None, self._on_consume_ok
            if topology is not None:
                _, queue, _, no_local, no_ack, exclusive, _, arguments = args
                flags = no_local, no_ack, exclusive
                prefetch = self._prefetch.sent or 0
                consumer = topology.consume(self._number, queue, tag, *flags, arguments, prefetch, recover)
                if consumer is not None:
                    arrived = functools.partial(self._on_recorded_consume_ok, consumer)
            self._call(Basic.Consume, args, arrived, wait=wait, tag=tag, consumer=consumer)
        except exceptions.EncodeError:
            self._consumers.note_started(tag)
            raise

    def _on_recorded_consume_ok(self, consumer: RecordedConsumer, reply: Any) -> None:
        topology = self._connection._topology
        if topology is not None:
            topology.consumer_started(consumer)
        self._on_consume_ok(reply)

    def _on_consume_ok(self, reply: Any) -> None:
        """Send the cancels that have waited for it: RabbitMQ 3.10 ends the connection over one that comes first."""
        tag = reply[0]
        for expected in self._consumers.note_started(tag):
            if self.is_open:
                self._ask(Basic.Cancel, (tag, False), expected)

    def _give_up_consumer(self, consumer: ConsumerRecord) -> None:
        """The caller of consume has gone: cancel what nobody knows of, and give back what is delivered until then."""
        tag = consumer.tag
        consumer.discard = True
        consumers = self._consumers
        known = consumers.get(tag) is consumer and (consumers.is_starting(tag) or self.is_open)
        if known and not consumers.has_cancel_waiting(tag):
            self._ask_to_cancel(tag)
        self._withdraw(consumer)

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

    def _on_run(self, run: list[Any]) -> bool:
        """``_on_content`` for deliveries to one consumer. Returns False if they must be handled one by one."""
        consumer = self._consumers.get(run[0].consumer_tag)
        if consumer is None or (self._arriving and self._earlier is not None):
            return False
        if not (consumer.books or consumer.no_ack):
            self._look_at_first(consumer, run[0])
        if consumer.discard:
            return False
        if self._arriving:
            for message in run:
                message._incarnation = self._arriving
                message.delivery_tag += self._tag_offset
        unacked = None if consumer.no_ack else self._unacked
        entry = consumer.tag, self._heartbeat_clock.heard_at
        weight, redelivered = note_run(run, self, self.auto_decode, unacked, entry)
        self._counts.redelivered += redelivered
        if consumer.inbox is not None:
            consumer.inbox.put_run(run, weight)
        elif consumer.callback is not None:
            self._event_queue.on_deliveries(consumer, run, weight)
        return True

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
