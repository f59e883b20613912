"""channel.flow from the broker: publishes of that channel wait, those of others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import started

import gamqp
from gamqp import exceptions
from gamqp.channel.channel_flow import ChannelPause
from gamqp.wire.spec import Channel


def stop(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.send('channel.flow', channel.channel_id, active=False)
    assert peer.expect('channel.flow-ok', channel.channel_id).active is False
    assert channel.active is False


def go(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.send('channel.flow', channel.channel_id, active=True)
    assert peer.expect('channel.flow-ok', channel.channel_id).active is True


WAYS: dict[str, Callable[[gamqp.Channel], Any]] = {
    'basic_publish': lambda channel: channel.basic_publish(gamqp.Message(b'x'), '', 'q'),
    'basic_publish, timeout': lambda channel: channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=30),
    'basic_publish_confirm': lambda channel: channel.basic_publish_confirm(gamqp.Message(b'x'), '', 'q'),
    'publish': lambda channel: channel.publish(b'x', routing_key='q'),
    'publish, mandatory': lambda channel: channel.publish(b'x', routing_key='q', mandatory=True, timeout=30),
    'rpc': lambda channel: gamqp.RPCClient(channel).call(b'x', 'q'),
}


@pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)
def test_each_way_to_publish_waits_until_the_broker_takes_messages(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, way: Callable[[gamqp.Channel], Any]
) -> None:
    stop(peer, channel)
    publishing = greenlets.spawn(way, channel)
    peer.expect_nothing_more(client)
    assert not publishing.done
    go(peer, channel)
    names = []
    while (said := peer.next()).name != 'basic.publish':
        names.append(said.name)
    assert set(names) <= {'confirm.select', 'basic.consume'}
    assert said.body == b'x'
    publishing.kill()


def test_a_reply_of_an_rpc_server_waits(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    server = started_server(peer, channel)
    stop(peer, channel)
    peer.send(
        'basic.deliver', consumer_tag=server.consumer.tag, delivery_tag=1, properties={'reply_to': 'r'}, body=b'x'
    )
    greenlets.wait_until(lambda: server.consumer.in_flight == 1)
    peer.expect_nothing_more(client)
    go(peer, channel)
    assert peer.expect('basic.publish').routing_key == 'r'
    assert peer.expect('basic.ack').delivery_tag == 1


def started_server(peer: ScriptedBroker, channel: gamqp.Channel) -> gamqp.RPCServer:
    made: list[gamqp.RPCServer] = []

    def begin() -> Any:
        made.append(gamqp.RPCServer(channel, 'q', lambda message: message.body))
        return made[0].consumer

    started(peer, begin)
    return made[0]


def test_a_publish_of_a_pool_waits(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    pool = gamqp.Pool(lambda: client, channels_per_connection=1)
    publishing = greenlets.spawn(lambda: pool.publish(b'x', '', 'q', timeout=30))
    peer.expect('channel.open')
    peer.raw(frames('channel.open-ok') + frames('channel.flow', active=False))
    assert {peer.next().name for _ in range(2)} == {'channel.flow-ok', 'confirm.select'}
    peer.expect_nothing_more(client)
    assert not publishing.done
    peer.send('channel.flow', active=True)
    peer.expect('channel.flow-ok')
    peer.expect('basic.publish')
    peer.raw(frames('confirm.select-ok') + frames('basic.ack', delivery_tag=1))
    publishing.get()
    closing = greenlets.spawn(pool.close)
    peer.agree_to_close()
    closing.get()


def test_another_channel_goes_on(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    other = peer.open_channel(client, 2)
    stop(peer, channel)
    other.basic_publish(gamqp.Message(b'x'), '', 'q')
    assert peer.expect('basic.publish').channel == 2


def test_they_go_out_in_order(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    stop(peer, channel)
    tasks = [greenlets.spawn(channel.basic_publish, gamqp.Message(b'%d' % number), '', 'q') for number in range(5)]
    greenlets.sleep(0)
    go(peer, channel)
    for task in tasks:
        task.get()
    assert [peer.expect('basic.publish').body for _ in tasks] == [b'0', b'1', b'2', b'3', b'4']


def test_a_deadline_counts_and_nothing_is_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    stop(peer, channel)
    with pytest.raises(exceptions.Blocked, match=r'channel 1 \(channel\.flow\)'):
        channel.publish(b'x', routing_key='q', timeout=0.05)
    client.blocked_timeout = 0.05
    with pytest.raises(exceptions.Blocked):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q')
    client.blocked_timeout, client.blocked_policy = None, 'raise'
    with pytest.raises(exceptions.Blocked):
        channel.publish(b'x', routing_key='q')
    peer.expect_nothing_more(client)
    assert channel.unconfirmed == 0
    assert client.stats()['write_wait_seconds'] > 0.05


def test_acks_do_not_wait(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    stop(peer, channel)
    channel.basic_ack(1)
    peer.expect('basic.ack')


def test_stopped_once_more_before_it_could_go_out_it_waits_on(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    stop(peer, channel)
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
    greenlets.sleep(0)
    for active in (True, False):
        inside.method_arrives(channel, Channel.Flow, active)
    assert [peer.expect('channel.flow-ok').active for _ in range(2)] == [True, False]
    peer.expect_nothing_more(client)
    assert not publishing.done
    go(peer, channel)
    publishing.get()
    peer.expect('basic.publish')


@pytest.mark.parametrize('how', ['close', 'channel error', 'loss'])
def test_the_end_ends_the_wait(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, how: str
) -> None:
    stop(peer, channel)
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
    greenlets.sleep(0)
    if how == 'close':
        closing = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
        closing.get()
    elif how == 'channel error':
        peer.send('channel.close', reply_code=406, reply_text='x')
        peer.expect('channel.close-ok')
    else:
        peer.hang_up()
    with pytest.raises(
        exceptions.PreconditionFailed if how == 'channel error' else exceptions.RecoverableConnectionError
    ):
        publishing.get()
    assert channel.active


def test_one_that_is_killed_has_published_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    stop(peer, channel)
    publishing = greenlets.spawn(channel.publish, b'x', '', 'q')
    greenlets.sleep(0)
    publishing.kill()
    with pytest.raises(GreenletExit):
        publishing.get()
    go(peer, channel)
    peer.expect_nothing_more(client)


# -- the pause by itself ------------------------------------------------------------------------


def test_whoever_waits_for_the_end_of_a_pause_wakes_with_it() -> None:
    pause, ended = ChannelPause(), []
    waiting = [greenlets.spawn(lambda: ended.append(pause.wait(greenlets.backend, 30))) for _ in range(3)]
    greenlets.wait_until(lambda: inside.waits_for_pause(pause) == 3)
    for _ in pause.end():
        pass
    for one in waiting:
        one.get()
    assert ended == [True, True, True]


def test_a_pause_that_lasts_is_waited_for_so_long_and_one_that_is_over_not_at_all() -> None:
    pause = ChannelPause()
    assert not pause.wait(greenlets.backend, 0.001)
    assert not list(pause.end())
    assert pause.wait(greenlets.backend, None)
