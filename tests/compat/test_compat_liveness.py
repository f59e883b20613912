"""Whether the peer lives, and how long a call waits for it: heartbeats by hand, is_alive, and the timeouts.

The times are real. Lower bounds are asserted; upper ones only stop a test that would never end.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions, green

GENEROUS = greenlets.PATIENCE
BEAT = b'\x08\x00\x00\x00\x00\x00\x00\xce'


def took(call: Any, *expected: Any) -> tuple[float, BaseException]:
    """Seconds until the call raised, and what."""
    began = time.monotonic()
    task = greenlets.spawn(call)
    with pytest.raises(expected) as caught:
        task.get(GENEROUS)
    return time.monotonic() - began, caught.value


# -- heartbeat_tick ---------------------------------------------------------------------------


def test_ticking_beside_the_heartbeat_greenlet_does_no_harm(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    began = time.monotonic()
    while peer.decoder.heartbeats < 4 and time.monotonic() - began < GENEROUS:
        peer.raw(BEAT)
        client.heartbeat_tick(rate=2)
        greenlets.sleep(0.02)
        peer.take_what_came()
    # One each half second, not one a tick.
    assert 4 <= peer.decoder.heartbeats <= 2 * (time.monotonic() - began) + 2
    assert client.connected


def test_a_tick_sends_one_when_it_is_time(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 60))
    client.heartbeat_tick(rate=2)
    greenlets.sleep(0.02)
    peer.take_what_came()
    assert peer.decoder.heartbeats == 0
    client.heartbeat_tick(rate=6000)  # each hundredth of a second
    peer.expect_nothing_before_beat()


@pytest.mark.parametrize('rate', [0, -1])
def test_a_senseless_rate_counts_as_2(peer: ScriptedBroker, rate: int) -> None:
    client = peer.open((10, 131072, 60))
    client.heartbeat_tick(rate)
    greenlets.sleep(0.02)
    peer.take_what_came()
    assert peer.decoder.heartbeats == 0


def test_a_tick_finds_the_silent_peer_itself(peer: ScriptedBroker) -> None:
    """Also when the heartbeat greenlet has not had its turn: nothing switches between silence and tick."""
    client = peer.open((10, 131072, 1))
    inside.seem_idle(client, heard=2)
    with pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
        client.heartbeat_tick()
    assert not client.connected
    with pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
        client.heartbeat_tick()


def test_a_tick_reads_before_it_judges(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    peer.raw(BEAT)  # lies in the kernel: nothing switches from here on
    inside.seem_idle(client, heard=2)
    client.heartbeat_tick()
    assert client.connected and client.is_alive()


def test_without_heartbeats_a_tick_does_nothing(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1), heartbeat=0)
    inside.seem_idle(client, heard=100)
    client.heartbeat_tick(rate=6000)
    greenlets.sleep(0.02)
    peer.take_what_came()
    assert peer.decoder.heartbeats == 0


def test_when_something_was_sent_and_received(peer: ScriptedBroker) -> None:
    client = peer.client()
    assert (client.last_heartbeat_sent, client.last_heartbeat_received) == (0, 0)
    client = peer.open()
    before = time.monotonic()
    peer.expect_nothing_more(client)
    assert before <= client.last_heartbeat_sent <= time.monotonic()
    assert client.last_heartbeat_received <= before
    peer.raw(BEAT)
    greenlets.wait_until(lambda: client.last_heartbeat_received >= before)


# -- is_alive ---------------------------------------------------------------------------------


def test_is_alive_from_open_to_close(peer: ScriptedBroker) -> None:
    client = peer.client()
    assert client.is_alive() is False
    opening = greenlets.spawn(client.connect)
    peer.handshake(until='open-ok')
    assert client.is_alive() is False
    peer.send('connection.open-ok')
    opening.get()
    assert client.is_alive() is True
    closing = greenlets.spawn(client.close)
    peer.agree_to_close()
    closing.get()
    assert client.is_alive() is False


def test_it_is_not_alive_when_the_peer_was_silent_too_long(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    inside.seem_idle(client, heard=1.5)
    assert client.is_alive()
    inside.seem_idle(client, heard=1)
    assert not client.is_alive()
    assert client.connected, 'asking changes nothing'


@pytest.mark.parametrize('reset', [False, True])
def test_it_is_not_alive_when_the_socket_has_ended_and_nobody_has_read_so(peer: ScriptedBroker, reset: bool) -> None:
    client = peer.open()
    peer.cut(reset=reset)
    # No switch since: the reader cannot know. The kernel of the same machine does.
    assert client.connected
    assert not client.is_alive()
    greenlets.wait_until(lambda: not client.connected)


def test_repr_tells_the_state(peer: ScriptedBroker) -> None:
    client = peer.client(password='hush')
    assert repr(client) == f"<Connection {peer.host} vhost '/' new>"
    client = peer.open(virtual_host='v')
    channel = peer.open_channel(client, 3)
    assert repr(client) == f"<Connection {peer.host} vhost 'v' open>"
    assert repr(channel) == f'<Channel 3 open of {client!r}>'
    client.collect()
    assert repr(client).endswith('closed>') and repr(channel).startswith('<Channel 3 closed')


def test_collect_at_any_time_is_silent_and_final(peer: ScriptedBroker) -> None:
    client = peer.client()
    client.collect()
    client.collect()
    with pytest.raises(exceptions.RecoverableConnectionError):
        client.drain_events()
    opening = greenlets.spawn(client.connect)  # it may be opened all the same
    peer.handshake()
    opening.get()
    client.collect()
    peer.expect_end()


# -- timeouts ---------------------------------------------------------------------------------


def test_connect_timeout_is_total(peer: ScriptedBroker) -> None:
    client = peer.client(connect_timeout=0.3)
    seconds, _ = took(client.connect, TimeoutError)
    assert seconds >= 0.25


def test_read_timeout_ends_a_connection_on_which_somebody_waits_in_vain(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    seconds, error = took(lambda: channel.queue_declare('q'), exceptions.RecoverableConnectionError)
    assert seconds >= 0.5
    assert 'read timeout' in str(error)
    assert not client.connected
    assert isinstance(error.__cause__, TimeoutError)


def test_read_timeout_of_a_confirm(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    _, error = took(
        lambda: channel.basic_publish_confirm(gamqp.Message('x'), '', 'q'), exceptions.RecoverableConnectionError
    )
    assert 'read timeout' in str(error)


def test_read_timeout_of_a_publish_that_waits_for_room(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0, outstanding_limit=1)
    channel = peer.open_channel(client)
    receipt = channel.publish(b'1', '', 'q')
    _, error = took(lambda: channel.publish(b'2', '', 'q'), exceptions.RecoverableConnectionError)
    assert 'read timeout' in str(error)
    assert receipt.state == 'lost'


def consume(peer: ScriptedBroker, call: Any) -> Any:
    """Start a consumer on channel 1."""
    starting = greenlets.spawn(call)
    while (asked := peer.next()).name != 'basic.consume':
        peer.send(f'{asked.name}-ok')
    peer.send('basic.consume-ok', consumer_tag=asked.consumer_tag)
    return starting.get()


def test_read_timeout_of_an_iterator_that_waits(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    loop = consume(peer, lambda: channel.consume('q', no_ack=True))
    seconds, error = took(lambda: next(loop), exceptions.RecoverableConnectionError)
    assert seconds >= 0.5
    assert 'read timeout' in str(error)


def test_read_timeout_of_a_handler_that_has_nothing_to_do(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    consumer = consume(peer, lambda: channel.subscribe('q', print, no_ack=True))
    seconds, error = took(consumer.join, exceptions.RecoverableConnectionError)
    assert seconds >= 0.5
    assert 'read timeout' in str(error)


def test_read_timeout_of_callbacks_in_drain_events(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    consume(peer, lambda: channel.basic_consume('q', callback=print))

    def drain() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                client.drain_events(timeout=0.1)

    seconds, error = took(drain, exceptions.RecoverableConnectionError)
    assert seconds >= 0.5
    assert 'read timeout' in str(error)


@pytest.mark.parametrize('way', ['subscribe', 'consume', 'basic_consume'])
def test_read_timeout_leaves_consumers_alone_that_are_at_work(peer: ScriptedBroker, way: str) -> None:
    """The broker may have nothing to say until they have acked."""
    client = peer.open(read_timeout=0.6, heartbeat=0)
    channel = peer.open_channel(client)
    begun, done = green.Event(greenlets.backend), green.Event(greenlets.backend)

    def handle(message: Any) -> None:
        begun.set()
        done.wait()

    def work() -> None:
        if way == 'consume':
            handle(next(loop))
        elif way == 'basic_consume':
            client.drain_events(timeout=30)

    if way == 'subscribe':
        consume(peer, lambda: channel.subscribe('q', handle))
    elif way == 'consume':
        loop = consume(peer, lambda: channel.consume('q'))
    else:
        consume(peer, lambda: channel.basic_consume('q', 'tag', callback=handle))
    working = greenlets.spawn(work)
    peer.send('basic.deliver', consumer_tag=next(iter(inside.consumers(channel))), delivery_tag=1)
    assert begun.wait(30)
    greenlets.sleep(1.2)
    assert client.connected
    done.set()
    working.get()


def test_bytes_of_the_peer_keep_a_consumer_that_waits(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=1.2, heartbeat=0)
    channel = peer.open_channel(client)
    loop = consume(peer, lambda: channel.consume('q', no_ack=True))
    waiting = greenlets.spawn(lambda: next(loop).body)
    for _ in range(6):
        greenlets.sleep(0.3)
        peer.raw(BEAT)
    peer.send('basic.deliver', consumer_tag=loop.tag, delivery_tag=1, body=b'late')
    assert waiting.get() == b'late'
    client.collect()


def test_any_byte_of_the_peer_starts_the_read_timeout_anew(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=1.2, heartbeat=0)
    channel = peer.open_channel(client)
    declaring = greenlets.spawn(lambda: channel.queue_declare('q'))
    peer.expect('queue.declare')
    reply = frames('queue.declare-ok', queue='q', message_count=5)
    for position in range(0, len(reply), 4):
        greenlets.sleep(0.3)
        peer.raw(reply[position : position + 4])
    assert declaring.get().message_count == 5
    assert client.connected


def test_read_timeout_leaves_an_idle_connection_alone(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=0.1, heartbeat=0)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.4)
    assert client.connected


def test_read_timeout_does_not_stretch_the_deadline_of_a_call(peer: ScriptedBroker) -> None:
    client = peer.open(read_timeout=60, heartbeat=0)
    channel = peer.open_channel(client)
    client.rpc_timeout = 0.2
    seconds, _ = took(lambda: channel.queue_declare('q'), TimeoutError)
    assert 0.15 <= seconds < 30
    assert client.connected


def test_write_timeout_ends_a_connection_whose_peer_takes_nothing() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(write_timeout=0.5, heartbeat=0)
        channel = peer.open_channel(client)
        seconds, error = took(
            lambda: [channel.basic_publish(gamqp.Message(bytes(5_000_000)), '', 'q') for _ in range(5)],
            exceptions.RecoverableConnectionError,
        )
        assert seconds >= 0.4
        assert 'write timeout' in str(error)


def test_timeout_of_a_publish_closes_before_it_raises() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(heartbeat=0)
        channel = peer.open_channel(client)
        seconds, _ = took(
            lambda: channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', 'q', timeout=0.3),
            exceptions.RecoverableConnectionError,
        )
        assert seconds >= 0.25
        assert not client.connected


@pytest.mark.parametrize('where', ['call', 'connection'])
def test_confirm_timeout(peer: ScriptedBroker, where: str) -> None:
    client = peer.open(heartbeat=0, **({'confirm_timeout': 0.2} if where == 'connection' else {}))
    channel = peer.open_channel(client)
    given = {'confirm_timeout': 0.2} if where == 'call' else {}
    seconds, _ = took(lambda: channel.basic_publish_confirm(gamqp.Message('x'), '', 'q', **given), TimeoutError)
    assert seconds >= 0.15
    assert client.connected
