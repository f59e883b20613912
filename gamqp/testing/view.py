"""What a test sees of the broker: messages, queues, connections.

Layer 5. Views read the state under the broker's lock, each time anew; messages are copies that do not change.
Does not belong here: changing anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .state.channel import Delivery
from .state.consumers import QueueConsumer
from .state.message import Entry, StoredMessage
from .state.queue import Queue
from .state.session import Session

__all__ = ('ConnectionView', 'ConsumerView', 'QueueView', 'SeenMessage')

Name = str | bytes


@dataclass(frozen=True)
class SeenMessage:
    """A message.

    body: as it is on the wire. exchange, routing_key: what it was published to. properties: those that are present,
    by py-amqp's names, without the headers. headers: those. redelivered: whether it was delivered before.
    """

    body: bytes
    exchange: Name
    routing_key: Name
    properties: dict[str, Any] = field(default_factory=dict)
    headers: dict[Any, Any] = field(default_factory=dict)
    redelivered: bool = False

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode('utf-8', 'replace')

    def __str__(self) -> str:
        body = self.body if len(self.body) <= 60 else self.body[:57] + b'...'
        headers = f', headers {self.headers}' if self.headers else ''
        return f'{body!r} to {self.exchange!r} with key {self.routing_key!r}{headers}'


def seen(message: StoredMessage, redelivered: bool = False) -> SeenMessage:
    """A message as tests see it."""
    properties = dict(message.properties)
    headers = dict(properties.pop('application_headers', None) or {})
    return SeenMessage(message.body, message.exchange, message.routing_key, properties, headers, redelivered)


def _seen_entry(entry: Entry) -> SeenMessage:
    return seen(entry.shown, entry.redelivered)


class ConsumerView:
    """A consumer. Give it to ``broker.cancel``.

    tag, queue, channel: its name, that of its queue, the number of its channel. no_ack, exclusive, prefetch, priority,
    arguments: as it was started.
    """

    __slots__ = ('__dict__', '_lock')  # see IOThread

    def __init__(self, lock: Any, consumer: QueueConsumer) -> None:
        self._lock = lock
        self._consumer = consumer
        self.tag = consumer.tag
        self.queue = consumer.queue.name
        self.channel = consumer.channel.id
        self.no_ack = consumer.no_ack
        self.exclusive = consumer.exclusive
        self.prefetch = consumer.prefetch
        self.priority = consumer.priority
        self.arguments = dict(consumer.arguments)

    def __repr__(self) -> str:
        return f'<ConsumerView {self.tag!r} of {self.queue!r}>'

    @property
    def unacked(self) -> int:
        """How many messages it holds."""
        with self._lock:
            return self._consumer.unacked

    @property
    def active(self) -> bool:
        """Whether it gets messages: with a single active consumer only one does."""
        with self._lock:
            consumers = self._consumer.queue.consumers
            return not consumers.single or consumers.active is self._consumer


class QueueView:
    """A queue that exists, or existed. name, kind ('classic', 'quorum', 'stream'), durable, exclusive, auto_delete,
    arguments: as it was declared."""

    __slots__ = ('__dict__', '_lock')  # see IOThread

    def __init__(self, lock: Any, queue: Queue) -> None:
        self._lock = lock
        self._queue = queue
        self.name = queue.name
        self.kind = queue.kind
        self.durable = queue.durable
        self.exclusive = queue.exclusive
        self.auto_delete = queue.auto_delete
        self.arguments = dict(queue.arguments)

    def __repr__(self) -> str:
        return f'<QueueView {self.name!r}: {len(self)} ready>'

    def __len__(self) -> int:
        with self._lock:
            return self._queue.message_count

    @property
    def exists(self) -> bool:
        """False once it was deleted."""
        with self._lock:
            return not self._queue.deleted

    @property
    def messages(self) -> list[SeenMessage]:
        """What is ready to be delivered, the next one first."""
        with self._lock:
            return [_seen_entry(entry) for entry in self._queue.entries()]

    @property
    def unacked(self) -> list[SeenMessage]:
        """What was delivered, or fetched, and is not acked."""
        with self._lock:
            return [_seen_entry(delivery.entry) for delivery in self._deliveries()]

    def _deliveries(self) -> Iterator[Delivery]:
        for session in self._queue.host.server.sessions:
            for channel in session.channels.values():
                for delivery in channel.unacked.values():
                    if delivery.queue is self._queue:
                        yield delivery

    @property
    def consumers(self) -> list[ConsumerView]:
        """Who consumes."""
        with self._lock:
            return [ConsumerView(self._lock, one) for one in self._queue.consumers]

    @property
    def bindings(self) -> list[tuple[Name, Name]]:
        """(exchange, routing key) of each binding."""
        with self._lock:
            bindings = self._queue.host.bindings_to('queue', self.name)
            return sorted(((one.source, one.routing_key) for one in bindings), key=str)

    @property
    def leader(self) -> str:
        """The name of the node that it lives on."""
        with self._lock:
            return str(self._queue.leader.name) if self._queue.leader is not None else ''


class ConnectionView:
    """A connection. Give it to the faults that concern one connection.

    tls: whether it uses TLS.
    """

    __slots__ = ('__dict__', '_lock')  # see IOThread

    def __init__(self, lock: Any, session: Session) -> None:
        self._lock = lock
        self._session = session
        #: 'client address:port -> broker address:port', as RabbitMQ names it.
        self.name = session.name
        self.tls = session.tls

    def __repr__(self) -> str:
        return f'<ConnectionView {self.name}>'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConnectionView) and other._session is self._session

    def __hash__(self) -> int:
        return hash(self._session)

    @property
    def open(self) -> bool:
        """Whether it is open: after the handshake and before its end."""
        with self._lock:
            return self._session.phase.name == 'RUNNING'

    @property
    def user(self) -> str:
        """Who has logged in."""
        with self._lock:
            return getattr(getattr(self._session, 'user', None), 'name', '')

    @property
    def vhost(self) -> str:
        """The virtual host."""
        with self._lock:
            return '' if self._session.vhost is None else self._session.vhost.name

    @property
    def client_properties(self) -> dict[Any, Any]:
        """What the client says of itself."""
        with self._lock:
            return dict(self._session.client_properties)

    @property
    def channels(self) -> list[int]:
        """The numbers of the open channels."""
        with self._lock:
            return sorted(number for number, one in self._session.channels.items() if not one.closing)

    @property
    def heartbeat(self) -> int:
        """Seconds, as negotiated; 0: none."""
        with self._lock:
            return self._session.heartbeat

    @property
    def blocked(self) -> bool:
        """Whether connection.blocked was sent to it and not taken back."""
        with self._lock:
            return self._session.blocked

    @property
    def unacked(self) -> int:
        """How many messages it holds."""
        with self._lock:
            return sum(len(channel.unacked) for channel in self._session.channels.values())

    @property
    def close_reason(self) -> tuple[int, str] | None:
        """(code, text) with which it was closed, by either side; None while it is open, or when it was cut."""
        with self._lock:
            return self._session.close_reason
