"""What nobody should do to a connection, done to one: it may end, but never hang, corrupt or leave anything behind."""

from __future__ import annotations

import random
import time

import broker_tools
import greenlets
import pytest
from proxy import Proxy

import gamqp
from gamqp import exceptions


def of_the_library(name):
    """The greenlets that run a module of the library's."""
    found = []
    for one in greenlets.living_greenlets():
        frame = one.gr_frame
        while frame is not None:
            if frame.f_code.co_filename.endswith(name):
                found.append(one)
                break
            frame = frame.f_back
    return found


def kill_all(found):
    for one in found:
        greenlets.backend.kill(one)


@pytest.mark.parametrize('victim', ['io/reader.py', 'io/heartbeat_greenlet.py'])
def test_a_connection_that_lost_a_greenlet_of_its_own_ends_for_everyone(rabbit, victim):
    """It cannot do without: whoever waits must hear it, instead of waiting for what cannot come."""
    connection = rabbit.connect(heartbeat=5)
    channel = connection.channel()
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0.01)
    found = of_the_library(victim)
    assert len(found) == 1
    kill_all(found)
    assert isinstance(broker_tools.raised(waiting), connection.recoverable_connection_errors)
    assert isinstance(broker_tools.raised(channel.queue_declare), connection.recoverable_connection_errors)
    connection.close()
    del found
    connection.connect()
    assert connection.channel().queue_declare(exclusive=True).queue
    connection.close()


def test_killing_every_greenlet_of_the_process_ends_everything_cleanly(rabbit):
    connections = [rabbit.connect(heartbeat=5) for _ in range(3)]
    others = []

    def connect():
        others.append(rabbit.connect())

    for connection in connections:
        channel = connection.channel()
        greenlets.spawn(connection.drain_events)
        greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'no such queue')
        greenlets.spawn(connect)
    greenlets.sleep(0.002)
    kill_all(greenlets.living_greenlets())
    greenlets.wait_until(lambda: not any(connection.connected for connection in connections))
    for connection in connections:
        assert isinstance(broker_tools.raised(connection.channel), connection.recoverable_connection_errors)
        connection.close()
    for connection in others:  # those that were faster
        connection.close()


GARBAGE = [
    pytest.param(b'\x00' * 100, id='zeros'),
    pytest.param(b'HTTP/1.1 400 Bad Request\r\n\r\n', id='http'),
    pytest.param(b'\x01\x00\x01\x00\x00\x00\x04\x00\x32\x00\x0b\xcd', id='no-frame-end'),
    pytest.param(b'\x01\x00\x01\xff\xff\xff\xff', id='too-large'),
    pytest.param(b'\x01\x00\x00\x00\x00\x00\x04\x03\xe7\x00\x01\xce', id='unknown-method'),
    pytest.param(b'\x03\x00\x01\x00\x00\x00\x01x\xce', id='body-of-nothing'),
    pytest.param(b'\x01\x00\x01\x00\x00\x00\x05\x00\x32\x00\x0b\x09\xce', id='cut-arguments'),
]


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_from_the_broker_ends_the_connection_for_everyone(rabbit, garbage):
    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit))
        channel, other = connection.channel(), connection.channel()
        tasks = [greenlets.spawn(connection.drain_events), greenlets.spawn(other.basic_recover, True)]
        proxy.down.inject(garbage)
        tasks.append(greenlets.spawn(channel.queue_declare, '', False, False, True))
        for task in tasks:
            error = broker_tools.raised(task)
            assert isinstance(error, exceptions.IrrecoverableConnectionError), error
        assert not connection.connected
        connection.close()


def test_random_garbage_never_hangs(rabbit):
    rng = random.Random(11)
    with Proxy(rabbit.node.port) as proxy:
        for _ in range(broker_tools.repeats(20, 500)):
            connection = gamqp.connect(proxy.url(rabbit))
            channel = connection.channel()
            connection.rpc_timeout = 0.3
            proxy.down.inject(rng.randbytes(rng.randrange(1, 60)))
            try:
                while True:
                    channel.queue_declare(passive=True, queue='no such queue')
            except exceptions.NotFound:
                connection.close()
            except (exceptions.AMQPError, TimeoutError):
                connection.collect()
            proxy.cut()
            proxy.errors.clear()  # an answer to nonsense may be nonsense to the checker


