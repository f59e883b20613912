"""``for message in channel.consume(queue)`` on a real broker: nothing is lost or hoarded, however the loop is left."""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
import random
import threading

import broker_tools
import greenlets
import inside
import pytest
from flooding import undelivered
from proxy import Proxy

import gamqp
from gamqp import exceptions

SEED = int(os.environ.get('GAMQP_TEST_SEED') or 20260203)


def consumers(channel, queue):
    return channel.queue_declare(queue, passive=True).consumer_count


# -- leaving the loop ----------------------------------------------------------------------------------------


def test_break_requeues_what_was_sent_ahead(channel, queue):
    broker_tools.publish_numbers(channel, queue, 50)
    for message in channel.consume(queue, prefetch=20):
        message.ack()
        if broker_tools.number_of(message) == 4:
            break
    # At once: the next call finds them, in their order.
    assert broker_tools.number_of(channel.basic_get(queue, no_ack=True)) == 5
    broker_tools.wait_ready(channel, queue, 44)
    assert consumers(channel, queue) == 0
    assert [broker_tools.number_of(message) for message in broker_tools.get_all(channel, queue)] == list(range(6, 50))


def test_an_error_in_the_loop_requeues_as_well_and_the_message_in_hand_stays_the_programs(channel, queue):
    broker_tools.publish_numbers(channel, queue, 10)
    with pytest.raises(LookupError):
        for message in channel.consume(queue, prefetch=5):
            in_hand = message
            raise LookupError
    broker_tools.wait_ready(channel, queue, 9)
    in_hand.ack()
    assert sorted(broker_tools.number_of(message) for message in broker_tools.get_all(channel, queue)) == list(
        range(1, 10)
    )


def test_one_loop_after_the_other_with_exclusive_consumers(channel, queue):
    """Each leaves before the next comes, though nobody waits for the broker."""
    broker_tools.publish_numbers(channel, queue, 30)
    got = []
    for _ in range(30):
        for message in channel.consume(queue, exclusive=True):
            got.append(broker_tools.number_of(message))
            message.ack()
            break
    assert got == list(range(30))
    broker_tools.wait_ready(channel, queue, 0)


def test_a_loop_that_is_killed(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 10)
    began = []

    def loop():
        for message in channel.consume(queue, prefetch=5):
            began.append(message)
            greenlets.sleep(60)

    task = greenlets.spawn(loop)
    greenlets.wait_until(lambda: began)
    task.kill()
    greenlets.wait_until(lambda: task.greenlet.dead)
    task = None
    broker_tools.wait_ready(channel, queue, 9)
    assert channel.is_open and not inside.incarnation(channel)


def test_without_acks_break_loses_what_was_sent_ahead_and_keeps_no_memory_of_it(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 200)
    for message in channel.consume(queue, no_ack=True):
        if broker_tools.number_of(message) == 10:
            break
    channel.queue_declare(queue, passive=True)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert undelivered(connection) == (0, 0)


def test_dropped_in_another_thread_with_its_prefetch_full(channel, queue):
    broker_tools.publish_numbers(channel, queue, 10)
    box = [channel.consume(queue, prefetch=5)]
    greenlets.wait_until(lambda: box[0].delivered == 5)
    broker_tools.in_thread(box.clear)
    broker_tools.wait_ready(channel, queue, 10)
    assert consumers(channel, queue) == 0


def test_garbage_in_another_thread(channel, queue):
    broker_tools.publish_numbers(channel, queue, 10)
    gc.disable()
    try:
        leave_garbage(channel.consume(queue, prefetch=5))
        broker_tools.in_thread(gc.collect)
    finally:
        gc.enable()
    broker_tools.wait_ready(channel, queue, 10)


def leave_garbage(deliveries):
    greenlets.wait_until(lambda: deliveries.delivered == 5)
    cycle = [deliveries]
    cycle.append(cycle)


def test_a_hundred_loops_that_break_leave_nothing(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 20)
    for _ in range(100):
        for message in channel.consume(queue, prefetch=10):
            message.nack()
            break
    broker_tools.wait_ready(channel, queue, 20)
    assert consumers(channel, queue) == 0
    assert channel.consumer_count == 0 and channel.unsettled == 0
    assert connection.stats()['undelivered_messages'] == 0


