"""A broker set up as few are: seconds until a consumer is too slow, no limits in tune, and an alarm to pass through."""

from __future__ import annotations

import contextlib
import time

import broker_tools
import greenlets
import inside
import pytest
from node import Node

import gamqp
from gamqp import exceptions

TOO_SLOW = 1000  # ms a delivery may go unsettled
TOLERANCE = 20  # seconds: the broker looks now and then, and a machine may be busy


@pytest.fixture(scope='module')
def special(rabbit):
    """A node for this module alone."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    with Node(rabbit.label, config=['frame_max = 0', 'channel_max = 0', 'heartbeat = 0']) as node:
        # Channels read both when they open; the tick is when they look (a minute by default).
        node.eval(
            f'[application:set_env(rabbit, K, V) || {{K, V}} <- '
            f'[{{consumer_timeout, {TOO_SLOW}}}, {{channel_tick_interval, 300}}]].'
        )
        yield node


@pytest.fixture
def connection(special):
    with gamqp.connect(special.url()) as connection:
        yield connection


# -- nobody has a limit ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('ours', 'agreed'),
    [
        ({}, (2047, 131072, 0)),
        ({'channel_max': 0, 'frame_max': 0, 'heartbeat': 0}, (65535, 0, 0)),
        ({'channel_max': 65535, 'frame_max': 2**31, 'heartbeat': 5}, (65535, 2**31, 5)),
        ({'channel_max': 3, 'frame_max': 8192}, (3, 8192, 0)),
    ],
    ids=['nothing-asked', 'none', 'huge', 'small'],
)
def test_a_broker_without_limits(special, ours, agreed):
    with gamqp.connect(special.url(), **ours) as connection:
        assert (connection.channel_max, connection.frame_max, connection.heartbeat) == agreed
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        for size in (0, 1, 8184, 8185, 131064, 131065, 5_000_000):
            channel.basic_publish(gamqp.Message(bytes(size)), '', queue)
            assert channel.basic_get(queue, no_ack=True).body_size == size


# -- a consumer that is too slow ---------------------------------------------------------------------------


def hold_two_of_four(connection, channel, queue, **arguments):
    """Consume with a prefetch of two, settle nothing. Returns the tag and the two."""
    control = connection.channel()
    for number in range(4):
        control.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
    held = []
    channel.basic_qos(0, 2, False)
    tag = channel.basic_consume(queue, callback=held.append, **arguments)
    broker_tools.drain_until(connection, lambda: len(held) == 2)
    return tag, held


@pytest.mark.parametrize('kind', ['classic', 'quorum'])
def test_a_delivery_that_is_held_too_long_closes_the_channel(rabbit, connection, kind):
    """Before 4.3: the error says what it is; late acks harm nobody; other channels go on; the channel works again."""
    if rabbit.major >= 4:
        pytest.skip('this broker cancels the consumer')
    channel, other = connection.channel(), connection.channel()
    queue = broker_tools.shared_queue(other, arguments={'x-queue-type': kind})
    own = other.queue_declare(exclusive=True, auto_delete=False).queue
    got = []
    other.basic_consume(own, callback=got.append, no_ack=True)
    tag, held = hold_two_of_four(connection, channel, queue)
    started = time.monotonic()
    with pytest.raises(exceptions.ConsumerTimeout) as caught:
        connection.drain_events(timeout=60)
    assert (caught.value.consumer_tag, caught.value.delivery_tag) == (tag, held[0].delivery_tag)
    assert time.monotonic() - started < TOO_SLOW / 1000 + TOLERANCE
    assert caught.value.reply_code == 406
    assert 'delivery acknowledgement on channel' in caught.value.reply_text
    assert 'consumer_timeout' in caught.value.hint
    assert not channel.callbacks
    for message in held:  # what was delivered is the broker's again
        message.ack()
    assert connection.stats()['stale_settlements'] == 2
    broker_tools.wait_ready(other, queue, 4)
    assert channel.is_open and inside.incarnation(channel) == 1, 'a late ack has closed it again'
    assert {bytes(message.body) for message in broker_tools.get_all(channel, queue)} == {b'0', b'1', b'2', b'3'}
    other.basic_publish(gamqp.Message(b'x'), '', own)
    broker_tools.drain_until(connection, lambda: got)
    other.queue_delete(queue)


@pytest.mark.parametrize('told', ['on_cancel', 'drain_events'])
@pytest.mark.parametrize('limit', ['of the consumer', 'of the broker'])
def test_a_consumer_of_a_quorum_queue_that_holds_a_delivery_too_long_is_cancelled(rabbit, connection, told, limit):
    """Since 4.3: told once, the channel stays open, and late acks harm nobody."""
    if rabbit.major < 4:
        pytest.skip('this broker closes the channel')
    channel, other = connection.channel(), connection.channel()
    queue = broker_tools.shared_queue(other, arguments={'x-queue-type': 'quorum'})
    cancelled = []
    arguments = {'arguments': {'x-consumer-timeout': TOO_SLOW // 2}} if limit == 'of the consumer' else {}
    if told == 'on_cancel':
        arguments['on_cancel'] = cancelled.append
    tag, held = hold_two_of_four(connection, channel, queue, **arguments)
    started = time.monotonic()
    if told == 'on_cancel':
        broker_tools.drain_until(connection, lambda: cancelled, 60)
        assert cancelled == [tag]
    else:
        with pytest.raises(exceptions.ConsumerCancelled, match=tag):
            connection.drain_events(timeout=60)
    assert time.monotonic() - started < TOO_SLOW / 1000 + TOLERANCE
    assert not channel.callbacks
    with pytest.raises(TimeoutError):  # and not a second time
        connection.drain_events(timeout=0.2)
    for message in held:
        message.ack()
    assert channel.queue_declare(queue, passive=True).queue == queue
    assert channel.is_open and inside.incarnation(channel) == 0
    got = []
    channel.basic_consume(queue, callback=lambda message: (got.append(bytes(message.body)), message.ack()))
    broker_tools.drain_until(connection, lambda: {b'2', b'3'} <= set(got))
    other.queue_delete(queue)


def test_a_consumer_that_settles_in_time_is_left_alone(connection):
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum'})
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
    got = []

    def callback(message):
        greenlets.sleep(TOO_SLOW / 1000 / 5)
        got.append(message)
        message.nack(requeue=True) if len(got) < 8 else message.ack()

    channel.basic_consume(queue, callback=callback)
    broker_tools.drain_until(connection, lambda: len(got) == 8)  # longer than the limit, together
    assert channel.callbacks and inside.incarnation(channel) == 0
    channel.queue_delete(queue)
    with contextlib.suppress(exceptions.ConsumerCancelled, TimeoutError):
        connection.drain_events(timeout=1)


# -- an alarm ------------------------------------------------------------------------------------------------


def test_pass_sends_into_an_alarm_and_nothing_is_lost(special, connection):
    """The broker leaves it unread until the alarm is over; a connection that only consumes does not notice."""
    told = []
    watcher = connection.channel()
    queue = broker_tools.shared_queue(watcher)
    got = []
    watcher.basic_consume(queue, callback=lambda message: got.append(bytes(message.body)), no_ack=True)
    with gamqp.connect(special.url(), blocked_policy='pass', on_blocked=told.append) as publishing:
        channel = publishing.channel()
        channel.basic_publish(gamqp.Message(b'before'), '', queue)
        broker_tools.drain_until(connection, lambda: got)
        broker_tools.in_thread(special.set_memory_watermark, 0)
        try:
            channel.basic_publish(gamqp.Message(b'0'), '', queue)
            greenlets.wait_until(lambda: told, what='on_blocked was called')
            assert publishing.is_blocked
            started = time.monotonic()
            for number in range(1, 50):
                channel.basic_publish(gamqp.Message(b'%d' % number), '', queue)
            assert time.monotonic() - started < 15, 'it has waited'
            waiting = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'last'), '', queue)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=broker_tools.repeats(1, 3))
            assert not connection.is_blocked and not waiting.done
        finally:
            broker_tools.in_thread(special.set_memory_watermark, 0.4)
        waiting.get()
        broker_tools.drain_until(connection, lambda: len(got) == 52)
    assert got == [b'before', *(b'%d' % number for number in range(50)), b'last']
    watcher.queue_delete(queue)
    with contextlib.suppress(exceptions.ConsumerCancelled, TimeoutError):
        connection.drain_events(timeout=1)
