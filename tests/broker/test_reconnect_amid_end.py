"""A connection that is opened again while thousands are still to hear of the end of the one before."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

MANY = 5000
LOST = exceptions.RecoverableConnectionError


@pytest.fixture
def client(peer: ScriptedBroker) -> gamqp.Connection:
    """Connects again by itself. The password takes a while then: so long there is no link."""
    asked: list[int] = []

    def password() -> str:
        asked.append(1)
        if len(asked) > 1:
            greenlets.sleep(0.2)
        return 'guest'

    connection = peer.open((10, 131072, 0), password=password, on_lost=lambda error: connection.connect())
    return connection


@pytest.fixture
def channel(peer: ScriptedBroker, channel: gamqp.Channel) -> gamqp.Channel:
    """It has many publishes whose receipts wait for a confirm."""
    channel.outstanding_limit = 0
    receipts = [channel.publish(b'x') for _ in range(MANY)]
    peer.expect('confirm.select')
    for _ in receipts:
        peer.expect('basic.publish')
    return channel


def test_drain_events_raises_the_loss(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> None:
    draining = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    peer.hang_up()
    with pytest.raises(LOST, match='the broker closed the socket'):
        draining.get()
    peer.handshake((10, 131072, 0))
    greenlets.wait_until(lambda: client.is_open)


def test_a_publisher_that_is_blocked_gets_the_loss(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> None:
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: client.is_blocked)
    publishing = greenlets.spawn(channel.publish, b'x')
    greenlets.sleep(0)
    peer.hang_up()
    with pytest.raises(LOST):
        publishing.get()
    peer.handshake((10, 131072, 0))
    greenlets.wait_until(lambda: client.is_open)


def test_calls_whose_time_is_up_amid_it_get_the_loss(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> None:
    """For some of them it passes between the end and their turn to hear of it."""
    errors: list[type[BaseException]] = []

    def purge(timeout: float) -> None:
        try:
            inside.purge(channel, 'q', timeout)
        except BaseException as exc:
            errors.append(type(exc))

    calls = [greenlets.spawn(purge, 0.05 + number / 20_000) for number in range(MANY)]
    greenlets.sleep(0.02)
    client.collect()
    again = greenlets.spawn(client.connect)
    for call in calls:
        call.get()
    assert len(errors) == MANY
    assert set(errors) <= {TimeoutError, LOST}
    peer.hang_up()
    peer.handshake((10, 131072, 0))
    again.get()


@pytest.mark.parametrize('how', ['the channel is closed', 'one is confirmed twice'])
def test_what_a_multiple_covers_is_settled_although_a_waiter_comes_amid_it(
    peer: ScriptedBroker, client: Any, how: str
) -> None:
    """The waiter stands at the end of the first 1000 steps."""
    channel = peer.open_channel(client)
    channel.outstanding_limit = 0
    receipts = [channel.publish(b'x') for _ in range(999)]
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    receipts += [channel.publish(b'x') for _ in range(1001)]
    peer.expect('confirm.select')
    for _ in receipts:
        peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    ack = frames('basic.ack', 1, delivery_tag=2000, multiple=True)
    if how == 'one is confirmed twice':
        peer.raw(ack + frames('basic.ack', 1, delivery_tag=1000))
        greenlets.wait_until(lambda: not channel.unconfirmed)
        later = channel.publish(b'x')
        peer.expect('basic.publish')
        peer.send('basic.ack', delivery_tag=2001, multiple=True)
        later.wait()
    else:
        peer.raw(ack + frames('channel.close', 1, reply_code=404, reply_text='NOT_FOUND', class_id=0, method_id=0))
        peer.reopen()
    assert waiting.get() is True
    greenlets.wait_until(lambda: receipts[-1].done)
    assert {receipt.state for receipt in receipts} == {'acked'}
