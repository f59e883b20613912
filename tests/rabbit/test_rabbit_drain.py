"""Connection.drain: what was begun is finished, what was not goes back, and nothing is handed out twice for it."""

from __future__ import annotations

import broker_tools
import greenlets
import inside
import pytest

import gamqp

ROUNDS = broker_tools.repeats(5, 200)


@pytest.mark.limit(60 + 2 * ROUNDS)
def test_stopping_under_load_loses_nothing_and_redelivers_nothing_that_was_handled(rabbit):
    """Handlers, a loop and callbacks at once, stopped in the middle of it, again and again."""
    count = 300
    with rabbit.connect() as control:
        channel = control.channel()
        queue = broker_tools.shared_queue(channel)
        for _ in range(ROUNDS):
            handled = []
            broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(count)])
            connection = rabbit.connect()
            tasks = use_in_three_ways(connection, queue, handled)
            greenlets.wait_until(lambda handled=handled: len(handled) > count // 10)
            assert connection.drain(20) is True
            assert not connection.connected
            for task in tasks:
                task.get()
            broker_tools.wait_ready(channel, queue, count - len(handled))
            left = [int(bytes(message.body)) for message in broker_tools.get_all(channel, queue)]
            assert sorted(left + handled) == list(range(count))
        channel.queue_delete(queue)


def use_in_three_ways(connection, queue, handled):
    def handle(message):
        greenlets.sleep(0.001)
        handled.append(int(bytes(message.body)))

    def callback(message):
        handle(message)
        message.ack()

    def iterate(messages):
        for message in messages:
            callback(message)

    def drain_events():
        with pytest.raises(gamqp.RecoverableConnectionError, match='closed by this program'):
            while True:
                connection.drain_events()

    connection.channel().subscribe(queue, handle, concurrency=5, prefetch=20)
    channel = connection.channel()
    channel.basic_qos(0, 10, False)
    channel.basic_consume(queue, callback=callback)
    messages = connection.channel().consume(queue, prefetch=10)
    return [greenlets.spawn(iterate, messages), greenlets.spawn(drain_events)]


def test_messages_without_ack_are_still_handed_out(rabbit):
    handled = []
    with rabbit.connect() as control:
        channel = control.channel()
        queue = broker_tools.shared_queue(channel)
        broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(100)])
        connection = rabbit.connect()

        def handle(message):
            greenlets.sleep(0)
            handled.append(int(bytes(message.body)))

        connection.channel().subscribe(queue, handle, no_ack=True)
        greenlets.wait_until(lambda: handled)
        assert connection.drain(20)
        left = [int(bytes(message.body)) for message in broker_tools.get_all(channel, queue)]
        assert handled + left == list(range(100))
        channel.queue_delete(queue)


def test_the_only_greenlet_that_runs_callbacks_may_drain(rabbit):
    """As a program does that is one loop of drain_events and then stops: nothing without acks is lost."""
    handled = []
    with rabbit.connect() as control:
        channel = control.channel()
        queue = broker_tools.shared_queue(channel)
        broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(500)])
        connection = rabbit.connect()
        connection.channel().basic_consume(
            queue, no_ack=True, callback=lambda message: handled.append(int(bytes(message.body)))
        )
        while len(handled) < 10:
            connection.drain_events(timeout=30)
        assert connection.drain(20) is True
        left = [int(bytes(message.body)) for message in broker_tools.get_all(channel, queue)]
        assert handled + left == list(range(500))
        channel.queue_delete(queue)


def test_confirms_are_waited_for(rabbit):
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    receipts = [channel.publish(b'x' * 1000, routing_key=queue) for _ in range(500)]
    assert connection.drain(20)
    assert all(receipt.acked for receipt in receipts)
    with rabbit.connect() as control:
        assert control.channel().queue_delete(queue) == 500


@pytest.mark.parametrize('way', ['handler', 'loop', 'callback'])
def test_a_drain_from_within_waits_for_the_others_only(rabbit, way):
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'stop', b'not begun'])
    outcome = []

    def stop(message):
        message.ack()
        outcome.append(connection.drain(20))

    if way == 'handler':
        channel.subscribe(queue, stop, prefetch=1)
        greenlets.wait_until(lambda: outcome)
    elif way == 'loop':
        for message in channel.consume(queue):
            stop(message)
    else:
        channel.basic_consume(queue, callback=stop)
        connection.drain_events(timeout=30)
    assert outcome == [True]
    with rabbit.connect() as control:
        assert control.channel().queue_delete(queue) == 1


