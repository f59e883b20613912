"""Greenlets that still wait on a connection that was lost while it is opened again: each gets the reason of the loss.

So many wait that most are woken in later turns of the hub, when ``connect`` has begun.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import Work, messages, subscribed

import gamqp
from gamqp import exceptions
from gamqp.io.writer import HIGH_WATER

MANY = 1500
LOST = exceptions.RecoverableConnectionError
TUNE = (100, 131072, 0)


@pytest.fixture
def peer() -> Iterator[ScriptedBroker]:
    """One whose kernel takes little."""
    with ScriptedBroker(buffer=32 * 1024) as peer:
        yield peer


class Lossy:
    """A connection that connects again by itself as soon as it is lost; the password takes a while then."""

    def __init__(self, peer: ScriptedBroker, **arguments: Any) -> None:
        self.peer = peer
        self.asked = 0
        self.losses: list[str] = []
        self.connection = peer.open(TUNE, password=self._password, on_lost=self._on_lost, **arguments)

    def _password(self) -> str:
        self.asked += 1
        if self.asked > 1:
            greenlets.sleep(0.1)
        return 'guest'

    def _on_lost(self, error: BaseException) -> None:
        self.losses.append(str(error))
        self.connection.connect()

    def come_back(self) -> None:
        self.peer.hang_up()
        self.peer.handshake(tune=TUNE)
        greenlets.wait_until(lambda: self.connection.is_open)


def fill(channel: gamqp.Channel, size: int) -> None:
    """Publish until *size* bytes are queued that the kernel does not take."""
    channel.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    writer = inside.writer(channel.connection)
    while writer.queued < size:
        channel.basic_publish(gamqp.Message(bytes(200_000)), '', 'q')
        greenlets.sleep(0.001)


def a_reply(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    return lambda: channel.queue_declare('q', passive=True)


def a_confirm(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    return lambda: channel.basic_publish_confirm(gamqp.Message(b'x'), '', 'q')


def a_receipt(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    return channel.publish(b'x', '', 'q').wait


def all_confirms(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    channel.publish(b'x', '', 'q')
    return channel.wait_for_confirms


def room(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    channel.outstanding_limit = 1
    channel.publish(b'x', '', 'q')
    return lambda: channel.publish(b'x', '', 'q')


def a_blocked_broker(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: channel.connection.is_blocked)
    return lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q')


def channel_flow(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    peer.send('channel.flow', active=False)
    greenlets.wait_until(lambda: not channel.active)
    return lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q')


def the_send_queue(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    fill(channel, HIGH_WATER)
    return lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q')


def the_kernel(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    fill(channel, 1_000_000)
    return lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=60)


def a_flush(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    fill(channel, 1_000_000)
    return channel.connection.flush


def an_event(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    return channel.connection.drain_events


def an_rpc(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    client = gamqp.RPCClient(channel)
    return lambda: client.call(b'x', 'q')


def a_consumer(peer: ScriptedBroker, channel: gamqp.Channel) -> Callable[[], Any]:
    return subscribed(peer, channel, print).join


WAITS = [
    a_reply, a_confirm, a_receipt, all_confirms, room, a_blocked_broker, channel_flow, the_send_queue, the_kernel,
    a_flush, an_event, an_rpc, a_consumer,
]  # fmt: skip


@pytest.mark.parametrize('read_timeout', [None, 60.0])
@pytest.mark.parametrize('wait', WAITS)
def test_who_waits_gets_the_loss(peer: ScriptedBroker, wait: Any, read_timeout: float | None) -> None:
    lossy = Lossy(peer, read_timeout=read_timeout)
    call = wait(peer, peer.open_channel(lossy.connection))
    tasks = [greenlets.spawn(call) for _ in range(MANY)]
    greenlets.sleep(0.05)
    assert not any(task.done for task in tasks)
    lossy.come_back()
    assert {outcome(task) for task in tasks} == {(LOST, lossy.losses[0])}
    assert inside.waits_for_answers(inside.backpressure(lossy.connection)) == 0
    channel = peer.open_channel(lossy.connection)  # and the new one works
    channel.basic_publish(gamqp.Message(b'x'), '', 'q')
    peer.expect('basic.publish')


def outcome(task: greenlets.Task) -> tuple[Any, str]:
    try:
        return None, repr(task.get())
    except BaseException as exc:
        return type(exc), str(exc)


def test_a_cancel_whose_messages_went_with_the_connection_raises_the_loss(peer: ScriptedBroker) -> None:
    """The first callback sees the connection come back; the second message is gone."""
    lossy, got = Lossy(peer), list[Any]()
    channel = peer.open_channel(lossy.connection)

    def handle(message: Any) -> None:
        got.append(message)
        greenlets.wait_until(lambda: lossy.connection.is_open and lossy.asked == 2)

    consuming = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=handle))
    peer.expect('basic.consume')
    peer.raw(frames('basic.consume-ok', consumer_tag='tag') + messages('tag', [1, 2]))
    consuming.get()
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    greenlets.wait_until(lambda: got)
    lossy.come_back()
    with pytest.raises(LOST, match='the broker closed the socket'):
        cancelling.get()
    assert len(got) == 1


def test_a_drain_does_not_wait_for_handlers_of_the_connection_that_came_back(peer: ScriptedBroker) -> None:
    """Its callback sees the connection come back, on which another callback is under way."""
    lossy, second = Lossy(peer), Work()
    second.hold(1)
    connection = lossy.connection

    def first(message: Any) -> None:
        greenlets.wait_until(lambda: second.running)

    def consume(callback: Any) -> None:
        channel = peer.open_channel(connection)
        consuming = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=callback))
        peer.expect('basic.consume')
        peer.raw(frames('basic.consume-ok', consumer_tag='tag') + messages('tag', [1]))
        consuming.get()

    consume(first)
    greenlets.wait_until(lambda: inside.budget(connection).messages == 1)
    draining = greenlets.spawn(connection.drain)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    greenlets.wait_until(lambda: inside.event_queue(connection).handlers_running)
    lossy.come_back()
    consume(second)
    handling = greenlets.spawn(connection.drain_events)
    with pytest.raises(LOST, match='the broker closed the socket'):
        draining.get()
    assert second.running and connection.is_open
    second.go(1)
    handling.get()


def test_a_close_does_not_end_the_connection_that_came_back(peer: ScriptedBroker) -> None:
    """It waits for the answer; another greenlet sees the loss first, and connects."""
    connection = peer.open(TUNE)
    closing = greenlets.spawn(connection.close)
    peer.expect('connection.close')

    def connect() -> None:
        while 'closed' not in repr(connection):
            greenlets.sleep(0)
        connection.connect()

    connecting = greenlets.spawn(connect)
    greenlets.sleep(0)
    peer.hang_up()
    peer.handshake(tune=TUNE)
    connecting.get()
    closing.get()
    assert connection.is_open
    peer.open_channel(connection)


def test_drain_events_of_a_connection_that_was_never_opened_says_so() -> None:
    connection = gamqp.Connection()
    for _ in range(100):  # as often as a loop has to let others run
        with pytest.raises(LOST, match='not open'):
            connection.drain_events(timeout=0)


def test_what_was_not_sent_on_the_lost_connection_does_not_count_as_sent(peer: ScriptedBroker) -> None:
    lossy = Lossy(peer)
    channel = peer.open_channel(lossy.connection)
    flow, link = inside.flow_control(lossy.connection), inside.link(lossy.connection)
    fill(channel, 1_000_000)
    lossy.come_back()
    with pytest.raises(LOST, match=re.escape(lossy.losses[0])):
        flow.wait_until_sent(link, 0.0)
    assert lossy.connection.is_open
