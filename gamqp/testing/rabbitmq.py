"""``RabbitMQ``: a virtual host of a real broker, seen by a test in the way of ``Broker``.

Layer 5. What is published is known by RabbitMQ's message tracing. Does not belong here: starting a broker, see
``rabbitmq_node``; faults.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .. import Connection, Message, NotFound, Returned, connect
from .assertions import Assertions
from .io.pause import wait_until
from .management import Management
from .view import SeenMessage

__all__ = ('RabbitMQ', 'RabbitMQConnection', 'RabbitMQQueue')

Name = str | bytes
_T = TypeVar('_T')
_POLL = 0.02  # seconds between two looks of wait_until
_TRACE = 'gamqp.testing.published'


@dataclass(frozen=True)
class RabbitMQConnection:
    """An open connection, as the management plugin knows it.

    name, user: 'address:port -> address:port', and who has logged in. client_properties: what the client says of
    itself.
    """

    name: str
    user: str
    client_properties: dict[str, Any] = field(default_factory=dict)


class RabbitMQQueue:
    """A queue of a real broker. name: what it is called. The others are asked for anew each time."""

    def __init__(self, broker: RabbitMQ, name: str) -> None:
        self._broker = broker
        self.name = name

    def __repr__(self) -> str:
        return f'<RabbitMQQueue {self.name!r}>'

    def __len__(self) -> int:
        """How many messages are ready."""
        return self._broker._counts(self.name)[0]

    @property
    def exists(self) -> bool:
        """False once it was deleted."""
        try:
            self._broker._counts(self.name)
        except LookupError:
            return False
        return True

    @property
    def consumer_count(self) -> int:
        """How many consume."""
        return self._broker._counts(self.name)[1]

    @property
    def messages(self) -> list[SeenMessage]:
        """What is ready to be delivered, the next one first. It is fetched and put back: redelivered."""
        return self._broker._peek(self.name)

    @property
    def unacked(self) -> list[None]:
        """An entry for each message that is not acked, up to a second late; what it is RabbitMQ does not tell."""
        queue = self._broker.management.get(f'queues/{self._broker._quoted_vhost}/{quote(self.name, safe="")}')
        return [None] * int(queue.get('messages_unacknowledged') or 0)


class RabbitMQ(Assertions):
    """A virtual host of its own on a real RabbitMQ, from ``start`` (or ``with``) to ``stop``.

    url: of the broker, with a user who may administrate. management: URL of the management plugin, which makes the
    virtual host; None: the variable AMQP_MANAGEMENT_URL, else port 15672 of the same host.
    All calls block, and in a hub of gevent or eventlet only the calling greenlet if the process is patched.
    """

    def __init__(self, url: str, management: str | Management | None = None) -> None:
        self._parts = urlsplit(url)
        user, password = unquote(self._parts.username or 'guest'), unquote(self._parts.password or 'guest')
        if not isinstance(management, Management):
            where = management or os.environ.get('AMQP_MANAGEMENT_URL') or f'http://{self._parts.hostname}:15672'
            management = Management(where, user, password)
        self.management = management
        self._user = user
        #: The name of the virtual host.
        self.vhost = f'gamqp.testing.{uuid.uuid4().hex[:12]}'
        self._quoted_vhost = quote(self.vhost, safe='')
        #: Such as 'rabbitmq-4.3.6', from ``start`` on.
        self.like = ''
        self._connection: Connection | None = None
        # What ``publish`` has published: it is traced, and not what the test asks for.
        self._own: list[tuple[str, str, bytes]] = []

    def __repr__(self) -> str:
        return f'<RabbitMQ {self.like} at {self._parts.hostname}:{self._parts.port or 5672}, {self.vhost}>'

    @property
    def url(self) -> str:
        """The AMQP URL of the virtual host."""
        return urlunsplit(self._parts._replace(path=f'/{self._quoted_vhost}'))

    def start(self) -> RabbitMQ:
        """Make the virtual host. Raises OSError, ManagementError when there is no management plugin to do it."""
        self.management.put(f'vhosts/{self._quoted_vhost}', tracing=True)
        everything = dict.fromkeys(('configure', 'write', 'read'), '.*')
        try:
            self.management.put(f'permissions/{self._quoted_vhost}/{quote(self._user, safe="")}', **everything)
            self._connection = connection = connect(self.url, name='gamqp.testing')
            self.like = f'rabbitmq-{connection.server_properties["version"]}'
            channel = connection.channel()
            channel.queue_declare(_TRACE, durable=True, auto_delete=False)
            channel.queue_bind(_TRACE, 'amq.rabbitmq.trace', 'publish.#')
            channel.close()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Delete the virtual host, which closes its connections. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.management.delete(f'vhosts/{self._quoted_vhost}')

    def __enter__(self) -> RabbitMQ:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Seen from the test.

    @property
    def connections(self) -> list[RabbitMQConnection]:
        """The open connections but that of this object; a new one is there within some seconds."""
        found = self.management.get(f'vhosts/{self._quoted_vhost}/connections')
        return [
            RabbitMQConnection(one['name'], one.get('user', ''), one['client_properties'])
            for one in found
            if one.get('client_properties', {}).get('connection_name') != 'gamqp.testing' and 'name' in one
        ]

    def queue(self, name: Name, vhost: str = '/') -> RabbitMQQueue:  # type: ignore[override]
        """A queue. Raises LookupError if it is not there. vhost: '/' is the one of this object, and the only one."""
        self._counts(_text(name))
        return RabbitMQQueue(self, _text(name))

    def published(self, exchange: Name = '', routing_key: Name | None = None, vhost: str = '/') -> list[SeenMessage]:
        """What clients have published to an exchange ('' is the default one), oldest first, as it is traced.

        The trace may be a moment late: ask by ``wait_until``, or when what was published is confirmed or consumed.
        """
        exchange = _text(exchange)
        wanted = None if routing_key is None else _text(routing_key)
        found = []
        own = list(self._own)
        for traced in self._peek(_TRACE):
            if traced.headers.get('exchange_name') == exchange:
                key = traced.headers['routing_keys'][0]
                properties = dict(traced.headers.get('properties') or {})
                headers = properties.pop('headers', None) or {}
                if (exchange, key, traced.body) in own:
                    own.remove((exchange, key, traced.body))
                elif wanted is None or key == wanted:
                    found.append(SeenMessage(traced.body, exchange, key, properties, headers))
        return found

    def wait_until(self, condition: Callable[[], _T], timeout: float = 10.0) -> _T:
        """Wait until *condition* returns something true, and return that; an AssertionError after *timeout* seconds.

        A condition that raises LookupError (a queue that is not there yet) is not true.
        """
        return wait_until(condition, timeout, _POLL, lambda: f', at {self!r}')

    # What a test can do.

    def publish(
        self, exchange: Name, routing_key: Name, body: bytes | str = b'', vhost: str = '/', **properties: Any
    ) -> int:
        """Publish a message, as some other program would. Returns 0 if no queue has got it, else 1.

        It is not among ``published()``. Raises LookupError for an exchange that there is not.
        """
        exchange, routing_key = _text(exchange), _text(routing_key)
        octets = body.encode() if isinstance(body, str) else bytes(body)
        with self._open().channel() as channel:
            channel.confirm_select()
            try:
                receipt = channel.publish(
                    Message(octets, **properties), exchange=exchange, routing_key=routing_key, mandatory=True
                )
                receipt.wait()
            except NotFound as exc:
                raise LookupError(str(exc)) from None
            except Returned:
                routed = 0
            else:
                routed = 1
        self._own.append((exchange, routing_key, octets))
        return routed

    def close(self, connection: RabbitMQConnection | None = None) -> None:
        """Have RabbitMQ close one connection, or all."""
        for one in self.connections if connection is None else [connection]:
            self.management.delete(f'connections/{quote(one.name, safe="")}')

    # For the queues.

    def _counts(self, queue: str) -> tuple[int, int]:
        """(messages that are ready, consumers) of a queue. Raises LookupError if it is not there."""
        with self._open().channel() as channel:
            try:
                declared = channel.queue_declare(queue, passive=True)
            except NotFound as exc:
                raise LookupError(str(exc)) from None
            return declared.message_count, declared.consumer_count

    def _peek(self, queue: str) -> list[SeenMessage]:
        """The messages that are ready, which are fetched and put back. Raises LookupError."""
        self._counts(queue)
        found = []
        with self._open().channel() as channel:
            while (message := channel.basic_get(queue)) is not None:
                found.append(_seen(message))
        return found

    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError('this virtual host was not started, or was stopped')
        return self._connection


def _text(name: Name) -> str:
    return name if isinstance(name, str) else name.decode()


def _seen(message: Message) -> SeenMessage:
    properties = dict(message.properties)
    headers = properties.pop('application_headers', None) or {}
    info = message.delivery_info
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    return SeenMessage(body, info['exchange'], info['routing_key'], properties, headers, info['redelivered'])
