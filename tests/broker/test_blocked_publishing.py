"""connection.blocked: the program is told with the broker's reason, and publishes wait or are refused."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def channel(peer: ScriptedBroker, told: list[Any]) -> gamqp.Channel:
    """A channel of a connection that the broker has just blocked."""
    client = peer.open(
        on_blocked=lambda reason: told.append(reason), on_unblocked=lambda: told.append('free'), rpc_timeout=60
    )
    channel = peer.open_channel(client)
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: told)
    return channel


def test_the_program_is_told_with_the_reason(peer: ScriptedBroker, channel: gamqp.Channel, told: list[Any]) -> None:
    assert told == ['low on memory']
    assert channel.connection.is_blocked
    assert inside.flow_control(channel.connection).blocked_reason == 'low on memory'
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: len(told) == 2)
    assert told[1] == 'free'
    assert not channel.connection.is_blocked


def test_publishes_wait_and_go_out_in_order(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    tasks = [greenlets.spawn(channel.basic_publish, gamqp.Message(b'%d' % number), '', 'q') for number in range(5)]
    peer.expect_nothing_more(channel.connection)
    assert not any(task.done for task in tasks)
    peer.send('connection.unblocked')
    for task in tasks:
        task.get()
    assert [peer.expect('basic.publish').body for _ in tasks] == [b'0', b'1', b'2', b'3', b'4']


def test_a_publish_with_a_deadline_is_refused_by_name_and_sends_nothing(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    with pytest.raises(exceptions.Blocked, match='low on memory'):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=0.05)
    assert channel.connection.connected
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not channel.connection.is_blocked)
    channel.basic_publish(gamqp.Message(b'y'), '', 'q')
    assert peer.expect('basic.publish').body == b'y'


def test_a_publish_without_a_deadline_waits_no_longer_than_rpc_timeout(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    channel.connection.rpc_timeout = 0.05
    with pytest.raises(exceptions.Blocked):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q')


def test_a_killed_publisher_has_published_nothing(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
    greenlets.sleep(0)
    publishing.kill()
    with pytest.raises(GreenletExit):
        publishing.get()
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not channel.connection.is_blocked)
    peer.expect_nothing_more(channel.connection)


def test_acks_and_calls_pass(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    channel.basic_ack(1)
    peer.expect('basic.ack')
    purging = greenlets.spawn(channel.queue_purge, 'q')
    peer.expect('queue.purge')
    peer.send('queue.purge-ok', message_count=1)
    assert purging.get() == 1


def test_waiting_publishers_learn_of_the_end(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    tasks = [greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q') for _ in range(3)]
    greenlets.sleep(0)
    peer.send('connection.close', reply_code=320, reply_text='going down')
    for task in tasks:
        with pytest.raises(exceptions.ConnectionForced, match='going down'):
            task.get()


def test_waiting_publishers_learn_of_the_end_of_their_channel(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
    greenlets.sleep(0)
    peer.send('channel.close', reply_code=406, reply_text='no more')
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    peer.send('connection.unblocked')
    with pytest.raises(exceptions.PreconditionFailed, match='no more'):
        publishing.get()


def test_a_callback_that_waits_or_fails_harms_nobody(peer: ScriptedBroker, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(reason: str) -> None:
        raise ZeroDivisionError(reason)

    client = peer.open(on_blocked=fail)
    channel = peer.open_channel(client)
    peer.send('connection.blocked', reason='why not')
    greenlets.wait_until(lambda: client.is_blocked)
    channel.basic_ack(1)
    peer.expect('basic.ack')
    assert client.connected


def test_a_second_alarm_changes_the_reason_only(peer: ScriptedBroker, channel: gamqp.Channel, told: list[Any]) -> None:
    peer.send('connection.blocked', reason='low on disk')
    greenlets.wait_until(lambda: len(told) == 2)
    assert inside.flow_control(channel.connection).blocked_reason == 'low on disk'
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not channel.connection.is_blocked)


def test_blocked_is_forgotten_by_the_next_connection(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    client = channel.connection
    peer.cut()
    greenlets.wait_until(lambda: not client.connected)
    peer.hang_up()
    opening = greenlets.spawn(client.connect)
    peer.handshake()
    opening.get()
    assert not client.is_blocked


def full_of_deliveries(peer: ScriptedBroker, **arguments: Any) -> gamqp.Channel:
    """A channel whose connection reads no more, because of messages that nobody has come for."""
    client = peer.open(max_undelivered_messages=4, **arguments)
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    peer.raw(b''.join(frames('basic.deliver', consumer_tag='tag', delivery_tag=tag, body=b'x') for tag in range(1, 5)))
    greenlets.wait_until(lambda: not inside.reads(client))
    return channel


def test_unblocked_is_heard_though_there_is_no_room_for_deliveries(peer: ScriptedBroker) -> None:
    channel = full_of_deliveries(peer)
    client = channel.connection
    asking = greenlets.spawn(channel.queue_purge, 'q')
    peer.expect('queue.purge')
    peer.raw(frames('connection.blocked', reason='low on memory') + frames('queue.purge-ok'))
    asking.get()
    assert client.is_blocked
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not inside.reads(client))
    channel.basic_publish(gamqp.Message(b'y'), '', 'q')
    assert peer.expect('basic.publish').body == b'y'
    assert not inside.waits_for_answers(inside.backpressure(client))


def test_that_the_broker_refuses_is_heard_while_the_send_queue_is_full(peer: ScriptedBroker) -> None:
    """And is what the publisher is told: it is why nothing goes."""
    channel = full_of_deliveries(peer, rpc_timeout=1)
    large = gamqp.Message(bytes(1024 * 1024))
    while not inside.flow_control(channel.connection).must_wait_to_publish:
        channel.basic_publish(large, '', 'q')  # the peer reads nothing
    peer.send('connection.blocked', reason='low on memory')
    with pytest.raises(exceptions.Blocked, match='low on memory'):
        while True:  # the kernel may still make room for more, and a publish that need not wait hears nothing
            channel.basic_publish(large, '', 'q')
