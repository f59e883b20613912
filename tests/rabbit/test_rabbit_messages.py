"""Messages through a real broker: bodies of every size, every property, every kind of header."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from decimal import Decimal

import broker_tools
import pytest

import gamqp
from gamqp import exceptions


def through(channel, queue, message):
    channel.basic_publish(message, '', queue)
    return channel.basic_get(queue, no_ack=True)


# -- bodies ----------------------------------------------------------------------------------------------

ROOM = 131072 - 8  # what of a body fits into one frame


def test_bodies_around_the_room_of_a_frame_and_far_above_it(channel, queue):
    for size in (0, 1, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM - 1, 2 * ROOM, 2 * ROOM + 1, 5_000_000):
        body = random.Random(size).randbytes(size)
        message = through(channel, queue, gamqp.Message(body))
        assert (message.body, message.body_size) == (body, size)


def test_bodies_around_a_small_frame_max(rabbit):
    with rabbit.connect(frame_max=8192) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        got = []
        for size in (8183, 8184, 8185, 100_000):
            body = random.Random(size).randbytes(size)
            assert through(channel, queue, gamqp.Message(body)).body == body
        channel.basic_consume(queue, no_ack=True, callback=lambda message: got.append(message.body))
        channel.basic_publish(gamqp.Message(body), '', queue)
        broker_tools.drain_until(connection, lambda: got)
        assert got == [body]


@pytest.mark.parametrize(
    'body', [bytearray(b'abc'), memoryview(b'abc'), memoryview(b'xabcx')[1:4]], ids=['bytearray', 'view', 'slice']
)
def test_bodies_that_are_not_bytes(channel, queue, body):
    assert through(channel, queue, gamqp.Message(body)).body == b'abc'


def test_a_body_is_taken_as_it_is_when_published(connection, channel, queue):
    body = bytearray(b'before' * 100_000)
    channel.basic_publish(gamqp.Message(body), '', queue)
    body[:6] = b'after!'
    assert bytes(channel.basic_get(queue, no_ack=True).body[:6]) == b'before'


def test_text_is_sent_as_utf_8_and_comes_back_as_text(channel, queue):
    message = through(channel, queue, gamqp.Message('grüße 队列'))
    assert message.body == 'grüße 队列'
    assert message.properties['content_encoding'] == 'utf-8'
    assert through(channel, queue, gamqp.Message('grüße', content_encoding='latin-1')).body == 'grüße'


def test_text_that_its_encoding_cannot_hold_is_refused_and_nothing_sent(channel, queue):
    with pytest.raises(exceptions.EncodeError):
        channel.basic_publish(gamqp.Message('队', content_encoding='latin-1'), '', queue)
    assert channel.basic_get(queue) is None


# -- properties ------------------------------------------------------------------------------------------

PROPERTIES = {
    'content_type': 'application/json',
    'content_encoding': 'binary',
    'application_headers': {'a': 1},
    'delivery_mode': 2,
    'priority': 5,
    'correlation_id': 'c-1',
    'reply_to': 'somewhere',
    'expiration': '60000',
    'message_id': 'm-1',
    'type': 'order',
    'user_id': 'guest',
    'app_id': 'tests',
}


def test_each_property_alone(channel, queue):
    for name, value in PROPERTIES.items():
        message = through(channel, queue, gamqp.Message(b'x', **{name: value}))
        assert message.properties == {name: value}


def test_all_properties_together(channel, queue):
    when = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    message = through(channel, queue, gamqp.Message(b'x', timestamp=when, **PROPERTIES))
    properties = dict(message.properties)
    stamp = properties.pop('timestamp')
    assert as_seconds(stamp) == when.timestamp()
    assert properties == PROPERTIES


def as_seconds(value):
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    return value


HEADERS = {
    'true': True,
    'false': False,
    'none': None,
    'text': 'grüße',
    'empty': '',
    'zero': 0,
    'byte': -128,
    'short': 32767,
    'long': -(2**31),
    'longlong': 2**62,
    'negative': -(2**62),
    'float': 1.5,
    'decimal': Decimal('12.34'),
    'list': [1, 'two', [3.0, None], {'four': 4}],
    'table': {'inner': {'innermost': [True, {}]}, 'empty': {}},
    'k' * 128: 'a long name',
}


def test_each_kind_of_header_value(channel, queue):
    for name, value in HEADERS.items():
        headers = through(channel, queue, gamqp.Message(b'', application_headers={name: value})).headers
        assert headers == {name: value}
        assert type(headers[name]) is type(value)


def test_headers_together(channel, queue):
    assert through(channel, queue, gamqp.Message(b'', application_headers=HEADERS)).headers == HEADERS


def test_a_timestamp_in_a_header(channel, queue):
    when = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    headers = through(channel, queue, gamqp.Message(b'', application_headers={'at': when})).headers
    assert as_seconds(headers['at']) == when.timestamp()


@pytest.mark.parametrize('value', [b'plain', b'\xff\xfe\x00', b''], ids=['text', 'binary', 'empty'])
def test_bytes_in_a_header_keep_their_bytes(channel, queue, value):
    got = through(channel, queue, gamqp.Message(b'', application_headers={'raw': value})).headers['raw']
    assert (got.encode() if isinstance(got, str) else bytes(got)) == value


def test_headers_too_large_for_a_frame_are_refused_and_nothing_sent(connection, channel, queue):
    huge = gamqp.Message(b'body', application_headers={'huge': 'x' * 200_000})
    with pytest.raises(exceptions.EncodeError):
        channel.basic_publish(huge, '', queue)
    fits = gamqp.Message(b'body', application_headers={'large': 'x' * 130_000})
    assert len(through(channel, queue, fits).headers['large']) == 130_000
    assert connection.connected


def test_a_header_that_dead_lettering_made_larger_than_frame_max(connection, channel, queue):
    """RabbitMQ sends it in one frame, whatever was agreed on; the message comes as any other."""
    arguments = {'x-message-ttl': 0, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue}
    short_lived = channel.queue_declare(exclusive=True, arguments=arguments).queue
    headers = {'large': 'x' * (connection.frame_max - 60)}
    channel.publish(b'body', routing_key=short_lived, headers=headers).wait()
    broker_tools.wait_ready(channel, queue, 1)
    message = channel.basic_get(queue)
    assert message.body == b'body'
    assert message.headers['large'] == headers['large']
    assert message.headers['x-death'][0]['queue'] == short_lived
    message.ack()
    assert connection.connected


@pytest.mark.parametrize(
    'headers',
    [{'x': object()}, {'x': 2**64}, {'x' * 256: 1}, {'x': {'y': [object()]}}, {5: 'x'}],
    ids=['object', 'number', 'long-name', 'nested', 'name'],
)
def test_headers_that_cannot_be_sent_are_refused_and_nothing_sent(channel, queue, headers):
    with pytest.raises(exceptions.EncodeError):
        channel.basic_publish(gamqp.Message(b'', application_headers=headers), '', queue)
    assert channel.basic_get(queue) is None


def test_delivery_info(channel, queue):
    exchange = broker_tools.fresh_name('ex')
    channel.exchange_declare(exchange, 'fanout', auto_delete=False, durable=True)
    channel.queue_bind(queue, exchange)
    channel.basic_publish(gamqp.Message(b'1'), exchange, 'key')
    channel.basic_publish(gamqp.Message(b'2'), exchange, 'key')
    message = channel.basic_get(queue)
    assert message.delivery_info['exchange'] == exchange
    assert message.delivery_info['routing_key'] == 'key'
    assert message.delivery_info['message_count'] == 1
    assert message.delivery_info['redelivered'] is False
    assert message.channel is channel
    message.reject(requeue=True)
    broker_tools.wait_ready(channel, queue, 2)
    assert channel.basic_get(queue).redelivered is True