def test_closing_under_full_use(rabbit):
    """From outside, while sixty greenlets do everything at once."""
    connection = rabbit.connect()
    queue = connection.channel().queue_declare(exclusive=True, auto_delete=False).queue

    def work(number):
        channel = connection.channel()
        while True:
            if number % 4 == 0:
                connection.drain_events(timeout=30)
            elif number % 4 == 1:
                channel.basic_publish_confirm(gamqp.Message(bytes(100_000)), '', queue)
            elif number % 4 == 2:
                channel.basic_consume(queue, callback=lambda message: message.ack())
                channel.close()
                channel = connection.channel()
            else:
                channel.basic_get(queue, no_ack=True)

    tasks = [greenlets.spawn(work, number) for number in range(60)]
    greenlets.sleep(0.2)
    started = time.monotonic()
    connection.close()
    assert time.monotonic() - started < 9  # the broker has answered: without, it takes ten
    for task in tasks:
        error = broker_tools.raised(task)
        assert isinstance(error, connection.recoverable_connection_errors), error
        assert 'clos' in str(error)  # is closing, was closed


def test_a_greenlet_killed_inside_its_callback_loses_nothing_for_others(connection, channel, queue):
    started, got = [], []

    def callback(message):
        started.append(message)
        if len(started) == 1:
            greenlets.sleep(60)
        got.append(message)

    channel.basic_consume(queue, callback=callback)
    broker_tools.publish_all(channel, queue, [b'1', b'2', b'3'])
    first = greenlets.spawn(connection.drain_events)
    greenlets.wait_until(lambda: started)
    first.kill()
    broker_tools.drain_until(connection, lambda: len(got) == 2)
    assert len(started) == 3
    started[0].nack()
    broker_tools.drain_until(connection, lambda: len(got) == 3)


def test_anything_is_legal_inside_a_callback(rabbit, connection, channel, queue):
    """Including what waits for the broker, and waiting for another delivery."""
    done = []

    def inner(message):
        done.append(b'inner ' + bytes(message.body))
        message.ack()

    def outer(message):
        inner_queue = channel.queue_declare(exclusive=True).queue
        tag = channel.basic_consume(inner_queue, callback=inner)
        channel.basic_publish_confirm(gamqp.Message(message.body), '', inner_queue)
        broker_tools.drain_until(connection, lambda: b'inner ' + bytes(message.body) in done)
        channel.basic_cancel(tag)
        with rabbit.connect() as other:
            assert other.channel().queue_declare(exclusive=True).queue
        with connection.channel() as third:
            assert third.basic_get(queue) is None
        message.ack()
        done.append(b'outer')

    channel.basic_qos(0, 10, False)
    channel.basic_consume(queue, callback=outer)
    broker_tools.publish_all(channel, queue, [b'x'])
    broker_tools.drain_until(connection, lambda: b'outer' in done)
    assert done == [b'inner x', b'outer']


def test_settling_twice_and_on_dead_channels(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'1', b'2'])
    first, second = broker_tools.get_all(channel, queue, no_ack=False)
    first.ack()
    first.ack()  # the broker closes the channel over this one
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag'):
        connection.drain_events(timeout=30)
    second.ack()  # of a channel that is no more: must not settle another's message
    again = None
    broker_tools.wait_ready(channel, queue, 1)
    again = channel.basic_get(queue)
    assert (bytes(again.body), again.redelivered) == (b'2', True)
    again.ack()
    assert connection.connected


def test_a_message_published_by_many_greenlets_at_once(connection, channel, queue):
    message = gamqp.Message(b'shared', application_headers={'n': 1})
    other = connection.channel()
    tasks = [greenlets.spawn((channel, other)[n % 2].basic_publish_confirm, message, '', queue) for n in range(50)]
    for task in tasks:
        task.get()
    assert len(broker_tools.get_all(channel, queue)) == 50
