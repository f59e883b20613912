"""A flood on one channel, a handler that never ends, channels without number: what the others notice of it."""

from __future__ import annotations

import logging
import time

import broker_tools
import greenlets
import pytest
from processor import own_time

import gamqp

# Seconds of a processor until another greenlet gets a turn beside a flood; usual are some milliseconds.
SLOW = 0.5
CHURN = broker_tools.repeats(300, 100_000)


@pytest.fixture
def flooded(rabbit):
    """A queue with more than a client wants at once."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        queue = broker_tools.shared_queue(channel)
        for _ in range(5):
            for _ in range(4000):
                channel.publish(bytes(500), routing_key=queue)
        assert channel.wait_for_confirms()
        yield queue
        channel.queue_delete(queue)


def round_trips(channel, queue, running):
    """Seconds of each round trip while *running()*."""
    times = []
    while running():
        begin = time.monotonic()
        channel.queue_declare(queue, passive=True)
        times.append(time.monotonic() - begin)
        greenlets.sleep(0)
    return sorted(times)


def watch(gaps):
    while True:
        begin = own_time()
        greenlets.sleep(0.005)
        gaps.append(own_time() - begin)


@pytest.mark.any_broker
@pytest.mark.real_seconds
@pytest.mark.parametrize('way', ['callback', 'loop', 'handlers'])
def test_a_flood_on_one_channel_leaves_time_for_the_others(connection, flooded, way):
    count = 20_000
    got = []
    channel, other = connection.channel(), connection.channel()

    def take_callbacks():
        channel.basic_consume(flooded, callback=got.append, no_ack=True)
        broker_tools.drain_until(connection, lambda: len(got) == count)

    def iterate():
        for message in channel.consume(flooded, no_ack=True):
            got.append(message)
            if len(got) == count:
                break

    if way == 'handlers':
        channel.subscribe(flooded, got.append, concurrency=10, no_ack=True)
    task = greenlets.spawn({'callback': take_callbacks, 'loop': iterate, 'handlers': lambda: None}[way])
    # Of its own: the flooding queue is busy, and would answer late whoever asked.
    idle = other.queue_declare(exclusive=True).queue
    gaps = []
    watching = greenlets.spawn(watch, gaps)
    times = round_trips(other, idle, lambda: len(got) < count)
    watching.kill()
    task.get()
    print(f'{len(times)} round trips, median {times[len(times) // 2] * 1000:.1f} ms, longest {times[-1] * 1000:.1f} ms')
    # Not behind the whole flood; how long the broker takes for each is its own affair.
    assert len(times) > 1
    assert max(gaps) < SLOW
    assert len(got) == count


def test_a_handler_that_never_ends_holds_up_nobody(connection, flooded):
    never = gamqp.green.Gate(greenlets.backend)
    got = []
    stuck = connection.channel().subscribe(flooded, lambda message: never.wait(), concurrency=5, prefetch=5)
    greenlets.wait_until(lambda: stuck.in_flight == 5)
    channel = connection.channel()
    working = channel.subscribe(flooded, got.append, prefetch=50)
    greenlets.wait_until(lambda: len(got) > 1000)
    assert channel.queue_declare(flooded, passive=True).consumer_count == 2
    assert stuck.in_flight == stuck.delivered == 5
    working.cancel()
    never.wake_all()
    stuck.cancel()


def test_who_hoards_is_named_in_a_warning(rabbit, flooded, caplog):
    with rabbit.connect(max_undelivered_messages=1000) as connection, caplog.at_level(logging.WARNING, 'gamqp'):
        connection.channel().subscribe(flooded, print, prefetch=10).cancel()
        hoarder = connection.channel().consume(flooded, no_ack=True, consumer_tag='greedy')
        greenlets.wait_until(lambda: 'reads no more' in caplog.text)
        assert "consumer 'greedy'" in caplog.text
        assert 'channel 2' in caplog.text
        assert connection.connected
        hoarder.close()
        connection.channel()  # reading goes on
    assert caplog.text.count('reads no more') == 1


@pytest.mark.limit(60 + CHURN // 100)
def test_channels_come_and_go(connection, flooded):
    """Closed by us, by the broker, and with deliveries on their way: numbers are free again, no frame goes astray."""
    for number in range(CHURN):
        channel = connection.channel()
        if number % 3 == 0:
            with pytest.raises(gamqp.NotFound):
                channel.queue_declare('is not there', passive=True)
        elif number % 3 == 1:
            channel.consume(flooded, prefetch=20)
        channel.close()
    assert not connection.channels
    channel = connection.channel()
    greenlets.wait_until(lambda: not channel.queue_declare(flooded, passive=True).consumer_count)
    broker_tools.wait_ready(channel, flooded, 20_000)


def test_without_a_free_number_it_says_how_many_are_open(rabbit):
    with rabbit.connect(channel_max=8) as connection:
        channels = [connection.channel() for _ in range(8)]
        with pytest.raises(gamqp.ResourceError, match='8 are open and channel_max is 8'):
            connection.channel()
        channels[3].close()
        assert connection.channel().channel_id == 4
