"""What py-amqp was seen to do wrong, against a real broker behind a proxy that stalls and cuts."""

from __future__ import annotations

import time

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp import exceptions

# More than kernel and writer hold together, less than the 16 MiB that RabbitMQ 4 takes.
BIG = 12_000_000
TOLERANCE = 20  # seconds by which a busy machine may be late


@pytest.fixture
def link(rabbit, proxy):
    """A connection by way of the proxy."""
    connection = gamqp.connect(proxy.url(rabbit))
    yield connection
    proxy.up.resume()
    proxy.down.resume()
    connection.close()


@pytest.fixture
def channel(link):
    return link.channel()


# -- publishing to a broker that does not read --------------------------------------------------------------


def test_a_publish_that_is_interrupted_leaves_whole_messages_only(link, proxy, channel, queue):
    """The first fills what may wait here, so the second has to wait, and is given up."""
    proxy.up.pause()
    channel.basic_publish(gamqp.Message(bytes(BIG)), '', queue)
    with pytest.raises(broker_tools.Interrupted), broker_tools.times_out(0.1):
        channel.basic_publish(gamqp.Message(b'given up'), '', queue)
    task = greenlets.spawn(channel.basic_publish, gamqp.Message(b'killed'), '', queue)
    greenlets.sleep(0)
    task.kill()
    proxy.up.resume()
    channel.basic_publish(gamqp.Message(b'after'), '', queue)
    sizes = [message.body_size for message in broker_tools.get_all(channel, queue)]
    assert sizes == [BIG, len(b'after')]
    assert proxy.stream.whole


def test_a_publish_that_runs_out_of_time_closes_the_connection_before_it_raises(link, proxy, channel, queue):
    proxy.up.pause()
    started = time.monotonic()
    with pytest.raises(exceptions.RecoverableConnectionError, match=r'not sent within 0\.5 s'):
        channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', queue, timeout=0.5)
    assert time.monotonic() - started < 0.5 + TOLERANCE
    assert not link.connected
    assert link.sock is None
    with pytest.raises(exceptions.RecoverableConnectionError, match=r'not sent within 0\.5 s'):
        channel.basic_publish(gamqp.Message(b'x'), '', queue)


def test_write_timeout_ends_a_connection_whose_peer_takes_nothing(rabbit, proxy):
    with gamqp.connect(proxy.url(rabbit), write_timeout=0.5) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        waiting = greenlets.spawn(connection.drain_events)
        proxy.up.pause()
        channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', queue)
        started = time.monotonic()
        stuck = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', queue)
        for task in (stuck, waiting):
            assert 'write timeout' in str(broker_tools.raised(task))
        assert 0.3 < time.monotonic() - started < 0.5 + TOLERANCE


@pytest.mark.any_broker
def test_a_slow_broker_is_no_write_timeout(rabbit, proxy):
    # A kernel tells of room only when a third of its buffer is free: seconds apart on a slow machine.
    with gamqp.connect(proxy.url(rabbit), write_timeout=2) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        proxy.up.rate = 4_000_000
        started = time.monotonic()
        channel.basic_publish(gamqp.Message(bytes(16_000_000)), '', queue)
        connection.flush(40)
        assert time.monotonic() - started > 2
        proxy.up.rate = None
        assert channel.basic_get(queue, no_ack=True).body_size == 16_000_000


def test_a_broker_that_pauses_reading_is_not_dead(link, proxy, channel, queue):
    """Far longer than a TCP_USER_TIMEOUT of a second would bear, and far shorter than the heartbeat."""
    proxy.up.pause()
    channel.basic_publish(gamqp.Message(bytes(BIG)), '', queue)
    greenlets.sleep(2)
    proxy.up.resume()
    assert channel.basic_get(queue, no_ack=True).body_size == BIG


def test_a_dead_peer_is_found_although_a_publish_is_stuck(rabbit, proxy):
    connection = gamqp.connect(proxy.url(rabbit), heartbeat=1)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    proxy.up.pause()
    proxy.down.pause()
    started = time.monotonic()
    channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', queue)
    stuck = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', queue)
    connection.send_heartbeat()  # must not stand behind the publish
    error = broker_tools.raised(stuck)
    assert isinstance(error, exceptions.ConnectionForced)
    assert 1 < time.monotonic() - started < 3 + TOLERANCE
    connection.close()


# -- replies and confirms that come late ------------------------------------------------------------------


def test_a_late_reply_never_reaches_the_next_caller(link, proxy, channel):
    for number in range(5):
        proxy.down.pause()
        with pytest.raises(broker_tools.Interrupted), broker_tools.times_out(0.02):
            channel.queue_declare(f'abandoned.{number}', exclusive=True)
        killed = greenlets.spawn(channel.queue_declare, f'killed.{number}', False, False, True)
        greenlets.sleep(0.005)
        killed.kill()
        waiting = greenlets.spawn(channel.queue_declare, f'wanted.{number}', False, False, True)
        greenlets.sleep(0.005)
        proxy.down.resume()
        assert waiting.get().queue == f'wanted.{number}'


