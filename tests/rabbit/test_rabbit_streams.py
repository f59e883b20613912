"""Calls that streams and quorum queues do not know: refused before a byte is sent, where it refuses them."""

from __future__ import annotations

import contextlib
import datetime
import logging

import broker_tools
import greenlets
import inside
import pytest

from gamqp import exceptions
from gamqp.channel.reuse import is_as_new
from gamqp.state.negotiation import rabbitmq_version

FIRST = {'x-stream-offset': 'first'}
REFUSALS = (exceptions.AMQPNotImplementedError, ValueError)


@pytest.fixture
def elsewhere(rabbit):
    """A channel of another connection: what is declared there is not known here."""
    connection = rabbit.connect()
    yield connection.channel()
    connection.close()


def make(channel, kind, count=5):
    name = broker_tools.shared_queue(channel, arguments={'x-queue-type': kind})
    broker_tools.publish_all(channel, name, [b'%d' % number for number in range(count)])
    channel.wait_for_confirms()
    return name


@pytest.fixture
def stream(elsewhere):
    name = make(elsewhere, 'stream')
    yield name
    elsewhere.queue_delete(name)


@pytest.fixture
def quorum(elsewhere):
    name = make(elsewhere, 'quorum')
    yield name
    elsewhere.queue_delete(name)


def declare(channel, queue, kind):
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={'x-queue-type': kind})


def version(connection):
    return rabbitmq_version(connection.server_properties)


def takes_nack(connection):
    """Of messages of a stream."""
    return version(connection) >= (3, 13)


def sent(connection):
    connection.flush()
    return connection.stats()['bytes_out']


def refused(connection, channel, call, errors=REFUSALS):
    """*call* raises, nothing is sent for it, and neither connection nor channel is harmed."""
    before = sent(connection)
    with pytest.raises(errors):
        call()
    assert sent(connection) == before
    assert channel.queue_declare(exclusive=True).message_count == 0
    assert connection.connected
    assert not inside.incarnation(channel)


def reading(connection, channel, queue, arguments=None):
    """Messages of a callback consumer, once there is one."""
    got = []
    channel.basic_qos(0, 10, False)
    channel.basic_consume(queue, callback=got.append, arguments=arguments)
    broker_tools.drain_until(connection, lambda: got)
    return got


# -- by the declaration --------------------------------------------------------------------------------------

ON_A_STREAM = {
    'get': lambda channel, queue: channel.basic_get(queue),
    'get, no_ack': lambda channel, queue: channel.basic_get(queue, no_ack=True),
    'get of the queue declared last': lambda channel, queue: channel.basic_get(),
    'purge': lambda channel, queue: channel.queue_purge(queue),
    'purge, nowait': lambda channel, queue: channel.queue_purge(queue, nowait=True),
    'consume, no prefetch': lambda channel, queue: channel.basic_consume(queue, callback=print),
    'consume, no_ack': lambda channel, queue: channel.basic_consume(queue, no_ack=True, callback=print),
    'consume of the queue declared last, no_ack': lambda channel, queue: channel.basic_consume(
        no_ack=True, callback=print
    ),
    'iterator, no_ack': lambda channel, queue: channel.consume(queue, no_ack=True),
    'iterator, no prefetch': lambda channel, queue: channel.consume(queue, prefetch=0),
    'subscribe, no_ack': lambda channel, queue: channel.subscribe(queue, print, no_ack=True),
    'iterator, priority': lambda channel, queue: channel.consume(queue, arguments={'x-priority': 5}),
}


@pytest.mark.parametrize('call', ON_A_STREAM.values(), ids=ON_A_STREAM)
def test_what_a_stream_that_was_declared_here_does_not_know(connection, channel, stream, call):
    declare(channel, stream, 'stream')
    refused(connection, channel, lambda: call(channel, stream))


OFFSETS = ['frist', '', 'FIRST', '5', '1 h', '1w', '0s', '\uff11h', True, 1.5, None, [1], {'a': 1}, b'\xff', b'1h']


@pytest.mark.parametrize('offset', OFFSETS, ids=repr)
def test_an_offset_that_would_end_the_channel_or_the_connection(connection, channel, stream, offset):
    arguments = {'x-stream-offset': offset}
    refused(connection, channel, lambda: channel.basic_consume(stream, callback=print, arguments=arguments), ValueError)
    refused(connection, channel, lambda: channel.consume(stream, arguments=arguments), ValueError)


@pytest.mark.parametrize('offset', ['01h', b'first', 0, -1, datetime.datetime(2020, 1, 1)], ids=repr)
def test_an_offset_that_the_broker_takes_is_not_refused(connection, channel, stream, offset):
    assert reading(connection, channel, stream, {'x-stream-offset': offset})
    assert not inside.incarnation(channel)


