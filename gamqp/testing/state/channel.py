"""One channel of a client: what it consumes, holds and has published.

Layer 5, pure. The handlers of methods are in ``exchange_methods``, ``queue_methods``, ``basic_methods`` and
``transactions``. Does not belong here: frames of the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from ...wire import encode_method, spec
from .ack_timeout import AckTimeout, ack_limit
from .consumers import QueueConsumer
from .direct_reply import ReplyConsumer
from .errors import Refusal, closing_text, precondition_failed
from .message import Entry, StoredMessage
from .publishing import PublishConfirms
from .queue import Outcome, Queue

if TYPE_CHECKING:
    from .exchange import Exchange
    from .session import Session
    from .transactions import Transaction

__all__ = ('Delivery', 'ServerChannel')

Name = str | bytes

_METHOD_FRAME = Struct('>BHIHH')
_TAG = Struct('>QB')
_END = bytes([spec.FRAME_END])


class Delivery:
    """A message that waits for its ack. consumer: None where basic.get has fetched it."""

    __slots__ = ('consumer', 'due', 'entry', 'lost', 'queue', 'tag')

    def __init__(self, tag: int, entry: Entry, queue: Queue, consumer: QueueConsumer | None) -> None:
        self.tag = tag
        self.entry = entry
        self.queue = queue
        self.consumer = consumer
        #: Whether the queue has it back already, because its node was lost or the ack is late: an ack means
        #: nothing then.
        self.lost = False
        #: When it is late, see ``ack_timeout``; None: never.
        self.due: float | None = None


class ServerChannel:
    """One open channel."""

    def __init__(self, session: Session, number: int) -> None:
        assert session.vhost is not None
        self.id = number
        self.session = session
        self.server = session.server
        self.vhost = session.vhost
        #: After a channel.close was sent: everything is ignored until it is answered.
        self.closing = False
        #: Set by faults: no deliveries, and methods wait in ``waiting``.
        self.held = False
        self.waiting: deque[Any] = deque()
        #: Set while a method is handled whose replies are dropped.
        self.muted = False
        self.consumers: dict[Name, QueueConsumer] = {}
        self.reply_consumer: ReplyConsumer | None = None
        self.unacked: dict[int, Delivery] = {}
        self.next_tag = 1
        self.prefetch = 0
        self.global_prefetch = 0
        self._taken = 0  # of unacked, those of consumers
        self._ack_timeout = AckTimeout(self)
        self.confirms: PublishConfirms | None = None
        self.transaction: Transaction | None = None
        #: What '' means as the name of a queue.
        self.last_queue: Name = ''

    def __repr__(self) -> str:
        return f'<ServerChannel {self.id} of {self.session.name}>'

    # Sending.

    def reply(self, sig: spec.Sig, *args: Any) -> None:
        """Send a method, unless replies are dropped."""
        if not self.muted:
            self.session.send(encode_method(self.id, sig, args))

    def notify_cancelled(self, consumer: QueueConsumer) -> None:
        """Send basic.cancel, to a client that wants to know."""
        if not self.closing and self.session.takes('consumer_cancel_notify'):
            self.session.send(encode_method(self.id, spec.Basic.Cancel, (consumer.tag, True)))

    def demand(self, permission: str, kind: str, name: Name) -> None:
        """Raise a Refusal unless the user may do this."""
        names_permission = self.server.version.names_permission
        self.session.user.demand(permission, self.vhost.name, kind, name, names_permission)

    def demand_topic(self, permission: str, exchange: Exchange, key: Name) -> None:
        """Raise a Refusal unless the user may do this with a routing key, where the exchange is a topic exchange."""
        if exchange.type == 'topic':
            names_permission = self.server.version.names_permission
            self.session.user.demand_topic(permission, self.vhost.name, exchange.name, key, names_permission)

    # Deliveries.

    def has_room(self) -> bool:
        """Whether the prefetch of the whole channel allows one more message."""
        return not self.global_prefetch or self._taken < self.global_prefetch

    def deliver(self, consumer: QueueConsumer, entry: Entry) -> None:
        """Send a message to a consumer."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not consumer.no_ack:
            queue = consumer.queue
            self.unacked[tag] = delivery = Delivery(tag, entry, queue, consumer)
            if consumer.ack_limit is not None:
                self._ack_timeout.watch(delivery, consumer.ack_limit)
            consumer.unacked += 1
            queue.unacked += 1
            self._taken += 1
        self._send_delivery(consumer.prefix, tag, entry.redelivered, entry.shown)

    def deliver_reply(self, message: StoredMessage) -> None:
        """Send a direct reply."""
        assert self.reply_consumer is not None
        tag = self.next_tag
        self.next_tag = tag + 1
        self._send_delivery(self.reply_consumer.prefix, tag, False, message)

    def _send_delivery(self, prefix: bytes, tag: int, redelivered: bool, message: StoredMessage) -> None:
        address = message.address
        session = self.session
        session.send(
            b''.join(
                (
                    _METHOD_FRAME.pack(1, self.id, len(prefix) + len(address) + 13, 60, 60),
                    prefix,
                    _TAG.pack(tag, redelivered),
                    address,
                    _END,
                    *message.frames(self.id, session.frame_max),
                )
            )
        )

    def fetched(self, queue: Queue, entry: Entry, no_ack: bool) -> int:
        """basic.get has fetched a message. Returns its delivery tag."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not no_ack:
            self.unacked[tag] = delivery = Delivery(tag, entry, queue, None)
            limit = ack_limit(self.server, queue, None)
            if limit is not None:
                self._ack_timeout.watch(delivery, limit)
            queue.unacked += 1
        return tag

    # Acks.

    def take_unacked(self, tag: int, multiple: bool) -> list[Delivery]:
        """Take the deliveries that an ack names, oldest first. Raises a Refusal for a tag that is not known."""
        if not multiple:
            delivery = self.unacked.pop(tag, None)
            if delivery is None:
                raise precondition_failed(f'unknown delivery tag {tag}')
            return [delivery]
        if tag and tag not in self.unacked:
            raise precondition_failed(f'unknown delivery tag {tag}')
        taken = []
        for number in list(self.unacked):
            if tag and number > tag:
                break
            taken.append(self.unacked.pop(number))
        return taken

    def settle(self, deliveries: Sequence[Delivery], outcome: Outcome) -> None:
        """Give deliveries back to their queues, and messages to the consumers that have room again."""
        if len(deliveries) == 1 and not self.global_prefetch:
            delivery = deliveries[0]
            if not delivery.lost:
                self._let_go(delivery)
                delivery.queue.settle((delivery.entry,), outcome)
            return
        by_queue: dict[Queue, list[Entry]] = {}
        for delivery in deliveries:
            if not delivery.lost:
                by_queue.setdefault(delivery.queue, []).append(delivery.entry)
                self._let_go(delivery)
        if self.global_prefetch:
            for consumer in self.consumers.values():
                if consumer.blocked:
                    consumer.queue.unblock(consumer)
                    by_queue.setdefault(consumer.queue, [])
        for queue, entries in by_queue.items():
            queue.settle(entries, outcome)

    def _let_go(self, delivery: Delivery) -> None:
        queue, consumer = delivery.queue, delivery.consumer
        queue.unacked -= 1
        if consumer is not None:
            consumer.unacked -= 1
            self._taken -= 1
            if consumer.blocked:
                queue.unblock(consumer)

    def lose(self, queue: Queue) -> None:
        """The node of a queue is lost: the queue has its messages back, whatever the client answers."""
        for delivery in self.unacked.values():
            if delivery.queue is queue and not delivery.lost:
                self._let_go(delivery)
                delivery.lost = True
                delivery.entry.redelivered = True
                queue.ready.put_back(delivery.entry)

    def give_up(self, consumer: QueueConsumer) -> None:
        """A consumer has not acked in time: it is cancelled, and its queue has all back that it holds."""
        self.consumers.pop(consumer.tag, None)
        self.notify_cancelled(consumer)
        consumer.queue.consumers.remove(consumer)
        held = [one for one in self.unacked.values() if one.consumer is consumer and not one.lost]
        for delivery in held:
            self._let_go(delivery)
            delivery.lost = True
        consumer.queue.settle([delivery.entry for delivery in held], Outcome.NACK)
        consumer.queue.remove_consumer(consumer)

    def resume(self) -> None:
        """Deliver what could not be delivered: the limits have changed, or the connection has room again."""
        for consumer in list(self.consumers.values()):
            if consumer.blocked:
                consumer.queue.unblock(consumer)
        for queue in {consumer.queue: None for consumer in self.consumers.values()}:
            if not queue.deleted:
                queue.deliver()

    # The end.

    def close(self, refusal: Refusal, sig: spec.Sig) -> None:
        """Close it because of an error: what it holds goes back to the queues."""
        self.session.flush_confirms()
        self.shut()
        self.closing = True
        self.session.send(encode_method(self.id, spec.Channel.Close, (refusal.code, closing_text(refusal), *sig)))

    def shut(self) -> None:
        """End consumers, give back what is unacked. Idempotent."""
        self._ack_timeout.stop()
        consumers, self.consumers = list(self.consumers.values()), {}
        if self.reply_consumer is not None:
            self.server.reply_channels.pop(self.reply_consumer.key, None)
            self.reply_consumer = None
        self.waiting.clear()
        deliveries = list(self.unacked.values())
        if self.transaction is not None:
            deliveries = sorted([*deliveries, *self.transaction.settled()], key=lambda one: one.tag)
            self.transaction = None
        self.unacked.clear()
        # Taken out of the line first, so that what is given back does not go to them again.
        for consumer in consumers:
            consumer.queue.consumers.remove(consumer)
        self.settle(deliveries, Outcome.RETURN)
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
