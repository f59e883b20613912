"""Connection.stats against real brokers: the counters add up, and agree with what others count."""

from __future__ import annotations

import random
import threading
import time

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp import exceptions

SEED = 20260601


def publishes_add_up(stats):
    return stats['published'] == stats['confirmed'] + stats['nacked'] + stats['lost'] + stats['unconfirmed']


def deliveries_add_up(stats):
    return stats['delivered'] == stats['acked'] + stats['rejected'] + stats['given_back'] + stats['unsettled']


# -- publishes -------------------------------------------------------------------------------------------


def test_confirmed_refused_returned_and_outstanding_publishes_add_up(connection, channel, queue):
    full = channel.queue_declare(
        exclusive=True, auto_delete=False, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'}
    ).queue
    receipts = [channel.publish(b'x', routing_key=queue) for _ in range(50)]
    receipts += [channel.publish(b'x', routing_key=full) for _ in range(11)]
    receipts += [channel.publish(b'x', routing_key='nowhere', mandatory=True) for _ in range(7)]
    stats = connection.stats()
    assert stats['published'] == 68
    assert stats['unconfirmed'] == sum(not receipt.done for receipt in receipts)
    assert publishes_add_up(stats)
    while connection.stats()['unconfirmed']:
        assert publishes_add_up(connection.stats())
        greenlets.sleep()
    states = [receipt.state for receipt in receipts]
    stats = connection.stats()
    assert (stats['confirmed'], stats['nacked']) == (58, 10)  # what comes back is confirmed all the same
    assert states.count('nacked') == stats['nacked']
    assert states.count('returned') == stats['returned'] == 7
    assert publishes_add_up(stats)
    assert stats['lost'] == stats['delivered'] == 0


def test_publishes_of_a_channel_that_the_broker_closes_are_lost(connection, channel, queue):
    channel.publish(b'x', routing_key=queue).wait()
    receipts = [channel.publish(b'x', exchange='no such exchange') for _ in range(5)]
    for receipt in receipts:
        with pytest.raises(exceptions.NotFound):
            receipt.wait()
    stats = connection.stats()
    assert (stats['published'], stats['confirmed'], stats['lost'], stats['unconfirmed']) == (6, 1, 5, 0)