@pytest.mark.parametrize('kind', ['quorum', 'classic'])
def test_an_offset_for_a_queue_that_is_no_stream(connection, channel, quorum, kind):
    queue = quorum if kind == 'quorum' else 'classic.' + quorum
    declare(channel, queue, kind)
    refused(connection, channel, lambda: channel.basic_consume(queue, callback=print, arguments=FIRST), ValueError)
    channel.queue_delete(queue)


@pytest.mark.parametrize('kind', ['quorum', 'stream'])
def test_a_limit_for_the_channel_is_refused_where_the_broker_refuses_it(connection, channel, elsewhere, kind):
    queue = make(elsewhere, kind)
    declare(channel, queue, kind)
    channel.basic_qos(0, 10, a_global=True)
    arguments = FIRST if kind == 'stream' else None
    got = []

    def consume():
        channel.basic_consume(queue, callback=got.append, arguments=arguments)

    if version(connection) < (4, 3):
        refused(connection, channel, consume)
    else:
        consume()
        broker_tools.drain_until(connection, lambda: got)
        assert not inside.incarnation(channel)
    elsewhere.queue_delete(queue)


@pytest.mark.parametrize('how', ['if_unused', 'if_empty'])
def test_a_quorum_queue_is_not_deleted_on_conditions(connection, channel, quorum, how):
    declare(channel, quorum, 'quorum')
    refused(connection, channel, lambda: channel.queue_delete(quorum, **{how: True}))
    assert channel.queue_delete(quorum) == 5
    declare(channel, quorum, 'classic')
    channel.queue_delete(quorum, **{how: True})  # it is another one now


def test_a_stream_is_deleted_on_conditions(connection, channel, stream):
    declare(channel, stream, 'stream')
    channel.queue_delete(stream, if_unused=True)
    assert not inside.incarnation(channel)


# -- by the argument, and by the header ----------------------------------------------------------------------


@pytest.mark.parametrize('told_by', ['declaration', 'argument', 'header'])
@pytest.mark.parametrize(
    'call',
    [
        lambda channel, message: message.nack(),
        lambda channel, message: message.nack(requeue=False),
        lambda channel, message: channel.basic_nack(message.delivery_tag, multiple=True),
        lambda channel, message: channel.basic_nack(0, multiple=True),
        lambda channel, message: message.reject(),
        lambda channel, message: channel.basic_reject(message.delivery_tag, True),
        lambda channel, message: channel.basic_recover(True),
        lambda channel, message: channel.basic_recover_async(True),
    ],
    ids=['nack', 'drop', 'nack multiple', 'nack all', 'reject', 'reject requeue', 'recover', 'recover_async'],
)
def test_a_message_of_a_stream_is_not_refused(connection, channel, elsewhere, stream, call, told_by):
    if told_by == 'declaration':
        declare(channel, stream, 'stream')
    got = []
    channel.basic_qos(0, 10, False)
    arguments = FIRST if told_by == 'argument' else None
    channel.basic_consume(stream, callback=got.append, arguments=arguments)
    broker_tools.publish_all(elsewhere, stream, [b'5'])
    broker_tools.drain_until(connection, lambda: got)
    if takes_nack(connection):
        call(channel, got[0])
        assert channel.queue_declare(exclusive=True).message_count == 0
        assert not connection.is_closing
    else:
        refused(connection, channel, lambda: call(channel, got[0]), exceptions.AMQPNotImplementedError)
        got[0].ack()
        assert channel.queue_declare(exclusive=True).message_count == 0


@pytest.mark.parametrize('arguments', [FIRST, None], ids=['argument', 'header'])
def test_a_stream_is_known_after_it_was_read(connection, channel, elsewhere, stream, arguments):
    channel.basic_qos(0, 10, False)
    got = []
    channel.basic_consume(stream, callback=got.append, arguments=arguments)
    broker_tools.publish_all(elsewhere, stream, [b'5'])
    broker_tools.drain_until(connection, lambda: got)
    other = connection.channel()
    refused(connection, other, lambda: other.basic_get(stream))
    refused(connection, other, lambda: other.queue_purge(stream))
    refused(connection, other, lambda: other.basic_consume(stream, no_ack=True, callback=print))


@pytest.mark.parametrize('declared', [True, False])
def test_a_copy_of_a_streams_message_in_another_queue_is_nacked_as_any(connection, channel, queue, declared):
    """The header travels with the message. Where nothing else is known, a nack might end the connection."""
    if not declared:
        inside.queue_types(connection).forget(queue)
    headers = {'x-stream-offset': 5}
    channel.publish(b'x', routing_key=queue, headers=headers).wait()
    [message] = reading(connection, channel, queue)
    if declared or takes_nack(connection):
        message.nack()
        assert channel.queue_declare(queue, passive=True).queue == queue
    else:
        with pytest.raises(exceptions.AMQPNotImplementedError, match='declare it over this connection'):
            message.nack()
        message.ack()
    assert connection.connected
    assert not inside.incarnation(channel)


