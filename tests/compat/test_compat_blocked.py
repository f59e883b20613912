"""What publishing does while the broker takes no messages: wait, raise or pass. A real broker says so at once."""

from __future__ import annotations

import time
from typing import Any

import greenlets
import pytest
from node import Node
from proxy import Proxy
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


def blocked(peer: ScriptedBroker, **arguments: Any) -> gamqp.Channel:
    client = peer.open(heartbeat=0, **arguments)
    channel = peer.open_channel(client)
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: client.is_blocked)
    return channel


def test_wait_is_the_default_and_has_a_deadline_of_its_own(peer: ScriptedBroker) -> None:
    channel = blocked(peer, blocked_timeout=0.2, rpc_timeout=30)
    began = time.monotonic()
    with pytest.raises(exceptions.Blocked, match='low on memory'):
        channel.basic_publish(gamqp.Message('x'), '', 'q')
    assert 0.15 <= time.monotonic() - began < 10
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message('y'), '', 'q')
    greenlets.sleep(0)
    peer.send('connection.unblocked')
    publishing.get()
    assert peer.expect('basic.publish').body == b'y'


def test_the_timeout_of_the_call_goes_before(peer: ScriptedBroker) -> None:
    channel = blocked(peer, blocked_timeout=30)
    with pytest.raises(exceptions.Blocked):
        channel.basic_publish(gamqp.Message('x'), '', 'q', timeout=0.05)


def test_raise_does_so_at_once_and_sends_nothing(peer: ScriptedBroker) -> None:
    channel = blocked(peer, blocked_policy='raise')
    for publish in (channel.basic_publish, channel.basic_publish_confirm):
        with pytest.raises(exceptions.Blocked, match='low on memory') as caught:
            publish(gamqp.Message('x'), '', 'q')
        assert isinstance(caught.value, exceptions.RecoverableConnectionError)
    peer.expect_nothing_more(channel.connection)
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not channel.connection.is_blocked)
    channel.basic_publish(gamqp.Message('y'), '', 'q')
    assert peer.expect('basic.publish').body == b'y'


def test_pass_sends_all_the_same(peer: ScriptedBroker) -> None:
    channel = blocked(peer, blocked_policy='pass')
    channel.basic_publish(gamqp.Message('x'), '', 'q')
    assert peer.expect('basic.publish').body == b'x'


def test_pass_still_waits_for_a_full_send_queue() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        channel = blocked(peer, blocked_policy='pass', rpc_timeout=0.3)
        with pytest.raises(TimeoutError, match='send queue was full'):
            for _ in range(10):
                channel.basic_publish(gamqp.Message(bytes(5_000_000)), '', 'q')


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="wait, raise, pass, not 'ignore'"):
        gamqp.Connection(blocked_policy='ignore')


@pytest.mark.parametrize('policy', ['wait', 'raise'])
def test_an_alarm_of_a_real_broker(own_node: Node, policy: str) -> None:
    told: list[str] = []
    with (
        Proxy(own_node.port) as proxy,
        gamqp.connect(
            f'amqp://guest:guest@127.0.0.1:{proxy.port}',
            heartbeat=0,  # what goes by on the wire are this program's own words
            blocked_policy=policy,
            on_blocked=told.append,
            on_unblocked=lambda: told.append(''),
        ) as connection,
    ):
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        own_node.set_memory_watermark(0)
        try:
            channel.basic_publish(gamqp.Message('1'), '', queue)  # the broker blocks who publishes
            greenlets.wait_until(lambda: connection.is_blocked)
            # It comes by itself, and in the turn of the hub in which it is read.
            greenlets.sleep(0)
            assert told == ['low on memory']
            frames = proxy.stream.frames
            if policy == 'raise':
                with pytest.raises(exceptions.Blocked):
                    channel.basic_publish(gamqp.Message('2'), '', queue)
            publishing = greenlets.spawn(channel.basic_publish, gamqp.Message('2'), '', queue)
            greenlets.sleep(0)
            assert publishing.done == (policy == 'raise')
            assert proxy.stream.frames == frames
        finally:
            own_node.set_memory_watermark(0.4)
        greenlets.wait_until(lambda: len(told) == 2)
        assert told[1] == '' and not connection.is_blocked
        if policy == 'wait':
            publishing.get()
            greenlets.wait_until(lambda: channel.queue_declare(queue, passive=True).message_count == 2)
        else:
            with pytest.raises(exceptions.Blocked):
                publishing.get()
