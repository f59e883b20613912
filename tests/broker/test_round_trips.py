"""What a call and its answer cost in system calls, switches of greenlets and timers: counted, since times differ.

The peer lives in the same process. Its own switches are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions
from gamqp.rpc.client import REPLY_TO

CALLS = 20

# The caller to the hub, the hub to the reader, the reader to the caller. With eventlet the reader goes by the hub.
SWITCHES = {'gevent': 3, 'eventlet': 4}[greenlets.GREEN]


class CountingSocket:
    """Counts what is received and sent."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.sends = self.receives = 0

    def send(self, data: Any) -> int:
        self.sends += 1
        return int(self._sock.send(data))

    def recv_into(self, view: Any) -> int:
        self.receives += 1
        return int(self._sock.recv_into(view))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Switches:
    """Counts the switches between the greenlets that are not the peer's, while it is in effect."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer
        self.count = 0

    def __enter__(self) -> Switches:
        self._before = greenlet.settrace(self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        greenlet.settrace(self._before)

    def _note(self, event: str, args: Any) -> None:
        if self._peer not in args:
            self.count += 1


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """For each timer that is started the greenlet that does it: the peer starts some, too."""
    started: list[Any] = []
    call_later = greenlets.backend.call_later

    def note(seconds: float, fn: Callable[[], Any]) -> Any:
        started.append(greenlet.getcurrent())
        return call_later(seconds, fn)

    monkeypatch.setattr(greenlets.backend, 'call_later', note)
    return started


def cost(
    connection: gamqp.Connection, call: Callable[[], Any], answer: Callable[[], Any]
) -> tuple[float, float, float]:
    """Sends, receives and switches of a call, which the peer answers by *answer*."""
    transport = inside.transport(connection)
    first = greenlets.spawn(answer)
    call()
    first.get()
    sock = transport.socket = CountingSocket(transport.socket)
    peer = greenlets.spawn(lambda: [answer() for _ in range(CALLS)])
    greenlets.sleep()  # until the peer waits
    with Switches(peer.greenlet) as switches:
        for _ in range(CALLS):
            call()
    peer.get()
    return sock.sends / CALLS, sock.receives / CALLS, switches.count / CALLS


@pytest.mark.parametrize('way', ['basic_publish_confirm', 'publish'])
def test_a_publish_and_its_confirm(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, timers: list[Any], way: str
) -> None:
    tags = iter(range(1, CALLS + 2))

    def answer() -> None:
        peer.expect('basic.publish')
        peer.send('basic.ack', delivery_tag=next(tags))

    def call() -> None:
        if way == 'publish':
            confirming.publish(message, '', 'q').wait()
        else:
            confirming.basic_publish_confirm(message, '', 'q')

    message = gamqp.Message(b'x', delivery_mode=2)
    assert cost(client, call, answer) == (1, 1, SWITCHES)
    assert timers.count(greenlet.getcurrent()) <= 1  # the first one serves all


def test_a_declare(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, timers: list[Any]) -> None:
    def answer() -> None:
        peer.expect('queue.declare')
        peer.send('queue.declare-ok', queue='q', message_count=0, consumer_count=0)

    assert cost(client, lambda: channel.queue_declare('q'), answer) == (1, 1, SWITCHES)
    assert timers.count(greenlet.getcurrent()) <= 1


@pytest.mark.parametrize('found', [True, False])
def test_a_get(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, found: bool) -> None:
    def answer() -> None:
        peer.expect('basic.get')
        if found:
            peer.send('basic.get-ok', delivery_tag=1, message_count=0, body=b'x')
        else:
            peer.send('basic.get-empty')

    assert cost(client, lambda: channel.basic_get('q', no_ack=True), answer) == (1, 1, SWITCHES)


def test_a_request_and_its_reply(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, timers: list[Any]
) -> None:
    rpc = gamqp.RPCClient(channel, timeout=30)
    tags: list[str] = []

    def answer() -> None:
        if not tags:
            consume = peer.expect('basic.consume')
            assert consume.queue == REPLY_TO
            tags.append(consume.consumer_tag)
            peer.raw(frames('basic.consume-ok', consumer_tag=tags[0]))
        request = peer.expect('basic.publish')
        properties = {'correlation_id': request.properties['correlation_id']}
        peer.raw(frames('basic.deliver', consumer_tag=tags[0], delivery_tag=1, body=b'x', properties=properties))

    assert cost(client, lambda: rpc.call(b'x', 'q'), answer) == (1, 1, SWITCHES)
    assert timers.count(greenlet.getcurrent()) <= 1


def test_several_that_are_woken_at_once(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    """One chunk has the confirms of many: the reader switches to none of them itself."""
    message = gamqp.Message(b'x')
    tasks = [greenlets.spawn(confirming.basic_publish_confirm, message, '', 'q') for _ in range(5)]
    for _ in tasks:
        peer.expect('basic.publish')
    peer.raw(b''.join(frames('basic.ack', delivery_tag=tag) for tag in range(1, 6)))
    for task in tasks:
        task.get()
    again = greenlets.spawn(confirming.basic_publish_confirm, message, '', 'q')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=6)
    again.get()


def test_a_caller_that_was_woken_may_end_the_connection(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    """It runs where the reader has switched to it, which then finds that the link has ended."""

    def publish_and_collect() -> None:
        confirming.basic_publish_confirm(gamqp.Message(b'x'), '', 'q')
        client.collect()

    task = greenlets.spawn(publish_and_collect)
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=1)
    task.get()
    peer.expect_end()


def test_the_reader_may_be_killed_where_it_has_switched_to_a_caller(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    def publish_and_kill() -> None:
        confirming.basic_publish_confirm(gamqp.Message(b'x'), '', 'q')
        greenlets.backend.kill(inside.reader_greenlet(client))

    task = greenlets.spawn(publish_and_kill)
    waiting = greenlets.spawn(confirming.queue_declare, 'q')
    peer.expect('basic.publish')
    peer.expect('queue.declare')
    peer.send('basic.ack', delivery_tag=1)
    task.get()
    with pytest.raises(exceptions.ConnectionError):
        waiting.get()
    assert client.state == 'closed'
    peer.expect_end()
