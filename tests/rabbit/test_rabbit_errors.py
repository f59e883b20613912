"""What a real broker refuses: the right caller hears of it, everybody else goes on."""

from __future__ import annotations

import broker_tools
import greenlets
import inside
import pytest

import gamqp
from gamqp import exceptions


def test_the_caller_gets_the_error_and_the_channel_goes_on(connection, channel, queue):
    with pytest.raises(exceptions.NotFound) as caught:
        channel.queue_declare('no such queue', passive=True)
    assert caught.value.reply_code == 404
    assert "no queue 'no such queue'" in caught.value.reply_text
    assert caught.value.method_sig == (50, 10)
    assert channel.queue_declare(queue, passive=True).queue == queue


def test_only_the_caller_at_fault_hears_of_it_when_many_share_a_channel(connection, queue):
    """Those behind the fault fail with it, because the broker drops what they asked; those before do not."""
    channel = connection.channel()
    before = [greenlets.spawn(channel.queue_declare, queue, True) for _ in range(5)]
    at_fault = greenlets.spawn(channel.queue_declare, 'no such queue', True)
    behind = [greenlets.spawn(channel.queue_declare, queue, True) for _ in range(5)]
    for task in before:
        assert task.get().queue == queue
    for task in [at_fault, *behind]:
        assert isinstance(broker_tools.raised(task), exceptions.NotFound)
    assert channel.queue_declare(queue, passive=True).queue == queue


def test_another_channel_does_not_notice(connection, channel, queue):
    other = connection.channel()
    got = []
    other.basic_consume(queue, callback=got.append, no_ack=True)
    waiting = greenlets.spawn(other.basic_publish_confirm, gamqp.Message(b'x'), '', queue)
    for _ in range(5):
        with pytest.raises(exceptions.NotFound):
            channel.queue_declare('no such queue', passive=True)
    waiting.get()
    other.basic_publish(gamqp.Message(b'y'), '', queue)
    broker_tools.drain_until(connection, lambda: len(got) == 2)


@pytest.mark.parametrize('how', ['basic_ack', 'basic_nack', 'basic_reject'])
def test_an_unknown_delivery_tag_is_raised_where_somebody_listens(connection, channel, queue, how):
    settle = getattr(channel, how)
    settle(99, True) if how == 'basic_reject' else settle(99)
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag 99'):
        connection.drain_events(timeout=30)
    assert channel.queue_declare(queue, passive=True).queue == queue


def test_an_error_nobody_waited_for_comes_out_of_the_next_call_once(connection, channel, queue):
    channel.queue_bind(queue, 'no such exchange', nowait=True)
    greenlets.wait_until(
        lambda: not channel.is_open or inside.has_unraised_error(channel), what='the error has arrived'
    )
    with pytest.raises(exceptions.NotFound, match='no such exchange'):
        channel.queue_declare(queue, passive=True)
    assert channel.queue_declare(queue, passive=True).queue == queue


def test_publish_to_a_missing_exchange_is_told_by_drain_events(connection, channel, queue):
    channel.basic_publish(gamqp.Message(b'x'), 'nowhere', 'key')
    with pytest.raises(exceptions.NotFound, match='nowhere'):
        connection.drain_events(timeout=30)
    channel.basic_publish(gamqp.Message(b'x'), '', queue)
    broker_tools.wait_ready(channel, queue, 1)


def test_after_an_error_the_consumers_of_the_channel_are_gone_and_their_messages_back(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'x'] * 5)
    other = connection.channel()
    got = []
    other.basic_consume(queue, callback=got.append)
    broker_tools.drain_until(connection, lambda: len(got) == 2)
    with pytest.raises(exceptions.NotFound):
        other.queue_declare('no such queue', passive=True)
    assert not other.callbacks
    broker_tools.wait_ready(channel, queue, 5)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    assert len(got) == 2
    channel.queue_delete(queue)


def test_a_connection_error_reaches_everyone_with_the_brokers_words(rabbit, queue):
    """503: the broker ends a connection that publishes with a frame of no sense; here, by an exchange type."""
    with rabbit.connect() as connection:
        channels = [connection.channel() for _ in range(3)]
        channels[0].basic_consume(channels[0].queue_declare(exclusive=True).queue, callback=lambda message: None)
        drainer = greenlets.spawn(connection.drain_events)
        error = broker_tools.raised(channels[1].exchange_declare, 'x', 'no-such-type', False, True, False)
        assert isinstance(error, (exceptions.InvalidCommand, exceptions.PreconditionFailed)), error
        if connection.connected:  # newer brokers only close the channel
            drainer.kill()
            return
        for call in (drainer.get, connection.channel, lambda: channels[2].queue_declare(exclusive=True)):
            other = broker_tools.raised(call)
            assert isinstance(other, exceptions.InvalidCommand), other
            assert 'no-such-type' in str(other)


