"""py-amqp on ``gamqp.testing.Broker``: what its users do every day."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import amqp
import pytest

from gamqp import testing


@pytest.fixture
def amqp_connection(broker: testing.Broker) -> Iterator[Any]:
    connection = amqp.Connection(f'{broker.host}:{broker.port}', confirm_publish=True)
    connection.connect()
    yield connection
    connection.collect()


@pytest.fixture
def amqp_channel(amqp_connection: Any) -> Any:
    channel = amqp_connection.channel()
    channel.queue_declare('q', durable=True, auto_delete=False)
    return channel


def test_amqp_publishes_and_fetches(broker: testing.Broker, amqp_channel: Any) -> None:
    amqp_channel.basic_publish(amqp.Message('hello', application_headers={'n': 1}), routing_key='q')
    message = amqp_channel.basic_get('q')
    assert (message.body, message.headers) == ('hello', {'n': 1})
    amqp_channel.basic_ack(message.delivery_tag)
    broker.wait_until(lambda: not broker.queue('q').unacked)


def test_amqp_consumes_and_rejects(broker: testing.Broker, amqp_channel: Any) -> None:
    got: list[Any] = []
    amqp_channel.basic_qos(0, 1, False)
    amqp_channel.basic_consume('q', callback=got.append)
    broker.publish('', 'q', b'1')
    while not got:
        amqp_channel.connection.drain_events(timeout=5)
    amqp_channel.basic_reject(got[0].delivery_tag, requeue=True)
    while len(got) < 2:
        amqp_channel.connection.drain_events(timeout=5)
    assert got[1].delivery_info['redelivered']
    amqp_channel.basic_ack(got[1].delivery_tag)
    broker.wait_until(lambda: not broker.queue('q').unacked)


def test_amqp_hears_of_a_nack(broker: testing.Broker, amqp_channel: Any) -> None:
    broker.nack_next()
    with pytest.raises(amqp.exceptions.MessageNacked):
        amqp_channel.basic_publish(amqp.Message('x'), routing_key='q')


def test_amqp_gets_returns(amqp_channel: Any) -> None:
    back: list[Any] = []
    amqp_channel.events['basic_return'].add(lambda *args: back.append(args))
    amqp_channel.basic_publish(amqp.Message('x'), routing_key='nowhere', mandatory=True)
    assert back[0][1:3] == ('NO_ROUTE', '') or back


def test_amqp_gets_channel_errors(amqp_channel: Any) -> None:
    with pytest.raises(amqp.exceptions.PreconditionFailed, match="inequivalent arg 'durable' for queue 'q'"):
        amqp_channel.queue_declare('q', durable=False)


def test_amqp_meets_a_locked_queue(broker: testing.Broker, amqp_channel: Any) -> None:
    amqp_channel.queue_declare('mine', exclusive=True)
    with amqp.Connection(f'{broker.host}:{broker.port}') as other, pytest.raises(amqp.exceptions.ResourceLocked):
        other.channel().queue_delete('mine')


def test_amqp_is_refused(broker: testing.Broker) -> None:
    with pytest.raises(amqp.exceptions.AccessRefused, match='Login was refused'):
        amqp.Connection(f'{broker.host}:{broker.port}', password='wrong').connect()
    with pytest.raises(amqp.exceptions.NotAllowed, match='vhost nowhere not found'):
        amqp.Connection(f'{broker.host}:{broker.port}', virtual_host='nowhere').connect()


def test_amqp_uses_a_transaction(broker: testing.Broker) -> None:
    with amqp.Connection(f'{broker.host}:{broker.port}') as connection:
        channel = connection.channel()
        channel.queue_declare('q', durable=True)
        channel.tx_select()
        channel.basic_publish(amqp.Message('x'), routing_key='q')
        channel.tx_commit()
        broker.assert_messages('q', b'x')


def test_amqp_hears_of_blocking(broker: testing.Broker) -> None:
    heard: list[str] = []
    with amqp.Connection(
        f'{broker.host}:{broker.port}', on_blocked=heard.append, on_unblocked=lambda: heard.append('go on')
    ) as connection:
        channel = connection.channel()
        broker.block('no memory')
        channel.basic_publish(amqp.Message('x'), routing_key='q')
        connection.drain_events(timeout=5)
        broker.unblock()
        connection.drain_events(timeout=5)
        assert heard == ['connection blocked, see broker logs', 'go on']  # py-amqp's own words


def test_amqp_keeps_up_heartbeats(broker: testing.Broker) -> None:
    connection = amqp.Connection(f'{broker.host}:{broker.port}', heartbeat=10)
    connection.connect()
    assert broker.connections[0].heartbeat == 10
    broker.clock.advance(60)
    connection.channel().queue_declare('q', durable=True)
    broker.clock.advance(60, heartbeats=True)
    broker.wait_until(lambda: not broker.connections)
    with pytest.raises((OSError, amqp.exceptions.RecoverableConnectionError)):
        connection.channel().queue_declare('q', durable=True)
    connection.collect()
