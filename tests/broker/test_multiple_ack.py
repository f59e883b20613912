"""An ack or nack with *multiple* that covers messages which wait here: they are settled, and nobody gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlets
import pytest
from flooding import LIMIT, deliveries, flood
from script import ScriptedBroker
from scripted_consumers import Work, begin, messages, start, started, subscribed

import gamqp

SETTLING: list[Any] = [
    pytest.param(lambda channel, tag: channel.basic_ack(tag, multiple=True), 'basic.ack', id='ack'),
    pytest.param(lambda channel, tag: channel.basic_nack(tag, multiple=True), 'basic.nack', id='nack'),
]


def settled(peer: ScriptedBroker, settle: Callable[[Any, int], None], name: str, channel: Any, tag: int) -> None:
    settle(channel, tag)
    said = peer.expect(name)
    assert (said.delivery_tag, said.multiple) == (tag, True)


def nothing_more(client: gamqp.Connection) -> None:
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


@pytest.mark.parametrize(('settle', 'name'), SETTLING)
@pytest.mark.parametrize(('tag', 'left'), [(2, [3]), (0, []), (3, [])])
def test_a_callback_does_not_get_them(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    got: list[Any],
    settle: Any,
    name: str,
    tag: int,
    left: list[int],
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(messages('tag', range(1, 4)))
    greenlets.wait_until(lambda: channel.unsettled == 3)
    settled(peer, settle, name, channel, tag)
    for _ in left:
        client.drain_events(timeout=30)
    nothing_more(client)
    assert [message.delivery_tag for message in got] == left
    assert client.stats()['undelivered_messages'] == 0
    assert channel.unsettled == len(left)
    peer.raw(messages('tag', [4]))
    client.drain_events(timeout=30)
    assert got[-1].delivery_tag == 4


@pytest.mark.parametrize(('settle', 'name'), SETTLING)
@pytest.mark.parametrize('tag', [2, 0])
def test_an_iterator_does_not_yield_them(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, settle: Any, name: str, tag: int
) -> None:
    loop = start(peer, channel, deliver=3)
    settled(peer, settle, name, channel, tag)
    peer.raw(messages(loop.tag, [4]))
    following = [next(loop).delivery_tag for _ in range(1 if tag == 0 else 2)]
    assert following == ([4] if tag == 0 else [3, 4])
    assert client.stats()['undelivered_messages'] == 0


@pytest.mark.parametrize(('settle', 'name'), SETTLING)
def test_a_handler_does_not_get_them(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, settle: Any, name: str
) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, deliver=3)
    greenlets.wait_until(lambda: work.begun == ['1'])
    settled(peer, settle, name, channel, 2)
    work.go(1)
    said = peer.expect('basic.ack')  # of the third; the first was settled under its handler's hands
    assert (said.delivery_tag, work.begun) == (3, ['1', '3'])
    assert consumer.acked == 1
    peer.expect_nothing_more(client)


@pytest.mark.parametrize(('settle', 'name'), SETTLING)
def test_they_are_not_given_back_when_their_consumer_ends(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, settle: Any, name: str
) -> None:
    loop = start(peer, channel, deliver=3)
    settled(peer, settle, name, channel, 2)
    closing = greenlets.spawn(loop.close)
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 3
    peer.send('basic.cancel-ok', consumer_tag=loop.tag)
    closing.get()
    peer.expect_nothing_more(client)


def test_what_a_callback_without_acks_got_is_handed_out_all_the_same(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'free', no_ack=True, callback=got.append))
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(messages('free', [1]) + messages('tag', [2]) + messages('free', [3]))
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 3)
    channel.basic_ack(3, multiple=True)
    for _ in range(2):
        client.drain_events(timeout=30)
    nothing_more(client)
    assert [message.delivery_tag for message in got] == [1, 3]


def test_more_of_them_than_one_step_may_look_at(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    many = 2500
    loop = start(peer, channel, deliver=0, prefetch=0)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(deliveries(range(1, many), loop.tag, size=10) + deliveries(range(many, 2 * many), size=10))
    greenlets.wait_until(lambda: channel.unsettled == 2 * many - 1)
    channel.basic_ack(2 * many - 2, multiple=True)
    client.drain_events(timeout=30)
    assert [message.delivery_tag for message in got] == [2 * many - 1]
    taking = greenlets.spawn(next, loop)
    peer.raw(messages(loop.tag, [2 * many]))
    assert taking.get().delivery_tag == 2 * many
    assert client.stats()['undelivered_messages'] == 0


def test_those_in_a_file_of_an_iterator_that_waits(peer: ScriptedBroker) -> None:
    client = peer.open(max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)
    loop = started(peer, lambda: channel.consume('q', prefetch=0))
    many = 4 * LIMIT
    flood(peer, client, deliveries(range(1, many + 1), loop.tag))
    assert client.stats()['spooled_messages']
    channel.basic_ack(many, multiple=True)
    taking = greenlets.spawn(next, loop)
    peer.expect('basic.ack')
    peer.raw(messages(loop.tag, [many + 1]))
    assert taking.get().delivery_tag == many + 1
    assert client.stats()['spooled_messages'] == 0
