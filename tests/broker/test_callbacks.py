"""What a callback may do inside drain_events: anything, and never nested in another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions


class Depth:
    """A callback that counts how deep it is nested, around the act under test."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        self.act = act
        self.now = self.deepest = self.calls = 0

    def __call__(self, message: Any) -> None:
        self.now += 1
        self.calls += 1
        self.deepest = max(self.deepest, self.now)
        try:
            self.act(message)
        finally:
            self.now -= 1


def consume(peer: ScriptedBroker, channel: gamqp.Channel, act: Callable[[Any], Any], tag: str = 'tag') -> Depth:
    callback = Depth(act)
    begin(peer, lambda: channel.basic_consume('q', tag, callback=callback))
    return callback


def deliver(count: int, tag: str = 'tag', channel: int = 1) -> bytes:
    return b''.join(
        frames('basic.deliver', channel, consumer_tag=tag, delivery_tag=number + 1, body=b'x')
        for number in range(count)
    )


def drain(client: gamqp.Connection, count: int) -> greenlets.Task:
    def loop() -> None:
        for _ in range(count):
            client.drain_events(timeout=30)

    return greenlets.spawn(loop)


def test_publishing_does_not_nest(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    """300 messages wait, each is answered by a publish."""
    callback = consume(peer, channel, lambda message: channel.basic_publish(gamqp.Message(b'y'), '', 'q'))
    peer.raw(deliver(300))
    draining = drain(client, 300)
    for _ in range(300):
        peer.expect('basic.publish')
    draining.get()
    assert (callback.calls, callback.deepest) == (300, 1)


def test_publishing_with_a_confirm_does_not_nest(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    callback = consume(peer, channel, lambda message: channel.basic_publish_confirm(gamqp.Message(b'y'), '', 'q'))
    peer.raw(deliver(20))
    draining = drain(client, 20)
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    for tag in range(1, 21):
        peer.expect('basic.publish')
        peer.raw(deliver(1) + frames('basic.ack', delivery_tag=tag))
    draining.get()
    assert (callback.calls, callback.deepest) == (20, 1)


def test_declaring_and_opening_channels(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    def act(message: Any) -> None:
        with client.channel() as other:
            assert other.queue_declare('q').queue == 'q'

    callback = consume(peer, channel, act)
    peer.raw(deliver(2))
    draining = drain(client, 2)
    for number in (2, 3):
        peer.expect('channel.open', number)
        peer.raw(deliver(1) + frames('channel.open-ok', number))
        peer.expect('queue.declare', number)
        peer.send('queue.declare-ok', number, queue='q')
        peer.expect('channel.close', number)
        peer.send('channel.close-ok', number)
    draining.get()
    assert (callback.calls, callback.deepest) == (2, 1)


def test_cancelling_itself(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    """Callbacks do not nest: what has arrived for it is left to the next drain_events."""
    callback = consume(peer, channel, lambda message: message.delivery_tag == 1 and channel.basic_cancel('tag'))
    peer.raw(deliver(3))
    draining = drain(client, 1)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    draining.get()
    assert callback.calls == 1
    for calls in (2, 3):
        client.drain_events(timeout=30)
        assert callback.calls == calls
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_closing_its_channel(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    callback = consume(peer, channel, lambda message: channel.close())
    peer.raw(deliver(3))
    draining = drain(client, 1)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    draining.get()
    assert callback.calls == 1
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    assert client.connected


def test_closing_the_connection(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    callback = consume(peer, channel, lambda message: client.close())
    peer.raw(deliver(3))
    other = greenlets.spawn(client.drain_events)  # it gets the second message, and closes as well
    draining = drain(client, 1)
    peer.agree_to_close()
    draining.get()
    other.get()
    assert callback.calls == 2
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        client.drain_events()


def test_consuming_from_another_queue(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    got: list[Any] = []

    def act(message: Any) -> None:
        channel.basic_consume('other', 'second', callback=got.append)

    consume(peer, channel, act)
    peer.raw(deliver(1))
    draining = drain(client, 2)
    peer.expect('basic.consume')
    peer.raw(frames('basic.consume-ok', consumer_tag='second') + deliver(1, 'second'))
    draining.get()
    assert len(got) == 1


def test_draining_inside_a_callback_serves_other_messages(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Asked for by name, it is allowed; nothing but this call nests."""
    order: list[int] = []

    def act(message: Any) -> None:
        if message.delivery_tag == 1:
            client.drain_events(timeout=30)
        order.append(message.delivery_tag)

    callback = consume(peer, channel, act)
    peer.raw(deliver(2))
    drain(client, 1).get()
    assert order == [2, 1]
    assert callback.deepest == 2


def test_a_callback_that_waits_does_not_stop_another_channel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    consume(peer, channel, lambda message: greenlets.sleep(60))
    peer.raw(deliver(1))
    stuck = drain(client, 1)
    greenlets.wait_until(lambda: not inside.waiting_events(client))
    for _ in range(10):
        purging = greenlets.spawn(other.queue_purge, 'q')
        peer.expect('queue.purge', 2)
        peer.send('queue.purge-ok', 2)
        purging.get()
    assert not stuck.done
    stuck.kill()


def test_event_handlers_that_publish_do_not_nest(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    peer.turn_confirms_on(channel)
    depth = [0, 0]

    def on_ack(tag: int, multiple: bool) -> None:
        depth[0] += 1
        depth[1] = max(depth)
        if tag < 20:
            channel.basic_publish_confirm(gamqp.Message(b'next'), '', 'q')
        depth[0] -= 1

    channel.events['basic_ack'].add(on_ack)
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'first'), '', 'q')
    for tag in range(1, 21):
        peer.expect('basic.publish')
        peer.send('basic.ack', delivery_tag=tag)
    publishing.get()
    assert depth == [0, 1]