def test_publishes_without_confirms_are_counted_too(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'] * 20)
    stats = connection.stats()
    assert (stats['published'], stats['confirmed'], stats['unconfirmed']) == (20, 0, 0)


# -- deliveries ------------------------------------------------------------------------------------------


def test_deliveries_add_up_whatever_becomes_of_them(connection, channel, queue):
    draw = random.Random(SEED)
    broker_tools.publish_all(channel, queue, [b'x' * 10] * 300)
    held = []
    for seen, message in enumerate(channel.consume(queue, prefetch=50), 1):
        held.append(message)
        settle = draw.choice(['nothing', 'ack', 'nack', 'reject', 'all before'])
        if len(held) > 20 or settle == 'all before':
            held[-1].ack(multiple=True)
            held.clear()
        elif settle != 'nothing':
            one = held.pop(draw.randrange(len(held)))
            one.ack() if settle == 'ack' else one.reject() if settle == 'reject' else one.nack(requeue=False)
        stats = connection.stats()
        assert deliveries_add_up(stats)
        assert stats['delivered'] == seen + stats['undelivered_messages']
        assert stats['undelivered_bytes'] == 10 * stats['undelivered_messages']
        if seen == 200:
            break
    stats = connection.stats()
    assert stats['given_back'] == stats['delivered'] - 200  # what had been sent ahead when the loop was left
    assert stats['unsettled'] == len(held)
    assert stats['undelivered_messages'] == stats['undelivered_bytes'] == stats['redelivered'] == 0
    assert deliveries_add_up(stats)


def test_a_subscription_adds_up(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'] * 100)
    with connection.channel() as other:

        def handle(message):
            greenlets.sleep()
            if not message.redelivered and message.delivery_tag % 10 == 0:
                raise ValueError('once more')

        consumer = other.subscribe(queue, handle, concurrency=5, on_error=lambda message, error: 'requeue')
        assert connection.stats()['consumers'] == 1
        greenlets.wait_until(lambda: connection.stats()['acked'] == 100)
        consumer.cancel()
        stats = connection.stats()
        assert stats['rejected'] == consumer.failed >= 1
        assert stats['redelivered'] == stats['rejected']
        assert (stats['unsettled'], stats['consumers'], stats['channels']) == (0, 0, 2)
        assert deliveries_add_up(stats)
    assert connection.stats()['channels'] == 1


def test_what_comes_by_get_is_counted_and_known_when_it_comes_again(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'])
    channel.basic_get(queue).nack(requeue=True)
    greenlets.wait_until(lambda: (message := channel.basic_get(queue)) is not None and message.ack() is None)
    stats = connection.stats()
    assert (stats['delivered'], stats['redelivered'], stats['acked'], stats['rejected']) == (2, 1, 1, 1)
    assert deliveries_add_up(stats)


def test_the_age_of_the_oldest_unsettled_delivery(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x', b'y'])
    assert connection.stats()['oldest_unsettled_seconds'] == 0
    before = time.monotonic()
    first = channel.basic_get(queue)
    greenlets.sleep(0.2)
    between = time.monotonic()
    second = channel.basic_get(queue)
    greenlets.sleep(0.05)
    age = connection.stats()['oldest_unsettled_seconds']
    assert 0.2 < age <= time.monotonic() - before
    first.ack()
    assert 0.05 < connection.stats()['oldest_unsettled_seconds'] <= time.monotonic() - between
    second.ack()
    assert connection.stats()['oldest_unsettled_seconds'] == 0


def test_an_ack_that_comes_too_late_is_counted_as_that(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'])
    message = channel.basic_get(queue)
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare('no such queue', passive=True)
    message.ack()
    stats = connection.stats()
    assert (stats['acked'], stats['stale_settlements'], stats['unsettled']) == (0, 1, 0)


# -- the socket ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('heartbeat_thread', [False, True])
def test_bytes_are_those_that_a_proxy_has_seen(rabbit, proxy, heartbeat_thread):
    with gamqp.connect(proxy.url(rabbit), heartbeat_thread=heartbeat_thread) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        for size in (0, 1, 1000, 300_000):
            channel.publish(b'x' * size, routing_key=queue).wait()
            assert channel.basic_get(queue, no_ack=True).body_size == size
        agrees = lambda: seen(connection.stats()) == (proxy.up.bytes, proxy.down.bytes)  # noqa: E731
        greenlets.wait_until(agrees, what='the proxy counts as we do')
        assert connection.stats()['send_queue_bytes'] == 0
    greenlets.wait_until(agrees, what='to the last byte')


def seen(stats):
    return stats['bytes_out'], stats['bytes_in']


def test_counters_go_on_after_a_reconnect_and_gauges_begin_anew(rabbit, proxy):
    connection = gamqp.connect(proxy.url(rabbit))
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    channel.publish(b'x', routing_key=queue).wait()
    message = channel.basic_get(queue)
    before = connection.stats()
    assert (before['opened'], before['unsettled'], before['channels']) == (1, 1, 1)
    proxy.cut()
    greenlets.wait_until(lambda: not connection.connected)
    ended = connection.stats()
    assert all(ended[name] >= before[name] for name in ('published', 'bytes_in', 'bytes_out', 'delivered'))
    assert (ended['unsettled'], ended['channels'], ended['oldest_unsettled_seconds']) == (0, 0, 0)
    with pytest.raises(exceptions.RecoverableConnectionError):
        message.ack()

    connection.connect()
    channel = connection.channel()
    channel.publish(b'x', routing_key=queue).wait()
    after = connection.stats()
    assert (after['opened'], after['published'], after['confirmed'], after['acked']) == (2, 2, 2, 0)
    assert after['bytes_out'] > ended['bytes_out']
    channel.queue_delete(queue)
    connection.close()
    assert seen(connection.stats()) == (proxy.up.bytes, proxy.down.bytes)


# -- from elsewhere --------------------------------------------------------------------------------------


def test_another_thread_may_ask_at_any_time_and_no_counter_goes_back_for_it(rabbit, connection, channel, queue):
    """Channels and consumers come and go, deliveries and confirms too, while two threads ask without a pause."""
    asked, errors, stop = [0, 0], [], threading.Event()

    def ask(number):
        highest = {}
        try:
            while not stop.is_set():
                stats = connection.stats()
                asked[number] += 1
                for name in ('published', 'confirmed', 'acked', 'bytes_in', 'bytes_out', 'opened', 'given_back'):
                    assert stats[name] >= highest.get(name, 0)
                    highest[name] = stats[name]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        channel.subscribe(queue, lambda message: None, concurrency=3)
        for _ in range(15):
            with connection.channel() as other:
                for receipt in [other.publish(b'x', routing_key=queue) for _ in range(30)]:
                    receipt.wait()
                consumer = other.subscribe(queue, lambda message: None)
                consumer.cancel()
    finally:
        stop.set()
        for thread in threads:
            broker_tools.in_thread(thread.join)
    assert not errors
    assert min(asked) > 10


def test_a_thread_sees_that_the_hub_is_held_up_while_it_is(connection):
    seen, stop = [], threading.Event()

    def ask():
        while not stop.wait(0.02):
            seen.append(connection.stats()['hub_lag_seconds'])

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.monotonic() + 2.5  # the hub looks at the clock each second
    while time.monotonic() < until:
        time.sleep(0.05)  # the real one: nobody else runs
    stop.set()
    thread.join()
    assert max(seen) > 1
    greenlets.wait_until(lambda: connection.stats()['worst_hub_lag_seconds'] > 1)
