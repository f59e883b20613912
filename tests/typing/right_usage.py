"""What a user's type checker sees of the public names. Never run: mypy and pyright read it, see ``check.py``."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal

from typing_extensions import assert_type

import gamqp
from gamqp.protocol import queue_declare_ok_t
from gamqp.rpc import RPCClient, RPCServer
from gamqp.sasl import EXTERNAL, PLAIN


def connections() -> None:
    gamqp.connect(['amqp://one/', 'amqps://two/'], shuffle=False, heartbeat=30)
    gamqp.connect(lambda: 'amqp://one/;amqp://two/')
    connection = gamqp.connect('amqp://broker/', heartbeat=30, blocked_policy='raise', ssl=ssl.create_default_context())
    assert_type(connection, gamqp.Connection)
    with gamqp.Connection('broker:5672', ssl={'ca_certs': 'ca.pem'}, on_open=opened, on_lost=lost) as opened_one:
        assert_type(opened_one, gamqp.Connection)
    gamqp.Connection(password=lambda: 'token', refresh_secret=True, authentication=[EXTERNAL(), PLAIN('me', 'secret')])
    assert_type(connection.channel(), gamqp.Channel)
    assert_type(connection.channel(1, callback=on_channel), gamqp.Channel)
    assert_type(connection.connect(lambda: 5), int | None)
    assert_type(connection.run_in_hub(len, 'abc', timeout=1), int)
    assert_type(connection.drain(timeout=30), bool)
    assert_type(connection.stats()['published'], float)
    assert_type(connection.is_open, bool)
    assert_type(connection.channels, dict[int, gamqp.Channel])
    assert_type(connection.server_properties, dict[str, Any])


def opened(connection: gamqp.Connection) -> None:
    assert_type(connection.channel(), gamqp.Channel)


def lost(error: BaseException) -> None:
    if isinstance(error, gamqp.AMQPError):
        assert_type(error.method, str | tuple[int, int] | None)


def on_channel(channel: gamqp.Channel) -> None:
    assert_type(channel.connection, gamqp.Connection | None)


def queues(channel: gamqp.Channel, nowait: bool) -> None:
    assert_type(channel.queue_declare('jobs', durable=True), queue_declare_ok_t)
    assert_type(channel.queue_declare(exclusive=True).queue, str)
    name, messages, consumers = channel.queue_declare('jobs')
    assert_type((name, messages, consumers), tuple[str, int, int])
    assert_type(channel.queue_declare('jobs', nowait=False), queue_declare_ok_t)
    assert_type(channel.queue_declare('jobs', nowait=nowait), queue_declare_ok_t | None)
    assert_type(channel.queue_purge('jobs'), int)
    assert_type(channel.queue_purge('jobs', nowait=nowait), int | None)
    assert_type(channel.queue_delete('jobs', if_empty=True), int)
    assert_type(channel.queue_delete('jobs', nowait=nowait), int | None)
    channel.queue_declare('jobs', nowait=True)
    channel.queue_bind('jobs', 'exchange', arguments={'x-match': 'all', 'number': 5})
    channel.exchange_declare('exchange', 'headers', auto_delete=False)


def publishing(channel: gamqp.Channel) -> None:
    receipt = channel.publish('text', routing_key='jobs', delivery_mode=2, headers={'tries': 1}, correlation_id='7')
    assert_type(receipt, gamqp.Receipt)
    assert_type(receipt.state, Literal['pending', 'acked', 'nacked', 'returned', 'lost'])
    assert_type(receipt.error, BaseException | None)
    for body in (b'bytes', bytearray(b'bytes'), memoryview(b'bytes')):
        channel.publish(body, 'exchange', mandatory=True, timeout=5)
    channel.publish(gamqp.Message('text', content_type='text/plain', application_headers={'a': None}, priority=None))
    channel.basic_publish(gamqp.Message(b'bytes', delivery_mode=2), 'exchange', 'key')
    channel.events['basic_return'].add(returned)
    assert_type(channel.wait_for_confirms(), bool)


def returned(error: gamqp.ChannelError, exchange: str, routing_key: str, message: gamqp.Message) -> None:
    if isinstance(error, gamqp.Returned):
        assert_type(error.returned, gamqp.Message | None)


def consuming(connection: gamqp.Connection, channel: gamqp.Channel) -> None:
    deliveries = channel.consume('jobs', prefetch=50, timeout=10)
    assert_type(deliveries, gamqp.Deliveries)
    for message in deliveries:
        assert_type(message, gamqp.Message)
        message.ack()
    assert_type(next(deliveries), gamqp.Message)
    assert_type(channel.basic_get('jobs'), gamqp.Message | None)
    consumer = channel.subscribe('jobs', handle, concurrency=20, on_error='reject')
    assert_type(consumer, gamqp.Consumer)
    assert_type(consumer.in_flight, int)
    assert_type(consumer.channel, gamqp.Channel)
    channel.subscribe('jobs', lambda message: message.body, on_error=decide)
    assert_type(channel.basic_consume('jobs', callback=handle, on_cancel=print), str)
    assert_type(channel.callbacks, Mapping[str, Callable[[gamqp.Message], object] | None])
    connection.drain_events(timeout=1)


def handle(message: gamqp.Message) -> None:
    assert_type(message.body, bytes | str)
    assert_type(message.headers, dict[str, Any])
    assert_type(message.properties, dict[str, Any])
    assert_type(message.redelivered, bool)
    assert_type(message.reply_to, str)
    assert_type(message.delivery_mode, int)
    assert_type(message.application_headers, dict[str, Any])
    message.channel.basic_ack(message.delivery_tag)
    message.nack(requeue=False)


def decide(message: gamqp.Message, error: BaseException) -> Literal['requeue', 'reject'] | None:
    return None if message.redelivered else 'requeue'


def pools() -> None:
    pool = gamqp.Pool('amqp://broker/', connections=2, heartbeat=30, timeout=5)
    with pool.channel(timeout=1) as channel:
        assert_type(channel, gamqp.Channel)
        assert_type(channel.publish(b''), gamqp.Receipt)
    pool.publish('text', routing_key='jobs', expiration='1000')
    assert_type(pool.stats()['leased'], float)
    gamqp.Pool(lambda: gamqp.Connection('broker'))
    gamqp.Pool(['amqp://one/', 'amqp://two/'], 2, shuffle=False)
    gamqp.Pool(lambda: ['amqp://one/', 'amqp://two/'], heartbeat=10)
    with pool as same:
        assert_type(same, gamqp.Pool)


def requests(connection: gamqp.Connection) -> None:
    with RPCServer(connection, 'requests', answer, concurrency=5) as server:
        assert_type(server, RPCServer)
        assert_type(server.consumer, gamqp.Consumer)
    with RPCClient(connection.channel(), timeout=5) as client:
        try:
            assert_type(client.call('question', 'requests', app_id='me'), gamqp.Message)
        except gamqp.RPCError as error:
            assert_type(error.reply, gamqp.Message | None)


def answer(request: gamqp.Message) -> bytes | str:
    return request.body


class Mechanism(gamqp.sasl.SASL):
    mechanism = b'TOKEN'

    def start(self, connection: gamqp.Connection) -> bytes:
        return connection.virtual_host.encode()
