"""pika on ``gamqp.testing.Broker``: what its users do every day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from gamqp import testing

TTL = {'x-message-ttl': 30000, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'}


@pytest.fixture
def pika_connection(broker: testing.Broker) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    yield connection
    if connection.is_open:
        connection.close()


@pytest.fixture
def pika_channel(pika_connection: Any) -> Any:
    channel = pika_connection.channel()
    channel.queue_declare('q', durable=True)
    return channel


def test_pika_publishes_and_fetches(broker: testing.Broker, pika_channel: Any) -> None:
    properties = pika.BasicProperties(content_type='text/plain', headers={'n': 1, 'deep': {'list': [1, 'two']}})
    pika_channel.basic_publish('', 'q', b'hello', properties)
    method, got, body = pika_channel.basic_get('q')
    assert (body, got.headers, got.content_type) == (b'hello', properties.headers, 'text/plain')
    assert [message.body for message in broker.queue('q').unacked] == [b'hello']
    pika_channel.basic_ack(method.delivery_tag)
    broker.wait_until(lambda: not broker.queue('q').unacked)


def test_pika_consumes_with_prefetch(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.basic_qos(prefetch_count=3)
    for number in range(10):
        pika_channel.basic_publish('', 'q', str(number))
    got = []
    for method, _, body in pika_channel.consume('q'):
        assert len(broker.queue('q').unacked) <= 3
        got.append(int(body))
        pika_channel.basic_ack(method.delivery_tag)
        if len(got) == 10:
            break
    pika_channel.cancel()
    assert got == list(range(10))
    broker.assert_drained('q')


def test_pika_hears_of_a_nack(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.confirm_delivery()
    pika_channel.basic_publish('', 'q', b'taken')
    broker.nack_next()
    with pytest.raises(pika.exceptions.NackError):
        pika_channel.basic_publish('', 'q', b'refused')
    broker.assert_messages('q', b'taken')


def test_pika_gets_what_cannot_be_routed_back(pika_channel: Any) -> None:
    pika_channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as caught:
        pika_channel.basic_publish('', 'nowhere', b'back', mandatory=True)
    assert caught.value.messages[0].body == b'back'


def test_pika_gets_channel_errors(pika_connection: Any) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        pika_connection.channel().queue_declare('missing', passive=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (404, "NOT_FOUND - no queue 'missing' in vhost '/'")
    assert pika_connection.is_open


def test_pika_meets_a_locked_queue(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.queue_declare('mine', exclusive=True)
    locked = pytest.raises(pika.exceptions.ChannelClosedByBroker, match='cannot obtain exclusive access')
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(broker.url))) as other, locked:
        other.channel().queue_declare('mine', passive=True)


def test_pika_sees_expired_messages_as_dead_letters(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.queue_declare('dead', durable=True)
    pika_channel.queue_declare('short', durable=True, arguments=TTL)
    pika_channel.basic_publish('', 'short', b'late')
    broker.wait_until(lambda: broker.queue('short').messages)
    broker.clock.advance(29)
    broker.assert_messages('short', b'late')
    broker.clock.advance(2)
    broker.assert_messages('short')
    _, properties, body = pika_channel.basic_get('dead')
    assert body == b'late' and properties.headers['x-death'][0]['reason'] == 'expired'


def test_pika_hears_that_its_consumer_is_cancelled(broker: testing.Broker, pika_channel: Any) -> None:
    cancelled: list[Any] = []
    pika_channel.add_on_cancel_callback(cancelled.append)
    pika_channel.basic_consume('q', lambda *_: None)
    broker.cancel(broker.queue('q').consumers[0])
    while not cancelled:
        pika_channel.connection.process_data_events(1)
    assert broker.queue('q').consumers == []


def test_pika_routes_by_topics_and_headers(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.queue_bind('q', 'amq.topic', 'a.*.c')
    pika_channel.queue_bind('q', 'amq.headers', arguments={'x-match': 'any', 'colour': 'red', 'size': 5})
    for key in ('a.b.c', 'a.b', 'a.b.c.d'):
        pika_channel.basic_publish('amq.topic', key, key)
    for headers in ({'colour': 'red'}, {'colour': 'blue'}, {'size': 5}):
        pika_channel.basic_publish('amq.headers', '', repr(headers), pika.BasicProperties(headers=headers))
    broker.wait_until(lambda: len(broker.queue('q').messages) == 3)
    broker.assert_messages('q', b'a.b.c', repr({'colour': 'red'}), repr({'size': 5}))


def test_pika_loses_its_connection(broker: testing.Broker, pika_channel: Any) -> None:
    broker.cut()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika_channel.queue_declare('q', passive=True)
    broker.wait_until(lambda: not broker.connections)


def test_pika_commits_and_rolls_back(broker: testing.Broker, pika_channel: Any) -> None:
    pika_channel.tx_select()
    pika_channel.basic_publish('', 'q', b'1')
    pika_channel.tx_rollback()
    pika_channel.basic_publish('', 'q', b'2')
    assert broker.queue('q').messages == []
    pika_channel.tx_commit()
    broker.assert_messages('q', b'2')