# -- handlers that raise -------------------------------------------------------------------------------------


@pytest.mark.parametrize('told_by', ['declaration', 'argument', 'header'])
@pytest.mark.parametrize('on_error', ['requeue', 'reject'])
def test_a_handler_that_raises_on_a_stream_does_not_end_the_connection(
    connection, channel, elsewhere, stream, told_by, on_error, caplog
):
    if told_by == 'declaration':
        declare(channel, stream, 'stream')
    seen = []

    def handle(message):
        seen.append(bytes(message.body))
        raise ValueError('no')

    caplog.set_level(logging.CRITICAL, 'gamqp.consumer')
    arguments = FIRST if told_by == 'argument' else None
    consumer = channel.subscribe(stream, handle, on_error=on_error, prefetch=10, arguments=arguments)
    expected = [b'%d' % number for number in range(5 if told_by != 'argument' else 0, 45)]
    broker_tools.publish_all(elsewhere, stream, [b'%d' % number for number in range(5, 45)])
    passes_over = told_by != 'header' or takes_nack(connection)
    greenlets.wait_until(lambda: len(seen) >= (len(expected) if passes_over else 10))
    assert seen == expected[: len(seen)]
    assert connection.connected
    assert not inside.incarnation(channel)
    consumer.cancel()
    assert channel.unsettled == 0
    assert channel.queue_declare(exclusive=True).message_count == 0


# -- the books -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('arguments', [FIRST, None], ids=['argument', 'header'])
def test_what_an_iterator_did_not_ack_awaits_nothing_after_it(connection, channel, elsewhere, stream, arguments):
    deliveries = channel.consume(stream, prefetch=10, arguments=arguments)
    broker_tools.publish_all(elsewhere, stream, [b'%d' % number for number in range(5, 25)])
    message = next(deliveries)
    greenlets.wait_until(lambda: deliveries.delivered >= 10)
    channel.queue_declare(exclusive=True)  # RabbitMQ 3 sends whole chunks: the rest of one comes before the answer
    assert channel.unsettled == deliveries.delivered
    deliveries.close()
    assert channel.unsettled == 0
    assert connection.stats()['oldest_unsettled_seconds'] == 0
    message.ack()  # the broker still takes it
    assert channel.queue_declare(exclusive=True).message_count == 0
    assert not inside.incarnation(channel)
    stats = connection.stats()
    assert stats['delivered'] == stats['acked'] + stats['rejected'] + stats['given_back'] + stats['unsettled']


def test_a_loop_that_is_left_with_a_message_in_hand_leaves_nothing(connection, channel, stream):
    for _ in channel.consume(stream, prefetch=2, arguments=FIRST):
        break
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert channel.unsettled == 0
    assert not is_as_new(channel)  # the broker keeps its own books until the channel is closed


def test_what_a_callback_did_not_ack_awaits_nothing_after_its_consumer(connection, channel, stream):
    got = []
    channel.basic_qos(0, 3, False)
    channel.basic_consume(stream, 'tag', callback=got.append, arguments=FIRST)
    broker_tools.drain_until(connection, lambda: len(got) >= 3)
    assert channel.unsettled >= 3
    channel.basic_cancel('tag')
    assert channel.unsettled == 0


def test_a_handler_that_runs_at_the_end_of_its_consumer_still_acks(connection, channel, stream):
    gate = []

    def handle(message):
        greenlets.wait_until(lambda: gate)

    consumer = channel.subscribe(stream, handle, concurrency=2, prefetch=5, arguments=FIRST)
    greenlets.wait_until(lambda: consumer.in_flight == 2)
    consumer.cancel(wait=False)
    greenlets.wait_until(lambda: inside.has_ended(consumer))
    gate.append(True)
    consumer.join()
    assert consumer.acked == 2
    assert channel.unsettled == 0
    assert channel.queue_declare(exclusive=True).message_count == 0
    assert not inside.incarnation(channel)


def test_the_books_of_other_consumers_stay(connection, channel, queue, stream):
    broker_tools.publish_all(channel, queue, [b'x'] * 3)
    deliveries = channel.consume(queue, prefetch=3)
    kept = [next(deliveries) for _ in range(3)]
    with contextlib.closing(channel.consume(stream, prefetch=4, arguments=FIRST)) as other:
        next(other)
        greenlets.wait_until(lambda: channel.unsettled >= 7)
    assert channel.unsettled == 3
    for message in kept:
        message.nack()
    assert channel.unsettled == 0
    deliveries.close()
    assert not inside.incarnation(channel)
