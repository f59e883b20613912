"""Many greenlets, channels and messages on one connection to a real broker."""

from __future__ import annotations

import os
import time
from urllib.parse import quote

import broker_tools
import greenlets
import pytest
from processor import own_time

import gamqp


class Watchdog:
    """The longest time for which the hub had a processor and did not come round, in seconds."""

    def __init__(self):
        self.gap = 0.0
        self._task = greenlets.spawn(self._run)

    def _run(self):
        while True:
            before = own_time()
            greenlets.sleep(0.005)
            self.gap = max(self.gap, own_time() - before)

    def stop(self):
        self._task.kill()


@pytest.mark.any_broker
@pytest.mark.real_seconds
@pytest.mark.limit(60 if not broker_tools.LONG else 1200)
def test_consuming_while_others_publish_on_the_same_connection_freezes_nothing(rabbit, connection):
    """3,000 large messages in, three publishers out; the hub goes on coming round."""
    count = 3000
    for _ in range(broker_tools.repeats(1, int(os.environ.get('GAMQP_TEST_ROUNDS', '10')))):
        with rabbit.connect() as connection:
            source, sink = connection.channel(), connection.channel()
            queue = source.queue_declare(exclusive=True, auto_delete=False).queue
            target = source.queue_declare(exclusive=True, auto_delete=False, arguments={'x-max-length': 10}).queue
            broker_tools.publish_all(source, queue, [bytes(20_000)] * count)
            got = []
            source.basic_qos(0, 100, False)

            def callback(message, got=got):
                got.append(message.body_size)
                message.ack()

            watchdog = Watchdog()
            running = [True]
            publishers = [greenlets.spawn(publish_while, running, sink, target) for _ in range(3)]
            started = time.monotonic()
            source.basic_consume(queue, callback=callback)
            broker_tools.drain_until(connection, lambda got=got: len(got) == count, broker_tools.repeats(30, 120))
            running.clear()
            sent = sum(task.get() for task in publishers)
            watchdog.stop()
            assert got == [20_000] * count
            print(
                f'{count} in, {sent} out, {time.monotonic() - started:.1f} s, longest gap {watchdog.gap * 1000:.0f} ms'
            )
            assert sent > 0
            # Bounded by our own slices of work, 10 ms; all of them take longer on a busy machine.
            assert watchdog.gap < 0.5
            broker_tools.wait_ready(source, queue, 0)


def publish_while(running, channel, queue):
    sent = 0
    while running:
        channel.basic_publish(gamqp.Message(bytes(100)), '', queue)
        sent += 1
        if not sent % 20:
            # Paced: the broker reads acks and publishes of one connection in turn, and would fall far behind.
            greenlets.sleep(0.002)
    return sent


def test_a_callback_that_publishes_is_never_nested(connection, channel, queue):
    target = connection.channel().queue_declare(exclusive=True).queue
    depths, depth = [], 0

    def callback(message):
        nonlocal depth
        depth += 1
        depths.append(depth)
        for call in (channel.basic_publish, channel.basic_publish_confirm):
            call(gamqp.Message(message.body), '', target)
        channel.queue_declare(target, passive=True)
        message.ack()
        depth -= 1

    broker_tools.publish_all(channel, queue, [b'x'] * 300)
    channel.basic_consume(queue, callback=callback)
    broker_tools.drain_until(connection, lambda: len(depths) == 300)
    assert set(depths) == {1}
    broker_tools.wait_ready(channel, target, 600)
    broker_tools.wait_ready(channel, queue, 0)


@pytest.mark.slow
def test_two_thousand_channels(rabbit):
    with rabbit.connect() as connection:
        connection.channel()
        started, before = time.process_time(), broker_tools.resident_bytes()
        channels = [connection.channel() for _ in range(2000)]
        took, grown = time.process_time() - started, broker_tools.resident_bytes() - before
        assert len({channel.channel_id for channel in channels}) == 2000
        assert channels[-1].queue_declare(exclusive=True).queue
        # py-amqp: 1.0 s on an idle machine, 5 kB per channel.
        assert took < 15
        assert grown / 2000 < 8192
        for task in [greenlets.spawn(channel.close) for channel in channels]:
            task.get(30)
        assert len(connection.channels) == 1


@pytest.mark.limit(60 if not broker_tools.LONG else 300)
def test_channels_opened_and_closed_without_end_use_the_same_few_numbers(connection):
    for _ in range(broker_tools.repeats(300, 20_000)):
        with connection.channel() as channel:
            assert channel.channel_id <= connection.channel_max
    assert not connection.channels


@pytest.mark.limit(60 if not broker_tools.LONG else 600)
def test_fifty_greenlets_doing_everything_on_one_connection(rabbit, connection):
    """Each with a queue of its own: whatever comes back must be its own."""
    rounds = broker_tools.repeats(6, 300)
    control = connection.channel()
    shared = connection.channel()

    def work(number):
        channel = shared if number % 2 else connection.channel()
        queue = channel.queue_declare(f'own.{number}', exclusive=True, auto_delete=False).queue
        for turn in range(rounds):
            body = b'%d.%d' % (number, turn)
            assert channel.queue_declare(queue, passive=True).queue == queue
            channel.basic_publish(gamqp.Message(body, message_id=str(number)), '', queue)
            channel.basic_publish_confirm(gamqp.Message(body * 1000), '', queue)
            message = channel.basic_get(queue)
            assert (bytes(message.body), message.properties['message_id']) == (body, str(number))
            message.ack()
            assert bytes(channel.basic_get(queue, no_ack=True).body) == body * 1000
            if not number % 2:
                channel.close()
                channel = connection.channel()
        assert channel.queue_delete(queue) == 0

    for task in [greenlets.spawn(work, number) for number in range(50)]:
        task.get(broker_tools.repeats(50, 500))
    assert control.queue_declare(exclusive=True).queue


@pytest.mark.slow
def test_the_brokers_counters_agree_with_ours(rabbit):
    """The management counts what it has seen, on its own schedule."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        queue = broker_tools.shared_queue(channel)
        for number in range(120):
            channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
        channel.basic_qos(0, 50, False)
        got = []
        tag = channel.basic_consume(queue, callback=got.append)
        broker_tools.drain_until(connection, lambda: len(got) == 50)
        for message in got[:20]:
            message.ack()
        broker_tools.drain_until(connection, lambda: len(got) == 70)

        def agree():
            seen = rabbit.node.api(f'queues/{quote(rabbit.vhost, safe="")}/{queue}')
            stats = seen.get('message_stats', {})
            counts = (stats.get('publish'), stats.get('deliver'), stats.get('ack'))
            return counts == (120, 70, 20) and (seen.get('messages_ready'), seen.get('messages_unacknowledged')) == (
                50,
                50,
            )

        greenlets.wait_until(agree, 60, 'the broker counts what we count')
        channel.basic_cancel(tag)
        channel.queue_delete(queue)