def test_a_connection_closed_by_the_operator_wakes_everyone(rabbit):
    """An own virtual host, because the order closes all connections of one."""
    vhost = f'{rabbit.vhost}.closing'
    url = rabbit.node.add_vhost(vhost)
    try:
        connection = gamqp.connect(url)
        channel, idle = connection.channel(), connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.basic_consume(queue, callback=lambda message: None)
        drainers = [greenlets.spawn(connection.drain_events) for _ in range(3)]
        drainers.append(greenlets.spawn(connection.drain_events, 30))
        greenlets.sleep(0)
        rabbit.node.close_connections(vhost, reason='maintenance at noon')
        for task in drainers:
            error = broker_tools.raised(task)
            assert isinstance(error, exceptions.ConnectionForced), error
            assert 'maintenance at noon' in str(error)
        for call in (connection.channel, lambda: idle.queue_declare(exclusive=True), lambda: channel.basic_get(queue)):
            assert 'maintenance at noon' in str(broker_tools.raised(call))
        assert not connection.connected
        connection.close()
        connection.connect()
        assert connection.channel().queue_declare(exclusive=True).queue
        connection.close()
    finally:
        rabbit.node.delete_vhost(vhost)


# -- both sides close a channel at once -----------------------------------------------------------------


@pytest.mark.parametrize('channel_max', [1, 3])
def test_closes_that_cross_on_the_wire(rabbit, channel_max):
    """The broker closes for an error while our own close is under way; the numbers are used again at once."""
    with rabbit.connect(channel_max=channel_max) as connection:
        for number in range(200):
            channel = connection.channel()
            channel.queue_bind('no such queue', 'no such exchange', nowait=True)
            channel.close()
            assert not channel.is_open, number
        channel = connection.channel()
        assert channel.queue_declare(exclusive=True).queue
        channel.close()


def test_callers_in_front_of_a_crossing_close_hear_why(rabbit):
    with rabbit.connect(channel_max=1) as connection:
        for _ in range(20):
            channel = connection.channel()
            task = greenlets.spawn(channel.queue_declare, 'no such queue', True)
            greenlets.sleep(0)
            channel.close()
            assert isinstance(broker_tools.raised(task), exceptions.NotFound)


def test_a_channel_number_can_be_chosen_and_used_again(connection):
    channel = connection.channel(7)
    assert connection.channel(7) is channel
    assert channel.channel_id == 7
    channel.close()
    again = connection.channel(7)
    assert again is not channel
    assert again.queue_declare(exclusive=True).queue
    with pytest.raises(exceptions.ConnectionError, match='not between 1 and 2047'):
        connection.channel(60000)
    with pytest.raises(ValueError, match='channel_id: a whole number from 0 to 65535'):
        connection.channel(70000)


def test_a_closed_channel_says_so(connection):
    channel = connection.channel()
    channel.close()
    channel.close()
    for call in (lambda: channel.queue_declare(exclusive=True), lambda: channel.basic_ack(1)):
        assert isinstance(broker_tools.raised(call), exceptions.RecoverableConnectionError)
    assert connection.channel().queue_declare(exclusive=True).queue


def test_closing_from_inside_callbacks(rabbit):
    with rabbit.connect() as connection:
        channel, other = connection.channel(), connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        channel.basic_consume(queue, callback=lambda message: channel.close())
        broker_tools.publish_all(other, queue, [b'x'] * 3)
        broker_tools.drain_until(connection, lambda: not channel.is_open)
        other.basic_consume(queue, callback=lambda message: connection.close())
        connection.drain_events(timeout=30)
        assert not connection.connected
        with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
            connection.drain_events(timeout=30)


def test_an_exception_in_a_callback_comes_out_of_drain_events_and_harms_nothing(connection, channel, queue):
    class Oops(Exception):
        pass

    got = []

    def callback(message):
        got.append(message)
        if len(got) % 2:
            raise Oops(len(got))

    channel.basic_consume(queue, callback=callback)
    broker_tools.publish_all(channel, queue, [b'x'] * 6)
    raised = 0
    while len(got) < 6:
        try:
            connection.drain_events(timeout=30)
        except Oops:
            raised += 1
    assert raised == 3
    got[-1].ack(multiple=True)
    broker_tools.wait_ready(channel, queue, 0)
