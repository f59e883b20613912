"""Quorum queues: what nack and reject count for, and a prefetch that grows under a living consumer."""

from __future__ import annotations

import contextlib

import broker_tools
import greenlets
import pytest

import gamqp

LIMIT = 20  # of deliveries: the default since 4.0, and asked for before


@pytest.fixture
def dead_letters(channel):
    queue = broker_tools.shared_queue(channel)
    yield queue
    channel.queue_delete(queue)


@pytest.fixture
def quorum(rabbit, channel, dead_letters):
    """A quorum queue with a delivery limit, and a message in it."""
    arguments = {
        'x-queue-type': 'quorum',
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': dead_letters,
    }
    if rabbit.major < 4:
        arguments['x-delivery-limit'] = LIMIT
    queue = broker_tools.shared_queue(channel, arguments=arguments)
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
    yield queue
    channel.queue_delete(queue)


def counts_only_rejects(rabbit):
    return tuple(int(part) for part in rabbit.version.split('.')[:2]) >= (4, 3)


def refuse(connection, channel, queue, dead_letters, how, times):
    """Have the message delivered and refuse it, so often or until it is dead. Returns the headers it came with."""
    seen = []

    def callback(message):
        seen.append(message.headers or {})
        if len(seen) <= times:
            getattr(message, how)(requeue=True)

    tag = channel.basic_consume(queue, callback=callback)
    deadline = gamqp.green.Deadline(greenlets.PATIENCE)
    while len(seen) <= times and not broker_tools.ready(channel, dead_letters):
        assert not deadline.passed, seen
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.1)
    channel.basic_cancel(tag)
    return seen


def test_a_message_that_is_nacked_is_kept_where_only_failures_count(rabbit, connection, channel, quorum, dead_letters):
    """RabbitMQ 4.3: twenty-five times, and it is still there. Before, each of them counted."""
    seen = refuse(connection, channel, quorum, dead_letters, 'nack', 25)
    if counts_only_rejects(rabbit):
        assert len(seen) == 26
        assert [headers.get('x-acquired-count', 0) for headers in seen] == list(range(26))
        assert not any(headers.get('x-delivery-count') for headers in seen)
        assert broker_tools.ready(channel, dead_letters) == 0
    else:
        assert [headers.get('x-delivery-count', 0) for headers in seen] == list(range(LIMIT + 1))
        broker_tools.wait_ready(channel, dead_letters, 1)


def test_a_message_that_is_rejected_too_often_is_dead_lettered(connection, channel, quorum, dead_letters):
    seen = refuse(connection, channel, quorum, dead_letters, 'reject', 25)
    assert [headers.get('x-delivery-count', 0) for headers in seen] == list(range(LIMIT + 1))
    broker_tools.wait_ready(channel, dead_letters, 1)
    message = channel.basic_get(dead_letters, no_ack=True)
    assert message.headers['x-death'][0]['reason'] == 'delivery_limit'
    assert message.headers['x-death'][0]['queue'] == quorum


def test_the_prefetch_is_resized_while_messages_flow(connection, channel, dead_letters):
    """Start a second consumer, cancel the first: nothing is lost, delivered twice, or stuck."""
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum'})
    got, held = [], []

    def callback(message):
        got.append(int(bytes(message.body)))
        held.append(message)

    channel.basic_qos(0, 2, False)
    tag = channel.basic_consume(queue, callback=callback)
    broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(200)])
    broker_tools.drain_until(connection, lambda: len(got) == 2)
    for prefetch in (10, 3, 50):
        channel.basic_qos(0, prefetch, False)
        following = channel.basic_consume(queue, callback=callback)
        channel.basic_cancel(tag)
        tag = following
        before = len(got) + prefetch
        broker_tools.drain_until(connection, lambda before=before: len(got) >= before)
        for message in held:
            message.ack()
        held.clear()

    def settled():
        for message in held:
            message.ack()
        held.clear()
        return len(set(got)) == 200

    broker_tools.drain_until(connection, settled)
    channel.basic_cancel(tag)
    # What a cancelled consumer had on the way goes back and comes again; nothing comes twice to a callback.
    assert sorted(got) == list(range(200))
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


def test_each_consumer_of_a_channel_has_the_prefetch_of_its_start(connection, channel, dead_letters):
    """The default, a_global=False, on a quorum queue; several greenlets ask at once."""
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum'})
    broker_tools.publish_all(channel, queue, [b'x'] * 50)
    got = {3: [], 7: []}
    for prefetch, messages in got.items():
        channel.basic_qos(0, prefetch, False)
        channel.basic_consume(queue, callback=messages.append)
    broker_tools.drain_until(connection, lambda: sum(map(len, got.values())) == 10)
    greenlets.sleep(0.1)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    assert {prefetch: len(messages) for prefetch, messages in got.items()} == {3: 3, 7: 7}
    channel.queue_delete(queue)
