"""A broker that stops, starves, hangs or dies under its connections. Each module has a node of its own for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import broker_tools
import greenlets
import inside
import pytest

import gamqp
from gamqp import exceptions

TOLERANCE = 20  # seconds by which a busy machine may be late


def connect(node, **arguments):
    return gamqp.connect(node.url(), **arguments)


class Alarm:
    """The memory alarm, on for as long as the block lasts."""

    def __init__(self, node):
        self._node = node

    def __enter__(self):
        broker_tools.in_thread(self._node.set_memory_watermark, 0)

    def __exit__(self, *exc_info):
        broker_tools.in_thread(self._node.set_memory_watermark, 0.4)


@pytest.mark.limit(90)
def test_a_blocked_connection_knows_why_waits_and_loses_nothing(node):
    events = []
    with (
        connect(node) as consuming,
        connect(
            node,
            rpc_timeout=1,
            on_blocked=lambda reason: events.append(reason),
            on_unblocked=lambda: events.append(None),
        ) as connection,
    ):
        watcher = consuming.channel()
        queue = broker_tools.shared_queue(watcher)
        got = []
        watcher.basic_consume(queue, callback=lambda message: got.append(bytes(message.body)), no_ack=True)
        drainer = greenlets.spawn(broker_tools.drain_for_ever, consuming)
        channel = connection.channel()
        channel.basic_publish(gamqp.Message(b'before'), '', queue)
        with Alarm(node):
            # A connection is told when it first publishes into the alarm.
            channel.basic_publish(gamqp.Message(b'first'), '', queue)
            greenlets.wait_until(lambda: events, 60, 'on_blocked was called')
            assert 'memory' in events[0]
            assert connection.is_blocked
            assert inside.flow_control(connection).blocked_reason == events[0]
            started = time.monotonic()
            with pytest.raises(exceptions.Blocked, match='memory'):
                channel.basic_publish(gamqp.Message(b'too impatient'), '', queue, timeout=0.3)
            assert time.monotonic() - started < TOLERANCE
            # A question is not answered either: the broker does not read. But there is a deadline.
            with pytest.raises(TimeoutError):
                channel.queue_declare(queue, passive=True)
            patient = [greenlets.spawn(publish_patiently, channel, queue, number) for number in range(10)]
            # Who only consumes does not notice anything.
            assert watcher.queue_declare(queue, passive=True).queue == queue
            assert not consuming.is_blocked
            greenlets.sleep(0.1)
            assert not any(task.done for task in patient)
        for task in patient:
            task.get()
        greenlets.wait_until(lambda: len(got) == 12, 60, f'all twelve messages; got {got}')
        assert got == [b'before', b'first', *[b'patient %d' % number for number in range(10)]]
        assert not connection.is_blocked
        assert events[-1] is None
        channel.basic_publish_confirm(gamqp.Message(b'after'), '', queue)
        watcher.queue_delete(queue)
        drainer.kill()


def publish_patiently(channel, queue, number):
    channel.basic_publish(gamqp.Message(b'patient %d' % number), '', queue, timeout=30)


@pytest.mark.limit(90)
def test_closing_a_blocked_connection_does_not_hang(node):
    with connect(node) as control:
        queue = broker_tools.shared_queue(control.channel())
        connection = connect(node, rpc_timeout=2)
        channel = connection.channel()
        with Alarm(node):
            channel.basic_publish(gamqp.Message(b'first'), '', queue)
            greenlets.wait_until(lambda: connection.is_blocked, 60, 'blocked')
            waiting = greenlets.spawn(channel.basic_publish, gamqp.Message(b'second'), '', queue)
            greenlets.sleep(0)
            connection.collect()
            assert isinstance(broker_tools.raised(waiting), exceptions.RecoverableConnectionError)
        control.channel().queue_delete(queue)


@pytest.mark.limit(90)
def test_a_silent_broker_is_found_within_three_heartbeats_even_behind_a_stuck_publish(node):
    heartbeat = 2
    names = ('idle', 'drained', 'asking', 'stuck', 'full', 'confirming')
    connections = {name: connect(node, heartbeat=heartbeat, name=name) for name in names}
    channels = {name: connections[name].channel() for name in names}
    queue = channels['stuck'].queue_declare(exclusive=True).queue
    body = bytes(50_000_000)
    ended = {}

    def note(name, call, *args, **kwargs):
        error = broker_tools.raised(lambda: call(*args, **kwargs))
        ended[name] = (time.monotonic() - started, error)

    with node.suspended():
        wait_until_it_stands(node)
        started = time.monotonic()
        tasks = [
            greenlets.spawn(note, 'drained', connections['drained'].drain_events),
            greenlets.spawn(note, 'asking', channels['asking'].queue_declare, 'x', True),
            greenlets.spawn(
                note, 'confirming', channels['confirming'].basic_publish_confirm, gamqp.Message(b'x'), '', 'x'
            ),
            greenlets.spawn(note, 'stuck', publish_until_it_fails, channels['stuck'], queue, body),
            greenlets.spawn(note, 'full', publish_and_flush, connections['full'], channels['full'], queue, body),
        ]
        greenlets.wait_until(lambda: not any(one.connected for one in connections.values()), 60, 'all are found dead')
        took = time.monotonic() - started
        for task in tasks:
            task.get()
    # Two whole intervals of silence, and what the last sign of life was old before.
    assert heartbeat < took < 3 * heartbeat + TOLERANCE, took
    for name, (seconds, error) in ended.items():
        assert isinstance(error, exceptions.ConnectionForced), (name, error)
        assert 'heartbeats missed' in str(error), name
        assert seconds < 3 * heartbeat + TOLERANCE, name
    assert 'heartbeats missed' in str(broker_tools.raised(connections['idle'].channel))
    for connection in connections.values():
        connection.close()


def wait_until_it_stands(node):
    """A signal to stop takes its time to reach all threads, and the last of them may still answer."""

    def states():
        for thread in Path(f'/proc/{node.server_pid()}/task').iterdir():
            yield (thread / 'stat').read_text().rpartition(')')[2].split()[0]

    greenlets.wait_until(lambda: set(states()) == {'T'})


def publish_until_it_fails(channel, queue, body):
    while True:
        channel.basic_publish(gamqp.Message(body), '', queue)


def publish_and_flush(connection, channel, queue, body):
    channel.basic_publish(gamqp.Message(body), '', queue)
    connection.flush()


def test_connecting_to_a_silent_broker_has_a_deadline(node):
    with node.suspended():
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r'no .* from the broker'):
            connect(node, connect_timeout=0.5)
        assert 0.4 < time.monotonic() - started < 0.5 + TOLERANCE


def test_a_silent_broker_that_comes_back_in_time_is_not_given_up(node):
    with connect(node, heartbeat=5) as connection:
        channel = connection.channel()
        with node.suspended():
            wait_until_it_stands(node)
            asked = greenlets.spawn(lambda: channel.queue_declare(exclusive=True).queue)
            greenlets.sleep(1)
            assert not asked.done
        assert asked.get().startswith('amq.gen-')


def test_transient_shared_queues_refused_by_the_broker_have_a_clear_error(rabbit, node):
    if rabbit.major < 4:
        pytest.skip('this broker takes them all')
    with connect(node) as connection:
        channel = connection.channel()
        with (
            pytest.warns(exceptions.AMQPDeprecationWarning),
            pytest.raises(exceptions.InternalError, match='transient_nonexcl_queues') as caught,
        ):
            channel.queue_declare('transient', auto_delete=False)
        assert caught.value.reply_code == 541
        # The broker closed the connection over it: whoever comes next hears why.
        with pytest.raises(exceptions.InternalError, match='transient_nonexcl_queues'):
            connection.channel()


@pytest.mark.limit(120)
def test_the_death_of_the_broker_wakes_everyone_and_durable_messages_survive(rabbit, node):
    connection = connect(node)
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    channel.basic_publish_confirm(gamqp.Message(b'kept', delivery_mode=2), '', queue)
    if rabbit.major < 4:
        # It was seen to forget a queue when it was killed just after it had declared it.
        broker_tools.in_thread(node.eval, 'mnesia:dump_log().')
    waiting = [greenlets.spawn(connection.drain_events) for _ in range(3)]
    greenlets.sleep(0)
    os.kill(node.server_pid(), signal.SIGKILL)
    started = time.monotonic()
    for task in waiting:
        error = broker_tools.raised(task)
        assert isinstance(error, connection.recoverable_connection_errors), error
        assert 'connection lost' in str(error) or 'closed the socket' in str(error)
    assert time.monotonic() - started < TOLERANCE  # a heartbeat would find out later
    for call in (lambda: channel.basic_get(queue), connection.channel):
        assert isinstance(broker_tools.raised(call), connection.recoverable_connection_errors)
    with pytest.raises(connection.recoverable_connection_errors):
        connection.connect()
    broker_tools.in_thread(node.kill)  # what is left of it
    broker_tools.in_thread(node.start)
    connection.connect()
    channel = connection.channel()
    assert bytes(channel.basic_get(queue, no_ack=True).body) == b'kept'
    channel.queue_delete(queue)
    connection.close()
