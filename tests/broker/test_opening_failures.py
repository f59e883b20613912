"""Connections and channels that nobody gets: on_open raises, or the broker does not open the channel."""

from __future__ import annotations

from typing import Any

import broker_tools
import greenlets
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


class Failed(Exception):
    pass


def fail(*args: Any) -> None:
    raise Failed


def killed(*args: Any) -> None:
    raise broker_tools.Interrupted


def test_a_host_that_is_none_is_refused_each_time(peer: ScriptedBroker) -> None:
    """It is an attribute, as with py-amqp: what is set there is looked at by connect. Nothing has begun then."""
    connection = gamqp.Connection(peer.host, heartbeat=0)
    good, connection.host = connection.host, 'x:no-port'
    for _ in range(2):
        with pytest.raises(ValueError, match='host'):
            connection.connect()
    connection.host = good
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    opening.get()
    closing = greenlets.spawn(connection.close)
    peer.agree_to_close()
    closing.get()


def test_a_connection_whose_on_open_raises_is_closed(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(broker_tools.raised, lambda: gamqp.connect(f'amqp://{peer.host}', on_open=fail))
    peer.handshake()
    peer.agree_to_close()
    assert isinstance(opening.get(), Failed)


def test_a_connection_whose_on_open_is_interrupted_is_dropped(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(broker_tools.raised, lambda: gamqp.connect(f'amqp://{peer.host}', on_open=killed))
    peer.handshake()
    peer.expect_end()
    assert isinstance(opening.get(), broker_tools.Interrupted)


def test_on_open_may_close_the_connection_itself(peer: ScriptedBroker) -> None:
    def on_open(connection: gamqp.Connection) -> None:
        connection.collect()
        raise Failed

    opening = greenlets.spawn(broker_tools.raised, lambda: gamqp.connect(f'amqp://{peer.host}', on_open=on_open))
    peer.handshake()
    peer.expect_end()
    assert isinstance(opening.get(), Failed)


@pytest.mark.parametrize('how', [fail, killed])
def test_a_channel_whose_on_open_raises_is_closed(peer: ScriptedBroker, client: gamqp.Connection, how: Any) -> None:
    opening = greenlets.spawn(broker_tools.raised, lambda: client.channel(callback=how))
    peer.expect('channel.open')
    peer.send('channel.open-ok')
    peer.expect('channel.close')
    assert isinstance(opening.get(), (Failed, broker_tools.Interrupted))
    peer.send('channel.close-ok')
    greenlets.wait_until(lambda: not client.channels)


def test_a_channel_that_the_broker_does_not_open_is_gone(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    opening = greenlets.spawn(broker_tools.raised, client.channel)
    peer.expect('channel.open')
    peer.send('channel.close', reply_code=506, reply_text='no more of them', class_id=20, method_id=10)
    peer.expect('channel.close-ok')
    error = opening.get()
    assert isinstance(error, exceptions.ResourceError) and 'no more of them' in str(error)
    assert not client.channels
    client.send_heartbeat()
    peer.expect_nothing_before_beat()  # no second channel.open
    assert peer.open_channel(client, 1).is_open  # the number is free


def test_a_channel_that_is_not_opened_when_its_caller_is_gone(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    opening = greenlets.spawn(client.channel)
    peer.expect('channel.open')
    opening.kill()
    peer.send('channel.close', reply_code=506, reply_text='no more of them', class_id=20, method_id=10)
    peer.expect('channel.close-ok')
    peer.expect_nothing_more(client)
    assert not client.channels
