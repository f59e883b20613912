"""What a program hears of a lost connection: ``connected``, drain_events, and ``on_lost``."""

from __future__ import annotations

import gc
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp


def lose(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    greenlets.wait_until(lambda: not client.is_open)


def consuming(peer: ScriptedBroker, **arguments: Any) -> gamqp.Connection:
    client = peer.open(**arguments)
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    return client


def drain_raises(client: gamqp.Connection) -> None:
    with pytest.raises(gamqp.ConnectionForced, match='by operator'):
        client.drain_events(timeout=0)


# -- connected ---------------------------------------------------------------------------------


def test_with_callback_consumers_it_is_connected_until_drain_events_has_raised_the_loss(peer: ScriptedBroker) -> None:
    """kombu asks before it drains, and would open a new connection, without consumers, in silence."""
    client = consuming(peer)
    lose(peer, client)
    assert client.connected
    assert not client.is_open and not client.is_alive()
    assert repr(client).endswith('closed>')
    assert client.sock is not None
    for call in (client.heartbeat_tick, client.channel):  # what others raise is not heard by the drainer
        with pytest.raises(gamqp.ConnectionForced):
            call()
    assert client.connected
    drain_raises(client)
    assert not client.connected and client.sock is None
    drain_raises(client)


def test_a_drainer_that_waits_hears_it(peer: ScriptedBroker) -> None:
    client = consuming(peer)
    draining = greenlets.spawn(client.drain_events)
    greenlets.sleep(0.01)
    lose(peer, client)
    with pytest.raises(gamqp.ConnectionForced):
        draining.get()
    assert not client.connected


def test_an_error_of_a_callback_does_not_count(peer: ScriptedBroker) -> None:
    """A callback that finds out is not the loop that has to start anew: its error may have been caught inside."""
    client = peer.open()
    channel = peer.open_channel(client)
    errors: list[Any] = []

    def callback(message: Any) -> None:
        lose(peer, client)
        try:
            message.ack()
        except gamqp.ConnectionError as error:
            errors.append(error)

    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=callback))
    peer.send('basic.deliver', 1, consumer_tag='tag', delivery_tag=1, body=b'x')
    client.drain_events(timeout=30)
    assert errors and client.connected
    drain_raises(client)
    assert not client.connected


def without_consumers(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.open_channel(client)


def with_an_iterator(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channel = peer.open_channel(client)
    client.kept = begin(peer, lambda: channel.consume('q', consumer_tag='tag'))  # type: ignore[attr-defined]


def with_a_subscription(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channel = peer.open_channel(client)
    client.kept = begin(peer, lambda: channel.subscribe('q', print, consumer_tag='tag'))  # type: ignore[attr-defined]


def with_a_consumer_that_was_cancelled(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', 1, consumer_tag='tag')
    cancelling.get()


@pytest.mark.parametrize(
    'how', [without_consumers, with_an_iterator, with_a_subscription, with_a_consumer_that_was_cancelled]
)
def test_without_callback_consumers_it_is_not_connected_at_once(peer: ScriptedBroker, how: Any) -> None:
    client = peer.open()
    how(peer, client)
    lose(peer, client)
    assert not client.connected and client.sock is None
    drain_raises(client)


@pytest.mark.parametrize('end', ['close', 'collect'])
def test_a_program_that_closes_knows(peer: ScriptedBroker, end: str) -> None:
    client = consuming(peer)
    lose(peer, client)
    getattr(client, end)()
    assert not client.connected


@pytest.mark.parametrize('end', ['close', 'collect'])
def test_an_end_that_the_program_wants_is_no_loss(peer: ScriptedBroker, end: str) -> None:
    client = consuming(peer)
    closing = greenlets.spawn(getattr(client, end))
    if end == 'close':
        peer.agree_to_close()
    closing.get()
    assert not client.connected


def test_it_can_be_connected_again_before_it_was_raised(peer: ScriptedBroker) -> None:
    client = consuming(peer)
    lose(peer, client)
    peer.hang_up()
    opening = greenlets.spawn(client.connect)
    peer.handshake()
    opening.get()
    assert client.is_open and client.connected
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    client.collect()
    assert not client.connected


# -- on_lost -----------------------------------------------------------------------------------


def test_on_lost_is_called_once_with_the_reason_in_a_greenlet_of_its_own(peer: ScriptedBroker) -> None:
    errors: list[Any] = []
    seen: list[bool] = []

    def on_lost(error: BaseException) -> None:
        greenlets.sleep(0)  # it may switch
        seen.append(client.is_alive())
        errors.append(error)

    client = peer.open(on_lost=on_lost)
    waiting = greenlets.spawn(client.drain_events)
    greenlets.sleep(0.01)
    lose(peer, client)
    greenlets.wait_until(lambda: errors)
    with pytest.raises(gamqp.ConnectionForced) as raised:
        waiting.get()
    assert type(errors[0]) is gamqp.ConnectionForced and 'by operator' in str(errors[0])
    assert errors[0] is not raised.value
    client.close()
    greenlets.sleep(0.01)
    assert len(errors) == 1 and seen == [False]
    peer.hang_up()
    opening = greenlets.spawn(client.connect)
    peer.handshake()
    opening.get()
    peer.cut()
    greenlets.wait_until(lambda: len(errors) == 2)
    assert 'the broker closed the socket' in str(errors[1])


def test_on_lost_is_not_called_for_an_end_that_the_program_wanted(peer: ScriptedBroker) -> None:
    errors: list[Any] = []
    for end in ('close', 'drain', 'collect'):
        client = peer.open(on_lost=errors.append)
        ending = greenlets.spawn(getattr(client, end))
        if end != 'collect':
            peer.agree_to_close()
        ending.get()
        peer.hang_up()
    greenlets.sleep(0.02)
    assert errors == []


def test_on_lost_is_not_called_when_the_peer_ends_a_close_with_a_cut(peer: ScriptedBroker) -> None:
    errors: list[Any] = []
    client = peer.open(on_lost=errors.append)
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    peer.cut(reset=True)
    closing.get()
    greenlets.sleep(0.02)
    assert errors == []


def test_on_lost_is_not_called_when_connecting_fails(peer: ScriptedBroker) -> None:
    errors: list[Any] = []
    client = peer.client(on_lost=errors.append)
    opening = greenlets.spawn(client.connect)
    peer.handshake(until='tune')
    peer.cut()
    with pytest.raises((gamqp.ConnectionError, OSError)):
        opening.get()
    greenlets.sleep(0.02)
    assert errors == []


def test_on_lost_is_not_called_for_a_connection_that_nobody_has_any_more(peer: ScriptedBroker) -> None:
    errors: list[Any] = []
    with pytest.warns(ResourceWarning, match='never closed'):
        client = gamqp.Connection(peer.host, on_lost=errors.append)
        opening = greenlets.spawn(client.connect)
        peer.handshake()
        opening.get()
        del client, opening
        gc.collect()
        peer.agree_to_close()
    greenlets.sleep(0.02)
    assert errors == []


def test_an_on_lost_that_raises_harms_nobody(peer: ScriptedBroker, capfd: Any) -> None:
    client = peer.open(on_lost=lambda error: 1 / 0)
    lose(peer, client)
    greenlets.sleep(0.02)
    drain_raises(client)