def test_a_reply_that_does_not_come_is_a_timeout_and_later_ones_are_right(rabbit, proxy):
    with gamqp.connect(proxy.url(rabbit)) as connection:
        channel = connection.channel()
        connection.rpc_timeout = 0.2
        proxy.down.pause()
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r'queue\.declare: no reply within 0\.2 s'):
            channel.queue_declare('late', exclusive=True)
        assert time.monotonic() - started < 0.2 + TOLERANCE
        connection.rpc_timeout = 30
        proxy.down.resume()
        assert channel.queue_declare('prompt', exclusive=True).queue == 'prompt'


def test_a_late_confirm_is_not_taken_for_that_of_a_later_message(link, proxy, channel, queue):
    acked = []
    channel.events['basic_ack'].add(lambda tag, multiple: acked.append(tag))
    channel.basic_publish_confirm(gamqp.Message(b'1'), '', queue)
    proxy.down.pause()
    for body in (b'2', b'3', b'4'):
        with pytest.raises(TimeoutError, match='no confirm'):
            channel.basic_publish_confirm(gamqp.Message(body), '', queue, confirm_timeout=0.05)
    proxy.down.resume()
    broker_tools.drain_until(link, lambda: max(acked, default=0) >= 4)
    proxy.down.pause()
    with pytest.raises(TimeoutError, match='no confirm'):
        channel.basic_publish_confirm(gamqp.Message(b'5'), '', queue, confirm_timeout=0.2)
    proxy.down.resume()
    channel.basic_publish_confirm(gamqp.Message(b'6'), '', queue)
    assert [bytes(message.body) for message in broker_tools.get_all(channel, queue)] == [
        b'1',
        b'2',
        b'3',
        b'4',
        b'5',
        b'6',
    ]


def test_twenty_greenlets_on_a_confirm_channel_behind_a_slow_line(link, proxy, channel, queue):
    """Each learns of its own message: those that were interrupted do not shift the others' confirms."""
    proxy.down.rate = 20_000
    outcomes = {}

    def publish(number):
        try:
            with broker_tools.times_out(0.001 if number % 4 == 0 else 20):
                channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
            outcomes[number] = 'confirmed'
        except broker_tools.Interrupted:
            outcomes[number] = 'interrupted'

    for task in [greenlets.spawn(publish, number) for number in range(20)]:
        task.get(30)
    proxy.down.rate = None
    held = {int(bytes(message.body)) for message in broker_tools.get_all(link.channel(), queue)}
    assert {number for number, outcome in outcomes.items() if outcome == 'confirmed'} <= held
    assert all(outcomes[number] == 'confirmed' for number in range(20) if number % 4)


# -- connections that are cut -----------------------------------------------------------------------------


@pytest.mark.parametrize('reset', [True, False], ids=['rst', 'fin'])
@pytest.mark.parametrize('after', [1, 1000, 700_000])
def test_a_cut_in_the_middle_of_a_delivery_wakes_everyone(rabbit, proxy, reset, after):
    connection = gamqp.connect(proxy.url(rabbit))
    channel, other = connection.channel(), connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.basic_consume(queue, callback=lambda message: None, no_ack=True)
    tasks = [greenlets.spawn(broker_tools.drain_for_ever, connection) for _ in range(2)]
    tasks.append(greenlets.spawn(declare_for_ever, other))
    tasks.append(greenlets.spawn(publish_for_ever, connection.channel(), queue))
    greenlets.sleep(0.02)
    proxy.down.cut_after(after, reset)
    for task in tasks:
        error = broker_tools.raised(task)
        assert isinstance(error, connection.recoverable_connection_errors), error
        assert 'connection lost' in str(error) or 'closed the socket' in str(error)
    assert not connection.connected
    connection.close()


@pytest.mark.parametrize('after', [1, 5000, 700_000])
def test_a_cut_in_the_middle_of_a_publish_wakes_everyone(rabbit, proxy, after):
    connection = gamqp.connect(proxy.url(rabbit))
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    tasks = [greenlets.spawn(publish_for_ever, channel, queue) for _ in range(3)]
    tasks.append(greenlets.spawn(connection.drain_events))
    greenlets.sleep(0.02)
    proxy.up.cut_after(after)
    for task in tasks:
        assert isinstance(broker_tools.raised(task), connection.recoverable_connection_errors)
    connection.close()


def declare_for_ever(channel):
    while True:
        channel.queue_declare(exclusive=True)


def publish_for_ever(channel, queue):
    while True:
        channel.basic_publish_confirm(gamqp.Message(bytes(200_000)), '', queue)


@pytest.mark.parametrize('reset', [False, True], ids=['FIN', 'RST'])
def test_a_publish_after_a_loss_that_nobody_had_a_turn_to_see_raises(proxy, channel, queue, reset):
    """A program that computes between its publishes and switches nowhere; who retries publishes it again then."""
    channel.basic_publish_confirm(gamqp.Message(b'before'), '', queue)
    proxy.cut(reset)
    time.sleep(0.1)
    for _ in range(2):
        with pytest.raises(exceptions.RecoverableConnectionError):
            channel.basic_publish(gamqp.Message(b'after'), '', queue)
