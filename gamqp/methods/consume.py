"""Class basic, the receiving side: qos, consume, cancel, get, ack, nack, reject, recover.

Errors and switching: see ``gamqp.methods``. The settling calls (ack, nack,
reject) only hand a frame to the writer and never switch greenlets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import exceptions
from ..calls import Caller
from ..state.consumers import Consumer, Consumers
from ..state.replies import Expected
from ..wire import encode_ack, encode_nack, encode_reject
from ..wire.spec import Basic

__all__ = ('ConsumeMethods',)

Arguments = dict[str, Any] | None


class ConsumeMethods(Caller):
    """Mixin of Channel."""

    _consumers: Consumers
    _usable: bool
    _writer: Any

    @property
    def is_open(self) -> bool:
        raise NotImplementedError

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool, argsig: Any = None) -> None:
        """Limit the unacked deliveries of each consumer to come, or with *a_global* of the whole channel.

        prefetch_count: messages, 0 for no limit. prefetch_size: must be 0; RabbitMQ
        has no limit in bytes, so AMQPNotImplementedError is raised for another.
        A consumer keeps the limit that held when it began: to give it another, call
        this, start a second consumer on the queue and cancel the first. Say False
        for *a_global*: RabbitMQ 3 ends the connection when a quorum queue or stream
        is then consumed from (AMQPNotImplementedError), and RabbitMQ 4.3 takes it
        for a limit per consumer.
        https://www.rabbitmq.com/docs/consumer-prefetch
        """
        if prefetch_size:
            raise exceptions.AMQPNotImplementedError(
                f'prefetch_size must be 0, not {prefetch_size}: RabbitMQ limits messages, not bytes', Basic.Qos
            )
        self._call(Basic.Qos, (prefetch_size, prefetch_count, a_global))

    def basic_consume(
        self,
        queue: str = '',
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callable[[Any], Any] | None = None,
        arguments: Arguments = None,
        on_cancel: Callable[[str], Any] | None = None,
        argsig: Any = None,
    ) -> str:
        """Start a consumer; its messages go to *callback*, called inside Connection.drain_events.

        consumer_tag: '' chooses a fresh one. callback: takes a Message; None drops
        the messages. on_cancel: takes the consumer tag when the broker cancels
        the consumer; without it drain_events raises ConsumerCancelled then.
        arguments: e.g. {'x-priority': 5}. Returns the consumer tag. A caller that
        is killed while it waits leaves no consumer behind. Raises NotAllowed for
        a tag that this channel already uses.
        """
        tag = consumer_tag or self._consumers.fresh_tag(self.channel_id)
        self._check(Basic.Consume)
        if tag in self._consumers:
            raise exceptions.NotAllowed(f'consumer tag {tag!r} is in use on this channel', Basic.Consume)
        consumer = Consumer(tag, callback, on_cancel, no_ack)
        # Entered first: a delivery may come in the same packet as consume-ok.
        self._consumers[tag] = consumer
        try:
            self._request(
                Basic.Consume,
                (0, queue, tag, no_local, no_ack, exclusive, nowait, arguments),
                nowait,
                undo=lambda reply: self._give_up_consumer(consumer),
                tag=tag,
            )
        except exceptions.EncodeError:
            del self._consumers[tag]
            raise
        except BaseException:
            # consume-ok may still come; what is delivered before it is given back.
            consumer.discard = True
            raise
        return tag

    def _give_up_consumer(self, consumer: Consumer) -> None:
        """consume-ok has come, its caller has gone: cancel what nobody knows of."""
        consumer.discard = True
        if self._consumers.get(consumer.tag) is consumer and self.is_open:
            expected = Expected((Basic.CancelOk,), None, self._on_cancel_ok, tag=consumer.tag)
            self._ask(Basic.Cancel, (consumer.tag, False), expected)

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, argsig: Any = None) -> None:
        """Stop a consumer; no callback of it runs any more after this.

        Messages that had arrived but had not reached the callback go back to the
        queue; those of a no_ack consumer, which the broker has forgotten, are
        still handed out by drain_events. nowait: do not wait for the broker.
        """
        consumer = self._consumers.get(consumer_tag)
        self._check(Basic.Cancel)
        if consumer is not None and not consumer.no_ack:
            consumer.discard = True
            self._root().withdraw(consumer)
        # The wire's nowait is never used: cancel-ok tells when the last delivery has passed.
        self._call(Basic.Cancel, (consumer_tag, False), self._on_cancel_ok, wait=not nowait, tag=consumer_tag)

    def _on_cancel_ok(self, reply: Any) -> None:
        self._consumers.leave(reply[0])

    def basic_get(self, queue: str = '', no_ack: bool = False, argsig: Any = None) -> Any:
        """Fetch one message. Returns a Message, or None when the queue is empty.

        A caller that is killed while it waits gives the message back to the queue.
        """
        undo = None if no_ack else self._requeue
        reply = self._call(Basic.Get, (0, queue, no_ack), undo=undo)
        if isinstance(reply, tuple):  # get-empty
            return None
        return reply

    def _requeue(self, message: Any) -> None:
        if not isinstance(message, tuple) and self.is_open:
            self._root().link.writer.send(encode_reject(self.channel_id, message.delivery_tag, True))

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: Any = None) -> None:
        """Acknowledge a delivery, and with *multiple* all up to it (tag 0: all)."""
        if not self._usable:
            self._check(Basic.Ack)
        self._writer.send(encode_ack(self.channel_id, delivery_tag, multiple))

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse deliveries: back to the queue, or without *requeue* dropped or dead-lettered (RabbitMQ extension)."""
        if not self._usable:
            self._check(Basic.Nack)
        self._writer.send(encode_nack(self.channel_id, delivery_tag, multiple, requeue))

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: Any = None) -> None:
        """Refuse one delivery; as basic_nack, with the method of the AMQP standard."""
        if not self._usable:
            self._check(Basic.Reject)
        self._writer.send(encode_reject(self.channel_id, delivery_tag, requeue))

    def basic_recover(self, requeue: bool = False) -> None:
        """Have all unacked deliveries of this channel delivered again.

        requeue: must be True with RabbitMQ, which does not know the other way:
        AMQPNotImplementedError is raised instead of letting it close the connection.
        """
        self._check_recover(requeue, Basic.Recover)
        self._call(Basic.Recover, (requeue,))

    def basic_recover_async(self, requeue: bool = False) -> None:
        """basic_recover without waiting for the reply; there is none. Does not switch."""
        self._check_recover(requeue, Basic.RecoverAsync)
        self._send(Basic.RecoverAsync, (requeue,))

    def _check_recover(self, requeue: bool, sig: tuple[int, int]) -> None:
        product = self._root().server_properties.get('product')
        if not requeue and product == 'RabbitMQ':
            raise exceptions.AMQPNotImplementedError('RabbitMQ recovers with requeue=True only', sig)