@pytest.mark.parametrize('how', ['loop', 'handler'])
def test_interrupted_at_any_moment(connection, channel, queue, how):
    """Killed or timed out anywhere in consume, the loop, close, subscribe or cancel: nothing is left behind."""
    rng = random.Random(f'{SEED} {how}')
    print(f'seed {SEED}')
    count, acked = 100, []
    broker_tools.publish_numbers(channel, queue, count)

    def loop():
        with channel.consume(queue, prefetch=3) as deliveries:
            for _ in range(3):
                settle(next(deliveries))

    def handler():
        consumer = channel.subscribe(queue, settle, prefetch=3, concurrency=2)
        try:
            greenlets.sleep(0.005)
        finally:
            consumer.cancel()

    def settle(message):
        greenlets.sleep(0)
        if rng.random() < 0.1:
            message.ack()
            acked.append(broker_tools.number_of(message))
        else:
            message.nack()

    call = loop if how == 'loop' else handler
    cut_short = 0
    for _ in range(broker_tools.repeats(60, 1000)):
        task = greenlets.spawn(interrupted, call, rng.uniform(0, 0.02))
        if rng.random() < 0.5:
            greenlets.sleep(rng.uniform(0, 0.01))
            task.kill()
        greenlets.wait_until(lambda task=task: task.greenlet.dead)
        cut_short += not task.done or broker_tools.how_it_ended(task) != 'done'
        task = None
        greenlets.wait_until(lambda: consumers(channel, queue) == 0, what='no consumer is left')
        if how == 'handler':
            greenlets.wait_until(lambda: channel.unsettled == 0)
        else:  # what the loop had in hand when it was interrupted is the program's to settle
            for tag in list(inside.unacked(channel)):
                channel.basic_nack(tag)
        broker_tools.wait_ready(channel, queue, count - len(acked))
    assert cut_short
    assert channel.is_open and not inside.incarnation(channel)
    assert undelivered(connection) == (0, 0)
    left = [broker_tools.number_of(message) for message in broker_tools.get_all(channel, queue)]
    assert sorted(left + acked) == list(range(count))


def interrupted(call, seconds):
    try:
        with broker_tools.times_out(seconds):
            call()
    except broker_tools.Interrupted:
        return 'interrupted'
    return 'done'


# -- the end -------------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_loop(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 3)
    deliveries = channel.consume(queue)
    got = []

    def loop():
        for message in deliveries:
            got.append(broker_tools.number_of(message))
            message.ack()
        return 'ended'

    task = greenlets.spawn(loop)
    greenlets.wait_until(lambda: len(got) == 3)
    connection.channel()  # any other call goes on meanwhile
    channel.basic_cancel(deliveries.tag)
    assert task.get() == 'ended'
    assert list(deliveries) == []


def test_a_deleted_queue_is_consumer_cancelled(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 5)
    deliveries = channel.consume(queue, prefetch=3)
    first = next(deliveries)
    connection.channel().queue_delete(queue)
    with pytest.raises(exceptions.ConsumerCancelled, match=deliveries.tag):
        while True:
            next(deliveries).ack()
    first.ack()
    # Nothing of it is left in the channel, here or there.
    greenlets.wait_until(lambda: channel.unsettled == 0)
    other = channel.queue_declare(exclusive=True).queue
    assert channel.is_open and not inside.incarnation(channel)
    assert consumers(channel, other) == 0


def test_a_channel_error_ends_the_loop_and_is_said_once(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 5)
    deliveries = channel.consume(queue)
    message = next(deliveries)
    message.ack()
    channel.basic_ack(message.delivery_tag)  # once more
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag'):
        while True:
            next(deliveries)
    assert broker_tools.number_of(next(channel.consume(queue))) == 1
    assert connection.connected


@pytest.mark.parametrize('no_ack', [False, True])
def test_a_lost_connection_ends_the_loop(rabbit, channel, no_ack):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 20)
    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit))
        deliveries = connection.channel().consume(queue, no_ack=no_ack)
        greenlets.wait_until(lambda: deliveries.delivered == 20)
        got = [broker_tools.number_of(next(deliveries))]
        proxy.cut()
        greenlets.wait_until(lambda: not connection.connected)
        with pytest.raises(exceptions.RecoverableConnectionError):
            for message in deliveries:
                got.append(broker_tools.number_of(message))
    # What came without acks is nowhere else.
    assert got == (list(range(20)) if no_ack else [0])
    broker_tools.wait_ready(channel, queue, 0 if no_ack else 20)
    channel.queue_delete(queue)


def test_a_timeout_is_no_end(channel, queue):
    deliveries = channel.consume(queue, timeout=0.05)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            next(deliveries)
    channel.publish(b'7', routing_key=queue)
    deliveries = iter(deliveries)
    message = greenlets.wait_until(lambda: next_or_none(deliveries))
    assert broker_tools.number_of(message) == 7
    message.ack()


def next_or_none(deliveries):
    with contextlib.suppress(TimeoutError):
        return next(deliveries)


def test_draining_ends_the_loop_after_the_message_in_hand(rabbit, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 10)
    connection = rabbit.connect()
    got, go = [], gamqp.green.Event(greenlets.backend)

    def loop():
        for message in connection.channel().consume(queue, prefetch=5):
            got.append(message)
            go.wait()
            message.ack()
        return 'ended'

    task = greenlets.spawn(loop)
    greenlets.wait_until(lambda: got)
    draining = greenlets.spawn(connection.drain, 20)
    broker_tools.wait_ready(channel, queue, 9)
    assert not draining.done
    go.set()
    assert draining.get() is True
    assert task.get() == 'ended'
    broker_tools.wait_ready(channel, queue, 9)
    assert channel.queue_delete(queue) == 9


# -- sharing a queue and a channel ---------------------------------------------------------------------------


