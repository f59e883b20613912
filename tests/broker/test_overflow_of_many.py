"""Thousands of consumers with messages in the spool: what one step costs is counted in executed lines, not in time."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMIT, LIMITED, deliveries, drained, flood, nacked
from line_counter import executed_lines
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions

pytestmark = pytest.mark.usefixtures('no_file_is_left')

CLIENT = LIMITED

CONSUMERS = 3000
# Lines of a step: 1000 items of a long walk, each of some twenty lines. With all of them it would be more.
MOST = 1000 * 25
FEW = 300


def callbacks(peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any], first: int) -> None:
    """Many consumers, each with one message in the spool, from this delivery tag on."""
    tags = [str(first + number) for number in range(CONSUMERS)]
    for tag in tags:
        channel.basic_consume('q', tag, nowait=True, callback=got.append)
    for _ in tags:
        peer.expect('basic.consume')
    peer.raw(b''.join(frames('basic.consume-ok', consumer_tag=tag) for tag in tags))
    flood(peer, channel.connection, b''.join(deliveries([int(tag)], tag, size=10) for tag in tags))


def iterators(peer: ScriptedBroker, channel: gamqp.Channel, no_ack: bool, first: int) -> list[Any]:
    """The same."""
    tags = [str(first + number) for number in range(CONSUMERS)]
    tasks = [greenlets.spawn(lambda tag=tag: channel.consume('q', 0, consumer_tag=tag, no_ack=no_ack)) for tag in tags]
    for _ in tags:
        peer.expect('basic.consume')
    peer.raw(b''.join(frames('basic.consume-ok', consumer_tag=tag) for tag in tags))
    loops = [task.get() for task in tasks]
    flood(peer, channel.connection, b''.join(deliveries([int(tag)], tag, size=10) for tag in tags))
    return loops


@pytest.fixture
def full(peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]) -> Any:
    """A consumer of another channel that keeps the budget spent. Returns the delivery tags of its messages."""
    other = peer.open_channel(client, 2)
    begin(peer, lambda: other.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, 2 * LIMIT + 1), channel=2, size=10))
    return range(1, 2 * LIMIT + 1)


def test_the_end_of_the_channel(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, full: Any, got: list[Any]
) -> None:
    callbacks(peer, channel, got, 1)
    assert channel.unsettled == CONSUMERS
    overflow = inside.overflow(client)
    before = overflow.messages
    consumers = list(inside.consumers(channel).values())
    assert executed_lines(overflow.forget_channel, channel) < MOST
    # At once, whatever is still to be tidied up.
    assert (channel.unsettled, overflow.messages) == (0, before - CONSUMERS)
    assert not any(map(overflow.of, consumers))
    assert {number for number, _, _ in overflow.holders()} <= {2}
    assert drained(client, got, len(full)) == list(full)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.1)
    assert inside.overflow(client) is None


def test_a_consumer_that_goes_on_has_new_ones_while_the_old_are_tidied_up(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, full: Any, got: list[Any]
) -> None:
    callbacks(peer, channel, got, 1)
    recovering = greenlets.spawn(channel.basic_recover, True)
    peer.expect('basic.recover')
    again = b''.join(deliveries([CONSUMERS + number], str(number), size=10) for number in range(1, CONSUMERS + 1))
    peer.raw(frames('basic.recover-ok') + again)
    recovering.get()
    drained(client, got, len(full) + CONSUMERS)
    tags = [message.delivery_tag for message in got if message.channel is channel]
    assert tags == list(range(CONSUMERS + 1, 2 * CONSUMERS + 1))
    assert channel.unsettled == CONSUMERS
    assert inside.overflow(client) is None


def test_the_end_of_one_of_them(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, full: Any, got: list[Any]
) -> None:
    callbacks(peer, channel, got, 1)
    consumer = inside.consumers(channel)['7']
    assert executed_lines(inside.overflow(client).withdraw, consumer) < FEW
    assert nacked(peer, 1) == [7]
    assert (channel.unsettled, inside.overflow(client).of(consumer)) == (CONSUMERS - 1, 0)


@pytest.mark.parametrize('no_ack', [True, False], ids=['no ack', 'ack'])
def test_the_end_of_the_connection(peer: ScriptedBroker, client: Any, channel: gamqp.Channel, no_ack: bool) -> None:
    keeping = begin(peer, lambda: channel.consume('q', 0, consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, 2 * LIMIT + 1), size=10))
    loops = iterators(peer, channel, no_ack, 2 * LIMIT + 1)
    assert executed_lines(lambda: inside.event_queue(client).undelivered) < FEW
    assert inside.event_queue(client).undelivered is False  # there is nothing for drain_events
    closing = inside.overflow(client).close
    inside.overflow(client).close = lambda: spent.append(executed_lines(closing))
    spent: list[int] = []
    waiting = [greenlets.spawn(list, loop) for loop in loops]
    greenlets.sleep(0)
    client.collect()
    assert 0 < spent[0] < MOST
    for task in waiting:  # nobody waits for ever for what will not come
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()
    keeping.close()


def test_what_comes_back(peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, 6001), size=10))
    came: list[int] = []
    came_back = [0]
    put = inside.event_queue(client).on_delivery

    def on_delivery(consumer: Any, message: Any) -> None:
        came[-1] += 1
        came_back[0] += 1
        put(consumer, message)

    def turn() -> None:
        came.append(0)
        if inside.overflow(client) is not None:
            greenlets.backend.call_later(0, turn)

    turn()
    inside.event_queue(client).on_delivery = on_delivery
    assert drained(client, got, 6000) == list(range(1, 6001))
    assert came_back[0] > 5000
    assert max(came) <= 1000
