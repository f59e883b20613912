"""A connection that is opened again after a loss: what calls, publishes and acks get, and its state meanwhile."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import Recovery, exceptions

AT_ONCE = Recovery(first_delay=0, delay=0.1, max_delay=0.1)
NEVER = Recovery(first_delay=3600)


class Heard:
    """What the callbacks have been called with, by name, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def arguments(self) -> dict[str, Any]:
        names = ('on_lost', 'on_recovering', 'on_recovered', 'on_given_up')
        return {name: lambda *args, name=name: self.calls.append((name, *args)) for name in names}

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def opened(peer: ScriptedBroker, heard: Heard, recover: Recovery = AT_ONCE, **arguments: Any) -> gamqp.Connection:
    return peer.open(recover=recover, **heard.arguments(), **arguments)


def come_back(peer: ScriptedBroker, *channels: int) -> None:
    """The next attempt is let in, and these channels are opened again."""
    peer.hang_up()
    peer.handshake()
    for number in channels:
        peer.expect('channel.open', number)
        peer.send('channel.open-ok', number)


def test_after_a_loss_the_connection_and_its_channel_go_on(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel = peer.open_channel(connection)
    task = greenlets.spawn(channel.queue_declare, 'jobs')
    peer.expect('queue.declare')
    come_back(peer, 1)
    with pytest.raises(gamqp.Lost):
        task.get()
    connection.wait_open(greenlets.PATIENCE)
    assert connection.state == 'open' and connection.recovery is None and channel.is_open
    assert connection.channel(1) is channel
    greenlets.wait_until(lambda: len(heard.calls) == 3)
    assert heard.names == ['on_lost', 'on_recovering', 'on_recovered']
    assert heard.calls[0][1].lost == (0, 0, 0, 1)
    assert heard.calls[2][1].attempts == 1 and heard.calls[2][1].host == connection.host
    stats = connection.stats()
    assert (stats['outages'], stats['recoveries'], stats['recovery_attempts']) == (1, 1, 1)


def test_a_publish_during_the_outage_goes_out_when_it_is_over(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    lost = channel.publish(b'before', routing_key='jobs')
    peer.expect('basic.publish')
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    assert lost.state == 'lost' and isinstance(lost.error, gamqp.Lost)
    tasks = [greenlets.spawn(channel.publish, body, '', 'jobs') for body in (b'1', b'2', b'3')]
    peer.handshake()
    peer.expect('channel.open')
    peer.send('channel.open-ok')
    peer.expect('confirm.select')
    assert not any(task.done for task in tasks)
    peer.send('confirm.select-ok')
    assert [peer.expect('basic.publish').body for _ in tasks] == [b'1', b'2', b'3']
    peer.send('basic.ack', delivery_tag=3, multiple=True)
    receipts = [task.get() for task in tasks]
    for receipt in receipts:
        receipt.wait()
    assert [receipt.delivery_tag for receipt in (lost, *receipts)] == [1, 2, 3, 4]


def test_an_ack_of_a_delivery_from_before_is_not_sent(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel = peer.open_channel(connection)
    old = get(peer, channel, 1)
    come_back(peer, 1)
    connection.wait_open(greenlets.PATIENCE)
    new = get(peer, channel, 1)
    assert new.delivery_tag == new.delivery_info['delivery_tag'] == 2
    old.ack()
    channel.basic_ack(old.delivery_tag)
    channel.basic_ack(old.delivery_tag, multiple=True)
    channel.basic_nack(old.delivery_tag)
    channel.basic_reject(old.delivery_tag, True)
    new.ack()
    assert peer.expect('basic.ack').delivery_tag == 1
    channel.basic_ack(0, multiple=True)  # nothing is unacked
    assert connection.stats()['stale_settlements'] == 5
    later = get(peer, channel, 2)
    channel.basic_ack(0, multiple=True)
    ack = peer.expect('basic.ack')
    assert (ack.delivery_tag, ack.multiple) == (2, True)
    assert not inside.can_be_settled(later)
    peer.expect_nothing_more(connection)


def get(peer: ScriptedBroker, channel: gamqp.Channel, tag: int) -> Any:
    task = greenlets.spawn(channel.basic_get, 'jobs')
    peer.expect('basic.get')
    peer.send('basic.get-ok', delivery_tag=tag, body=b'x')
    return task.get()


def test_calls_that_cannot_wait_raise_lost_at_once(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard, Recovery(first_delay=3600, while_down='raise'))
    channel = peer.open_channel(connection)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    for call in (lambda: channel.publish(b'x'), lambda: channel.queue_declare('jobs'), connection.channel):
        with pytest.raises(gamqp.Lost, match='being opened again') as caught:
            call()
        assert caught.value.sent is False
    connection.close()


def test_who_waits_too_long_gets_a_timeout_that_names_the_outage(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard, NEVER, rpc_timeout=0.01)
    channel = peer.open_channel(connection)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    for call in (
        lambda: channel.publish(b'x', timeout=0.01),
        lambda: channel.queue_declare('jobs'),
        connection.channel,
        lambda: connection.wait_open(0.01),
    ):
        with pytest.raises(TimeoutError, match=r'has been lost for .* closed the socket'):
            call()
    connection.close()


def test_close_ends_an_outage(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard, NEVER)
    channel = peer.open_channel(connection)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    waiting = greenlets.spawn(channel.publish, b'x')
    draining = greenlets.spawn(connection.drain_events)
    greenlets.wait_until(lambda: 'on_recovering' in heard.names)
    closes = [greenlets.spawn(connection.close) for _ in range(5)]
    for close in closes:
        close.get()
    assert connection.state == 'closed' and connection.recovery is None and channel.connection is None
    for task in (waiting, draining):
        with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
            task.get()
    assert heard.names == ['on_lost', 'on_recovering']


def test_an_attempt_that_is_refused_is_followed_by_another(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel = peer.open_channel(connection)
    peer.hang_up()
    peer.handshake(until='open-ok')
    for _ in range(2):  # connection.close instead of open-ok
        peer.send('connection.close', reply_code=541, reply_text='INTERNAL_ERROR', class_id=0, method_id=0)
        peer.expect('connection.close-ok')
        peer.hang_up()
        peer.handshake(until='open-ok')
    peer.send('connection.open-ok')
    peer.expect('channel.open')
    peer.hang_up()  # lost again while it is being restored
    come_back(peer, 1)
    connection.wait_open(greenlets.PATIENCE)
    assert channel.is_open and connection.stats()['outages'] == 1
    greenlets.wait_until(lambda: heard.names[-1] == 'on_recovered')
    assert heard.names == ['on_lost', *['on_recovering'] * 4, 'on_recovered']
    assert [call[1] for call in heard.calls[1:5]] == [1, 2, 3, 4]


def test_it_is_given_up_after_so_many_attempts(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard, Recovery(first_delay=0, delay=0.01, attempts=2))
    channel = peer.open_channel(connection)
    draining = greenlets.spawn(connection.drain_events)
    peer.hang_up()
    waiting = greenlets.spawn(channel.publish, b'x')
    for _ in range(2):
        peer.handshake(until='open-ok')
        peer.send('connection.close', reply_code=541, reply_text='INTERNAL_ERROR', class_id=0, method_id=0)
        peer.expect('connection.close-ok')
        peer.hang_up()
    for task in (waiting, draining):
        with pytest.raises(exceptions.InternalError) as caught:
            task.get()
        assert 'closed the socket' in str(caught.value.__cause__)
    assert connection.state == 'closed'
    greenlets.wait_until(lambda: heard.names[-1] == 'on_given_up')
    assert heard.names == ['on_lost', 'on_recovering', 'on_recovering', 'on_given_up']
    with pytest.raises(exceptions.InternalError):
        connection.wait_open()


def test_a_channel_that_is_closed_in_the_outage_is_not_opened_again(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel, other = peer.open_channel(connection), peer.open_channel(connection, 2)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    channel.close()
    assert channel.connection is None
    peer.handshake()
    peer.expect('channel.open', 2)
    peer.send('channel.open-ok', 2)
    connection.wait_open(greenlets.PATIENCE)
    assert other.is_open and list(connection.channels) == [2]


def test_who_kills_the_recovery_ends_the_connection(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard, NEVER)
    peer.hang_up()
    greenlets.wait_until(lambda: 'on_recovering' in heard.names)
    inside.kill_recovery(connection)
    with pytest.raises(exceptions.RecoverableConnectionError, match='recovery was killed'):
        connection.wait_open(greenlets.PATIENCE)
    assert connection.state == 'closed'


def test_a_broker_that_sends_nonsense_is_given_up(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    peer.hang_up()
    for _ in range(3):
        peer.accept()
        peer.raw(b'\x01\x00\x00\x00\x00\x00\x01\x00\x00')
        peer.expect('connection.close')
        peer.hang_up()
    with pytest.raises(exceptions.FrameError):
        connection.wait_open(greenlets.PATIENCE)


def test_a_message_that_is_handled_before_all_is_restored_is_acked(peer: ScriptedBroker, heard: Heard) -> None:
    connection = opened(peer, heard)
    channel = peer.open_channel(connection)
    got: list[Any] = []
    tags = []
    for queue in ('first', 'second'):
        starting = greenlets.spawn(channel.subscribe, queue, got.append, 1, 0)
        tags.append(peer.expect('basic.consume').consumer_tag)
        peer.send('basic.consume-ok', consumer_tag=tags[-1])
        starting.get()
    come_back(peer, 1)
    assert [peer.expect('basic.consume').consumer_tag for _ in tags] == tags
    peer.send('basic.consume-ok', consumer_tag=tags[0])
    peer.send('basic.deliver', consumer_tag=tags[0], delivery_tag=1, body=b'early')
    assert peer.expect('basic.ack').delivery_tag == 1
    assert connection.state == 'recovering' and len(got) == 1
    peer.send('basic.consume-ok', consumer_tag=tags[1])
    connection.wait_open(greenlets.PATIENCE)


def test_one_of_the_channels_is_the_own_one_of_the_connection(peer: ScriptedBroker, heard: Heard) -> None:
    with pytest.raises(ValueError, match='channel_max: at least 2 with recover'):
        gamqp.Connection(recover=True, channel_max=1)
    connection = peer.open((2, 131072, 0), recover=AT_ONCE, **heard.arguments())
    channel = peer.open_channel(connection)
    with pytest.raises(exceptions.ResourceError):
        connection.channel()
    peer.hang_up()
    peer.accept()
    peer.send('connection.start', version_minor=9, mechanisms=b'PLAIN', locales=b'en_US')
    peer.expect('connection.start-ok')
    peer.send('connection.tune', channel_max=1)
    peer.expect_end()
    assert 'the broker allows one channel' in str(connection.recovery and connection.recovery.error)
    connection.close()
    assert not channel.is_open