def test_five_loops_on_one_channel_share_a_queue(channel, queue):
    broker_tools.publish_numbers(channel, queue, 500)
    got = []

    def loop():
        for message in channel.consume(queue, prefetch=3, timeout=30):
            got.append(broker_tools.number_of(message))
            greenlets.sleep(0)
            message.ack()
            if len(got) == 500:
                break

    tasks = [greenlets.spawn(loop) for _ in range(5)]
    greenlets.wait_until(lambda: len(got) == 500)
    for tag in list(inside.consumers(channel)):
        channel.basic_cancel(tag)
    for task in tasks:
        task.get()
    assert sorted(got) == list(range(500))
    broker_tools.wait_ready(channel, queue, 0)


def test_a_consumer_with_priority_comes_first(channel, queue):
    low = channel.consume(queue, arguments={'x-priority': 1})
    high = channel.consume(queue, arguments={'x-priority': 10})
    broker_tools.publish_numbers(channel, queue, 20)
    for number in range(20):
        message = next(high)
        assert broker_tools.number_of(message) == number
        message.ack()
    assert low.delivered == 0
    low.close()
    high.close()
    broker_tools.wait_ready(channel, queue, 0)


def test_an_exclusive_consumer_refuses_others(connection, channel, queue):
    deliveries = channel.consume(queue, exclusive=True)
    with pytest.raises(exceptions.AccessRefused):
        connection.channel().consume(queue)
    broker_tools.publish_numbers(channel, queue, 1)
    next(deliveries).ack()
    deliveries.close()
    connection.channel().consume(queue).close()


def test_a_single_active_consumer_is_followed_by_the_next(connection, channel):
    queue = broker_tools.shared_queue(channel, arguments={'x-single-active-consumer': True})
    first, second = channel.consume(queue, prefetch=1), connection.channel().consume(queue, prefetch=1)
    broker_tools.publish_numbers(channel, queue, 3)
    next(first).ack()
    next(first).ack()  # before it goes: RabbitMQ 3.10 forgets to wake the next one else
    assert second.delivered == 0
    first.close()
    assert broker_tools.number_of(next(second)) == 2
    second.close()
    channel.queue_delete(queue)


# -- streams -------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(channel):
    name = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'stream'})
    broker_tools.publish_numbers(channel, name, 20)
    channel.wait_for_confirms()
    yield name
    channel.queue_delete(name)


def read(channel, stream, offset, count):
    got = []
    with channel.consume(stream, prefetch=10, arguments={'x-stream-offset': offset}, timeout=20) as deliveries:
        for message in deliveries:
            got.append(broker_tools.number_of(message))
            message.ack()
            if len(got) == count:
                break
    return got


def past():
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ('offset', 'first'),
    [('first', 0), (0, 0), (7, 7), (past(), 0), ('1h', 0), ('5m', 0)],
    ids=['first', 'zero', 'number', 'datetime', 'hour', 'minutes'],
)
def test_a_stream_is_read_from_each_kind_of_offset(channel, stream, offset, first):
    greenlets.wait_until(lambda: read(channel, stream, 'first', 20))
    assert read(channel, stream, offset, 20 - first) == list(range(first, 20))


def test_a_stream_is_read_from_its_end(channel, stream):
    read(channel, stream, 'first', 20)
    with channel.consume(stream, arguments={'x-stream-offset': 'next'}, timeout=20) as deliveries:
        assert deliveries.delivered == 0
        channel.publish(b'20', routing_key=stream).wait()
        message = next(deliveries)
        assert broker_tools.number_of(message) == 20
        message.ack()
    last = read(channel, stream, 'last', 1)
    assert 0 <= last[0] <= 20  # where the last chunk begins


def test_a_loop_that_leaves_a_stream_leaves_the_channel_well(channel, stream):
    for _ in range(5):
        for message in channel.consume(stream, prefetch=10, arguments={'x-stream-offset': 'first'}):
            message.ack()
            break
    assert channel.queue_declare(stream, passive=True).queue == stream
    assert channel.is_open and not inside.incarnation(channel)


def test_a_stream_without_prefetch_or_acks_is_a_clear_error(connection, channel, stream):
    offset = {'x-stream-offset': 'first'}
    with pytest.raises(ValueError, match='prefetch above 0'):
        channel.consume(stream, prefetch=0, arguments=offset)
    with pytest.raises(ValueError, match='with acks'):
        channel.consume(stream, no_ack=True, arguments=offset)
    with pytest.raises(ValueError, match='prefetch above 0'):  # it was declared over this connection
        channel.consume(stream, prefetch=0)
    inside.queue_types(connection).forget(stream)
    with pytest.raises(exceptions.PreconditionFailed, match='prefetch'):  # unknown to us that it is a stream
        channel.consume(stream, prefetch=0)
    assert connection.connected


def test_the_thread_of_the_loop_is_the_one_of_its_connection(channel, queue):
    broker_tools.publish_numbers(channel, queue, 1)
    deliveries = channel.consume(queue)
    errors = []

    def use():
        try:
            next(deliveries)
        except exceptions.WrongThread as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1
    next(deliveries).ack()
