"""Class basic, the receiving side: qos, consume, cancel, get, ack, nack, reject, recover.

Errors and switching: see ``gamqp.channel``. The settling calls (ack, nack,
reject) only hand a frame to the writer and never switch greenlets.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..basic_message import Message
from ..green.os_threads import get_ident
from ..state.argument_checks import whole
from ..state.consumers import ConsumerRecord, ConsumerTable
from ..state.counters import Counters
from ..state.names import name
from ..state.replies import Expected
from ..state.unacked import Unacked, WideUnacked
from ..wire import encode_ack, encode_nack, encode_reject
from ..wire.spec import Basic
from .stream import StreamMethods

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('ConsumeMethods',)

PREFETCH_LIMIT = 65535  # 16 bits on the wire
PREFETCH_COUNT = whole(0, PREFETCH_LIMIT)
WHOLE = whole(0)

Arguments = dict[str, Any] | None

_NO_CALLBACK = (
    'basic_consume without a callback: its messages are dropped, {}; pass callback=…, '
    'or use consume (an iterator) or subscribe (a handler)'
)


class ConsumeMethods(StreamMethods):
    """Mixin of Channel."""

    connection: Connection | None  # None when the channel is closed
    incarnation: int
    _altered: bool
    _arriving: int
    doubtful: bool
    _consumers: ConsumerTable
    _counts: Counters
    _unacked: Unacked | WideUnacked
    _thread: int | None
    _usable: bool
    _writer: Any

    # The prefetch of consumers to come: what the program asked for, and what the broker was told last.
    _prefetch_wanted = 0
    _prefetch_sent: int | None = None

    # For UnsettledWatch: whether there was a consumer to look at, and the channel's limit until that was said.
    has_watched = False
    limit_watched = 0

    # Tags whose consume-ok has not come -> what the cancels expect that wait for it. None for none.
    _starting: dict[str, list[Expected]] | None = None

    _era = 0  # how often all consumers have ended with the channel
    _settled_to = 0  # the highest tag of a settlement with *multiple*

    @property
    def is_open(self) -> bool:
        raise NotImplementedError

    @property
    def term(self) -> Any:
        raise NotImplementedError

    def give_back(self, message: Any, of_stream: bool = False) -> None:
        raise NotImplementedError

    def give_back_known(self, message: Any, of_stream: bool) -> None:
        raise NotImplementedError

    @property
    def unsettled(self) -> int:
        """Deliveries that were not acked, nacked or rejected yet."""
        return self._unacked.total

    @property
    def consumer_count(self) -> int:
        return len(self._consumers)

    def queue_of(self, consumer_tag: str) -> str:
        """The queue that a consumer takes from, '' if that is not known."""
        return self._consumers.queue_of(name('consumer_tag', consumer_tag))

    @property
    def has_callbacks(self) -> bool:
        """Whether a consumer of this channel hands its messages to a callback in drain_events."""
        return self._consumers.with_callback > 0

    def oldest_unsettled(self) -> tuple[int, str, float] | None:
        """(delivery tag, consumer tag, time.monotonic() of its arrival) of the delivery that waits longest."""
        return self._unacked.oldest()

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool, argsig: object = None) -> None:
        """Limit the unacked deliveries of each consumer to come, or with *a_global* of the whole channel.

        prefetch_count: messages, 0 for no limit. prefetch_size: must be 0; RabbitMQ
        has no limit in bytes, so AMQPNotImplementedError is raised for another.
        A consumer keeps the limit that held when it began: to give it another, call
        this, start a second consumer on the queue and cancel the first. Say False
        for *a_global*: quorum queues and streams have no limit for a channel. RabbitMQ
        before 4.3 ends the connection when one is then consumed from; where it is
        known to be one, AMQPNotImplementedError is raised before anything is sent.
        RabbitMQ 4.3 quietly takes it for a limit per consumer.
        https://www.rabbitmq.com/docs/consumer-prefetch
        """
        prefetch_count = PREFETCH_COUNT('prefetch_count', prefetch_count)
        if WHOLE('prefetch_size', prefetch_size):
            raise exceptions.AMQPNotImplementedError(
                f'prefetch_size must be 0, not {prefetch_size}: RabbitMQ limits messages, not bytes', Basic.Qos
            )
        self._check(Basic.Qos)
        before = self._prefetch_wanted, self._prefetch_sent
        if a_global:
            self._altered = True
            self._limits_channel = self.limit_watched = prefetch_count
        else:
            self._prefetch_wanted = self._prefetch_sent = prefetch_count
        try:
            self._call(Basic.Qos, (prefetch_size, prefetch_count, a_global))
        except exceptions.EncodeError:
            self._prefetch_wanted, self._prefetch_sent = before
            raise

    def _use_prefetch(self, count: int) -> None:
        """Have the consumer that is started next get this prefetch. Does not switch."""
        if count != (self._prefetch_sent or 0):
            self._call(Basic.Qos, (0, count, False), wait=False)
            self._prefetch_sent = count

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
        self._check_queue(consumer, queue, self._prefetch_wanted, arguments)
        if callback is None:
            warnings.warn(_NO_CALLBACK.format('lost' if no_ack else 'unsettled'), UserWarning, stacklevel=2)
        self._watch(consumer, self._prefetch_wanted)
        if self._prefetch_sent is not None:
            self._use_prefetch(self._prefetch_wanted)
        self._begin_consumer(consumer, queue, no_local, exclusive, nowait, arguments)
        return tag

    def _watch(self, consumer: ConsumerRecord, prefetch: int) -> None:
        """Say in the log when messages that nobody settles use up the prefetch. Does not switch."""
        if not consumer.no_ack:
            consumer.watched = prefetch
            self.has_watched = True
            self._connection.watch_unsettled()

    def _begin_consumer(
        self, consumer: ConsumerRecord, queue: str, no_local: bool, exclusive: bool, nowait: bool, arguments: Arguments
    ) -> None:
        """Enter a consumer, tell the broker, and wait for its consent."""
        tag = consumer.tag
        self._check(Basic.Consume)
        self._connection.check_taking()
        if tag in self._consumers:
            raise exceptions.NotAllowed(f'consumer tag {tag!r} is in use on this channel', Basic.Consume)
        # Entered first: a delivery may come in the same packet as consume-ok.
        consumer.era = self._era
        if consumer.inbox is not None:
            consumer.inbox.term = self.term
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
            self._connection.queue_types.is_stream(consumer.queue)

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
        connection.check_thread()
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
                self.await_reply(expected, Basic.Cancel, None)
        finally:
            consumer.discard = not consumer.no_ack
        if not connection.callbacks_around():
            connection.hand_out(consumer, connection.rpc_timeout)

    def _cancel(self, tag: str, wait: bool, timeout: float | None = None) -> None:
        self._check(Basic.Cancel)
        consumer = self._consumers.get(tag)
        # The wire's nowait is never used: cancel-ok tells when the last delivery has passed.
        expected = self._ask_to_cancel(tag, wait)
        # After the cancel on the wire, or the broker would deliver to this consumer again what it gets back.
        if consumer is not None:
            self._stop_taking(consumer)
        if wait:
            self.await_reply(expected, Basic.Cancel, timeout, goodbye=timeout is None)

    def end_consumer(self, consumer: ConsumerRecord, wait: bool, timeout: float | None = None) -> None:
        """basic_cancel for a consumer of our own kind. Without *wait* it does not switch and raises nothing."""
        if wait:
            self._cancel(consumer.tag, True, timeout)
        elif self._consumers.get(consumer.tag) is consumer and self._usable:
            self._ask_to_cancel(consumer.tag)
            self._stop_taking(consumer)

    def inboxes(self) -> list[Any]:
        """Those of the consumers of our own kind."""
        return list(self._consumers.inboxes.values())

    def ask_to_cancel_all(self) -> Iterator[Expected | None]:
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
            budget = self._connection.budget
            before = budget.messages
            self._stop_taking(consumer)
            yield expected
            yield from itertools.repeat(None, max(0, before - budget.messages))

    def _ask_to_cancel(self, tag: str, wait: bool = False) -> Expected:
        slot = green.Slot(self._connection.green) if wait else None
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
            self._connection.withdraw(consumer)
            return
        overflow = self._connection.overflow
        if overflow is not None:
            overflow.withdraw(consumer)
        consumer.inbox.withdraw(give_back=not consumer.no_ack)

    def _on_cancel_ok(self, reply: Any) -> None:
        consumer = self._consumers.leave(reply[0])
        if consumer is not None:
            if consumer.inbox is not None:
                consumer.inbox.finish(None)
            else:
                self.close_books(consumer)

    def basic_get(self, queue: str = '', no_ack: bool = False, argsig: object = None) -> Message | None:
        """Fetch one message. Returns a Message, or None when the queue is empty.

        A caller that is killed while it waits gives the message back to the queue.
        Streams have consumers only: AMQPNotImplementedError, before anything is sent
        where the queue is known to be one.
        """
        queue = name('queue', queue)
        self._connection.queue_types.check_get(queue or self._declared)
        if no_ack:
            reply = self._call(Basic.Get, (0, queue, no_ack))
        else:
            reply = self._call(Basic.Get, (0, queue, no_ack), self._note_got, self._give_back_got)
        return None if isinstance(reply, tuple) else reply  # a tuple is get-empty

    def _note_got(self, reply: Any) -> None:
        if not isinstance(reply, tuple):
            self._unacked[reply.delivery_tag] = ('', self._connection.link.heartbeat_clock.heard_at)

    def _give_back_got(self, reply: Any) -> None:
        if not isinstance(reply, tuple):
            self.give_back(reply)

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: object = None) -> None:
        """Acknowledge a delivery, and with *multiple* all up to it (tag 0: all).

        Those of them that still wait here are settled too, and are not handed out any more.
        """
        if not self._usable or get_ident() != self._thread:
            self._check(Basic.Ack)
        self._writer.send(encode_ack(self.channel_id, delivery_tag, multiple))
        if multiple:
            self._cover(delivery_tag)
        unsettled = self._unacked
        if multiple or unsettled.late is not None:
            self._counts.acked += unsettled.settle(delivery_tag, multiple)
            return
        try:
            del unsettled[delivery_tag]  # as ``settle``, without another call for each message
        except KeyError:
            unsettled.strays = True
        else:
            self._counts.acked += 1

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse deliveries: back to the queue, or without *requeue* dropped or dead-lettered (RabbitMQ extension).

        multiple: as basic_ack. A stream takes nothing back, and RabbitMQ before 3.13 ends the connection
        over it: AMQPNotImplementedError then, and nothing was sent. Ack what was read.
        """
        if not self._usable or get_ident() != self._thread:
            self._check(Basic.Nack)
        if self._streams is not None:
            self._check_refusing(delivery_tag, multiple, Basic.Nack)
        self._writer.send(encode_nack(self.channel_id, delivery_tag, multiple, requeue))
        if multiple:
            self._cover(delivery_tag)
        self._counts.rejected += self._unacked.settle(delivery_tag, multiple)

    def _cover(self, tag: int) -> None:
        """A settlement with *multiple*: those of its deliveries that still wait here are not handed out any more."""
        if self._unacked.is_outgrown:
            self._replace_unsettled()
        self._settled_to = max(self._settled_to, tag or self._unacked.latest())
        if self._connection.budget.messages:
            self._doubt()

    def _replace_unsettled(self) -> None:
        old = self._unacked
        self._unacked = old.successor()
        self._unacked.forget_settled(old)

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: object = None) -> None:
        """Refuse one delivery; as basic_nack, with the method of the AMQP standard. Errors as there."""
        if not self._usable or get_ident() != self._thread:
            self._check(Basic.Reject)
        if self._streams is not None:
            self._check_refusing(delivery_tag, False, Basic.Reject)
        self._writer.send(encode_reject(self.channel_id, delivery_tag, requeue))
        self._counts.rejected += self._unacked.settle(delivery_tag, False)

    def basic_recover(self, requeue: bool = False) -> None:
        """Have all unacked deliveries of this channel delivered again.

        Those that wait here are dropped, and acks and the like of messages that were
        handed out before do nothing: the broker has taken them back.
        requeue: must be True with RabbitMQ, which does not know the other way:
        AMQPNotImplementedError is raised instead of letting it close the connection,
        also by RabbitMQ before 3.13 on a channel that reads a stream.
        """
        self._check_recover(requeue, Basic.Recover)
        self._check(Basic.Recover)
        expected = Expected((Basic.RecoverOk,), green.Slot(self._connection.green), self._on_recover_ok)
        self._ask(Basic.Recover, (requeue,), expected)
        self.incarnation += 1  # what was delivered up to now; what comes before recover-ok belongs to that
        self._forget_unsettled()
        self.await_reply(expected, Basic.Recover, None)

    def _on_recover_ok(self, reply: Any) -> None:
        self._arriving += 1
        self._forget_unsettled()

    def _doubt(self) -> None:
        """From now on each message that waits here is asked about, see ``is_void``."""
        self.doubtful = self._connection.doubtful = True

    def _forget_unsettled(self) -> None:
        """The broker has them; they come again under new tags. Does not switch."""
        self._doubt()
        self._connection.forget_unsettled(self, list(self._consumers.values()))
        self._unacked.clear()

    def basic_recover_async(self, requeue: bool = False) -> None:
        """basic_recover without waiting for the reply; there is none. Does not switch."""
        self._check_recover(requeue, Basic.RecoverAsync)
        self._send(Basic.RecoverAsync, (requeue,))
        self.incarnation += 1
        self._arriving += 1  # at once, since nothing tells where the old deliveries end
        self._forget_unsettled()

    def _check_recover(self, requeue: bool, sig: tuple[int, int]) -> None:
        product = self._connection.server_properties.get('product')
        if not requeue and product == 'RabbitMQ':
            raise exceptions.AMQPNotImplementedError('RabbitMQ recovers with requeue=True only', sig)
        if self._streams is not None:
            self._check_recovering(sig)


def _brings_work(consumer: ConsumerRecord) -> bool:
    return consumer.inbox is None or bool(consumer.inbox.brings_work)
