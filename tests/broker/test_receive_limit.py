"""Messages the program does not come for: reading stops at a limit, and goes on when it must."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from flooding import undelivered
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp

PEER = {'buffer': 64 * 1024}  # its kernel takes little before it says stop
LIMIT = 50


def consuming(peer: ScriptedBroker, got: list[Any], tune: tuple[int, int, int] = (10, 131072, 0), **limits: int) -> Any:
    """A channel with one consumer, on a connection with small limits."""
    client = peer.open(tune, **limits)
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=lambda message: got.append(message)))
    return channel


@pytest.fixture
def channel(peer: ScriptedBroker, got: list[Any]) -> gamqp.Channel:
    return consuming(peer, got, max_undelivered_messages=LIMIT)


def flood(count: int, size: int = 20_000, first: int = 0) -> bytes:
    return b''.join(
        frames('basic.deliver', consumer_tag='tag', delivery_tag=first + number + 1, body=bytes(size))
        for number in range(count)
    )


def stopped(client: gamqp.Connection) -> bool:
    return not inside.reads(client)


def test_above_the_count_reading_stops_and_the_peer_is_held_back(
    peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any]
) -> None:
    client: Any = channel.connection
    said = flood(1000)
    sent = peer.pour(said)
    assert sent < len(said)
    greenlets.wait_until(lambda: stopped(client))
    assert LIMIT <= inside.waiting_events(client) < 6 * LIMIT  # what one batch may bring on top
    assert got == []
    # The program comes, everything follows.
    rest = greenlets.spawn(peer.raw, said[sent:])
    while len(got) < 1000:
        client.drain_events(timeout=30)
    rest.get()
    assert [message.delivery_tag for message in got] == list(range(1, 1001))


def test_above_the_bytes_reading_stops(peer: ScriptedBroker, got: list[Any]) -> None:
    channel = consuming(peer, got, max_undelivered_bytes=1_000_000)
    said = flood(1000)
    assert peer.pour(said) < len(said)
    greenlets.wait_until(lambda: stopped(channel.connection))
    assert inside.waiting_events(channel.connection) < 100


def test_large_headers_count_as_bytes_too(peer: ScriptedBroker, got: list[Any]) -> None:
    channel = consuming(peer, got, max_undelivered_bytes=1_000_000)
    client: Any = channel.connection
    headers = {'application_headers': {'key': 'x' * 20_000}}
    said = b''.join(
        frames('basic.deliver', consumer_tag='tag', delivery_tag=number, properties=headers) for number in range(1, 501)
    )
    sent = peer.pour(said)
    assert sent < len(said)
    greenlets.wait_until(lambda: stopped(client))
    assert inside.waiting_events(client) < 100
    rest = greenlets.spawn(peer.raw, said[sent:])
    while len(got) < 500:
        client.drain_events(timeout=30)
    rest.get()
    assert undelivered(client) == (0, 0)


def test_half_is_drained_before_reading_goes_on(peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any]) -> None:
    client: Any = channel.connection
    peer.raw(flood(LIMIT, size=10))
    greenlets.wait_until(lambda: stopped(client))
    for _ in range(LIMIT // 2 - 1):
        client.drain_events(timeout=30)
    greenlets.sleep(0)
    greenlets.sleep(0)
    assert stopped(client)
    client.drain_events(timeout=30)
    greenlets.wait_until(lambda: not stopped(client))


def test_a_call_works_while_reading_is_stopped(peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any]) -> None:
    client: Any = channel.connection
    peer.raw(flood(LIMIT))
    greenlets.wait_until(lambda: stopped(client))
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    peer.raw(flood(20, first=LIMIT) + frames('queue.declare-ok', queue='q'))
    assert declaring.get().queue == 'q'
    held = inside.waiting_events(client)
    peer.raw(flood(1))  # nobody waits any more, so this stays in the kernel
    greenlets.wait_until(lambda: stopped(client))
    assert inside.waiting_events(client) == held
    confirming = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.raw(frames('confirm.select-ok') + frames('basic.ack', delivery_tag=1))
    confirming.get()
    assert got == []
    while len(got) < LIMIT + 21:
        client.drain_events(timeout=30)


def test_a_callback_that_declares_does_not_deadlock(peer: ScriptedBroker, got: list[Any]) -> None:
    client: Any = peer.open((10, 131072, 0), max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)

    def callback(message: Any) -> None:
        got.append(channel.queue_declare(f'q{message.delivery_tag}').queue)

    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=callback))
    peer.raw(flood(LIMIT))
    greenlets.wait_until(lambda: stopped(client))

    def drain() -> None:
        for _ in range(LIMIT):
            client.drain_events(timeout=30)

    draining = greenlets.spawn(drain)
    for _ in range(LIMIT):
        name = peer.expect('queue.declare').queue
        peer.raw(flood(1, size=100) + frames('queue.declare-ok', queue=name))
    draining.get()
    assert got == [f'q{number}' for number in range(1, LIMIT + 1)]


@pytest.mark.parametrize('how', ['cancel', 'close'])
def test_cancel_and_close_give_the_budget_back(
    peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any], how: str
) -> None:
    client: Any = channel.connection
    peer.raw(flood(LIMIT))
    greenlets.wait_until(lambda: stopped(client))
    if how == 'cancel':
        task = greenlets.spawn(channel.basic_cancel, 'tag')
        peer.expect('basic.cancel')
        peer.send('basic.cancel-ok', consumer_tag='tag')
    else:
        task = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
    task.get()
    assert len(got) == (LIMIT if how == 'cancel' else 0)
    assert undelivered(client) == (0, 0)
    greenlets.wait_until(lambda: not stopped(client))


def test_the_silence_of_a_peer_that_we_do_not_read_proves_nothing(peer: ScriptedBroker, got: list[Any]) -> None:
    channel = consuming(peer, got, (10, 131072, 1), max_undelivered_messages=LIMIT)
    client: Any = channel.connection
    peer.raw(flood(LIMIT, size=10))
    greenlets.wait_until(lambda: stopped(client))
    before = peer.decoder.heartbeats
    greenlets.sleep(3.5)  # cooperative; the peer is silent for more than two intervals
    assert client.connected
    peer.take_what_came()
    assert peer.decoder.heartbeats > before + 2  # ours go on
    while len(got) < LIMIT:
        client.drain_events(timeout=30)
    assert client.connected


def test_a_stopped_connection_closes(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    client: Any = channel.connection
    peer.pour(flood(1000))
    assert stopped(client)
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    peer.hang_up()
    closing.get()
    assert not client.connected


def test_the_link_that_ends_while_messages_are_given_back_is_told_and_leaves_the_budget_whole(
    peer: ScriptedBroker, got: list[Any]
) -> None:
    """Nobody reads, so it is a nack that finds out that the peer has gone."""
    count = 20_000
    channel = consuming(peer, got, max_undelivered_messages=count)
    client: Any = channel.connection
    peer.raw(flood(count, size=1))
    greenlets.wait_until(lambda: stopped(client))
    peer.hang_up()
    with pytest.raises(gamqp.RecoverableConnectionError):
        channel.basic_cancel('tag')
    assert not client.is_open
    assert undelivered(client) == (0, 0)
    assert not inside.waiting_events(client)
