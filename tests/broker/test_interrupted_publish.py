"""A publish that is given up at any byte: the peer sees whole frames only, or the end.

By default at every 512 kB of a message of six megabytes; every 6 kB with GAMQP_TEST_LONG=1.
"""

from __future__ import annotations

import socket

import broker_tools
import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker

import gamqp
from gamqp import exceptions

PEER = {'buffer': 32 * 1024}
SIZE = 6_000_000  # more than two kernels hold, so that the publish has to wait
STEP = broker_tools.repeats(512_000, 6_000)
MOMENTS = range(0, SIZE - 500_000, STEP)  # the kernels may hold the rest
BODY = bytes(range(256)) * (SIZE // 256)


def open_channel(peer: ScriptedBroker) -> gamqp.Channel:
    connection = peer.open(heartbeat=0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    return peer.open_channel(connection)


@pytest.mark.limit(60 if not broker_tools.LONG else 900)
def test_a_killed_caller_leaves_its_message_whole_and_the_connection_usable(peer: ScriptedBroker) -> None:
    channel = open_channel(peer)
    for moment in MOMENTS:
        task = greenlets.spawn(channel.basic_publish, gamqp.Message(BODY), '', 'q', False, False, 30)
        greenlets.sleep(0)
        peer.read_exactly(moment)
        assert not task.done, 'more than two kernels hold'
        task.kill()
        with pytest.raises(GreenletExit):
            task.get()
        after = greenlets.spawn(channel.basic_publish, gamqp.Message(b'after'), '', 'q')
        assert peer.expect('basic.publish').body == BODY
        assert peer.expect('basic.publish').body == b'after'
        after.get()


@pytest.mark.limit(60 if not broker_tools.LONG else 900)
def test_a_publish_whose_time_is_up_ends_the_connection_and_sends_nothing_more(peer: ScriptedBroker) -> None:
    for moment in MOMENTS:
        channel = open_channel(peer)
        connection = channel.connection
        task = greenlets.spawn(channel.basic_publish, gamqp.Message(BODY), '', 'q', False, False, 0.05)
        peer.read_exactly(moment, or_less=True)  # on a slow machine the time is up before that
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()
        assert not connection.connected and connection.sock is None
        with pytest.raises(exceptions.RecoverableConnectionError):
            channel.basic_publish(gamqp.Message(b'after'), '', 'q')
        rest = b''
        while data := receive(peer):
            rest = data
            assert not peer.decoder.feed(data), 'the message was not whole'
            assert peer.decoder.error is None
        assert b'after' not in rest
        peer.hang_up()


def receive(peer: ScriptedBroker) -> bytes:
    try:
        return peer.recv(65536, 'the end')
    except ConnectionResetError:
        return b''