def test_two_handlers_that_drain_do_not_wait_for_each_other(rabbit):
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'1', b'2'])
    gate = gamqp.green.Gate(greenlets.backend)
    outcome = []

    def stop(message):
        gate.wait()
        try:
            outcome.append(connection.drain(20))
        except gamqp.RecoverableConnectionError:
            outcome.append('closed')

    consumer = channel.subscribe(queue, stop, concurrency=2)
    greenlets.wait_until(lambda: consumer.in_flight == 2)
    gate.wake_all()
    greenlets.wait_until(lambda: len(outcome) == 2)
    assert True in outcome
    with rabbit.connect() as control:
        control.channel().queue_delete(queue)


@pytest.mark.parametrize('when', ['before', 'meanwhile'])
def test_a_loop_whose_greenlet_has_died_is_not_waited_for(rabbit, when):
    """Though somebody keeps its iterator, as a traceback does."""
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'1'])
    messages = channel.consume(queue)
    never = gamqp.green.Gate(greenlets.backend)

    def iterate():
        for _ in messages:
            never.wait()

    task = greenlets.spawn(iterate)
    greenlets.wait_until(lambda: len(never))
    if when == 'before':
        task.kill()
        greenlets.wait_until(lambda: task.greenlet.dead)
        assert connection.drain(10) is True
    else:
        draining = greenlets.spawn(connection.drain, 10)
        greenlets.wait_until(lambda: inside.has_ended(messages))
        task.kill()
        assert draining.get(20) is True
    with rabbit.connect() as control:
        greenlets.wait_until(lambda: broker_tools.ready(control.channel(), queue) == 1)
        control.channel().queue_delete(queue)


def test_a_handler_that_does_not_end_costs_the_time_and_its_message_goes_back(rabbit):
    connection = rabbit.connect(heartbeat=2)
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'1'])
    never = gamqp.green.Gate(greenlets.backend)
    consumer = channel.subscribe(queue, lambda message: never.wait())
    greenlets.wait_until(lambda: consumer.in_flight)
    assert connection.drain(0.2) is False
    assert not connection.connected
    never.wake_all()
    consumer.join(30)
    assert consumer.acked == 0
    with rabbit.connect() as control:
        greenlets.wait_until(lambda: broker_tools.ready(control.channel(), queue) == 1)
        control.channel().queue_delete(queue)


def test_no_new_consumer_while_draining(rabbit):
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'1'])
    errors = []

    def handle(message):
        errors.append(broker_tools.raised(channel.subscribe, queue, print))
        assert channel.queue_declare(queue, passive=True).consumer_count >= 0  # everything else works

    gate = gamqp.green.Gate(greenlets.backend)
    consumer = channel.subscribe(queue, lambda message: (gate.wait(), handle(message)))
    greenlets.wait_until(lambda: consumer.in_flight)
    draining = greenlets.spawn(connection.drain, 20)
    greenlets.wait_until(lambda: inside.unfinished_handlers(connection).draining)
    gate.wake_all()
    assert draining.get() is True
    assert isinstance(errors[0], gamqp.RecoverableConnectionError)
    assert 'drained' in str(errors[0])
    assert consumer.acked == 1
    with rabbit.connect() as control:
        control.channel().queue_delete(queue)


def test_a_lost_connection_is_told(rabbit):
    connection = rabbit.connect()
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'1'])
    gate = gamqp.green.Gate(greenlets.backend)
    consumer = channel.subscribe(queue, lambda message: gate.wait())
    greenlets.wait_until(lambda: consumer.in_flight)
    draining = greenlets.spawn(connection.drain, 20)
    greenlets.wait_until(lambda: inside.unfinished_handlers(connection).draining)
    connection.sock.shutdown(2)
    assert isinstance(broker_tools.raised(draining), gamqp.RecoverableConnectionError)
    gate.wake_all()
    with rabbit.connect() as control:
        control.channel().queue_delete(queue)


def test_an_ended_connection_cannot_be_drained(rabbit):
    connection = rabbit.connect()
    connection.close()
    assert isinstance(broker_tools.raised(connection.drain), gamqp.RecoverableConnectionError)
