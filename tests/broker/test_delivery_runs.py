"""Deliveries that arrive together: whatever they are mixed with, each goes where it would have gone alone."""

from __future__ import annotations

import random
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp


def deliver(tag: str, number: int, body: bytes = b'', redelivered: bool = False) -> bytes:
    return frames('basic.deliver', consumer_tag=tag, delivery_tag=number, redelivered=redelivered, body=body)


@pytest.mark.parametrize('seed', range(8))
def test_each_consumer_gets_its_messages_in_order(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, seed: int
) -> None:
    """Two callbacks and two iterators, with and without acks, in one batch with what belongs to nobody and methods."""
    chance = random.Random(seed)
    called: dict[str, list[Any]] = {'acked': [], 'free': []}
    for tag in called:
        begin(
            peer,
            lambda tag=tag: channel.basic_consume(  # type: ignore[misc]
                'q', tag, no_ack=tag == 'free', callback=called[tag].append
            ),
        )
    iterators = {
        tag: begin(
            peer,
            lambda tag=tag: channel.consume('q', consumer_tag=tag, no_ack=tag == 'free iterator'),  # type: ignore[misc]
        )
        for tag in ('iterator', 'free iterator')
    }
    sent: dict[str, list[int]] = {tag: [] for tag in (*called, *iterators)}
    data, number, again, strays = b'', 0, 0, []
    while number < 300:
        tag = chance.choice([*sent, 'nobody'])
        for _ in range(chance.choice([1, 1, 2, 5, 30])):
            number += 1
            redelivered = chance.random() < 0.2
            data += deliver(tag, number, b'x' * chance.choice([0, 1, 500]), redelivered)
            if tag == 'nobody':
                strays.append(number)
            else:
                sent[tag].append(number)
            again += redelivered
        if chance.random() < 0.1:
            data += frames('channel.flow', active=True)
    peer.raw(data)
    greenlets.wait_until(lambda: sum(map(len, sent.values())) == client.stats()['undelivered_messages'])
    while any(len(called[tag]) < len(sent[tag]) for tag in called):
        client.drain_events()
    for tag, deliveries in iterators.items():
        assert deliveries.delivered == len(sent[tag])
        called[tag] = [next(deliveries) for _ in sent[tag]]
    assert {tag: [one.delivery_tag for one in messages] for tag, messages in called.items()} == sent
    assert all(one.channel is channel for messages in called.values() for one in messages)
    assert channel.unsettled == len(sent['acked']) + len(sent['iterator'])
    stats = client.stats()
    assert (stats['undelivered_messages'], stats['undelivered_bytes']) == (0, 0)
    assert stats['redelivered'] == again
    # What came for nobody went back, and nothing else.
    given_back = []
    while len(given_back) < len(strays):
        said = peer.next()
        if said.name == 'basic.nack':
            given_back.append(said.delivery_tag)
        else:
            assert said.name == 'channel.flow-ok'
    assert given_back == strays


@pytest.mark.parametrize('concurrency', [1, 3, 50])
def test_a_run_starts_as_many_workers_as_it_has_messages(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, concurrency: int
) -> None:
    begun: list[int] = []
    go: list[bool] = []

    def handle(message: Any) -> None:
        begun.append(message.delivery_tag)
        greenlets.wait_until(lambda: bool(go))

    consumer = begin(peer, lambda: channel.subscribe('q', handle, concurrency=concurrency))
    peer.raw(b''.join(deliver(consumer.tag, number) for number in range(1, 11)))
    wanted = min(concurrency, 10)
    greenlets.wait_until(lambda: len(begun) == wanted and consumer.delivered == 10)
    assert len(inside.workers(consumer)) == wanted
    go.append(True)
    greenlets.wait_until(lambda: len(begun) == 10 and channel.unsettled == 0)


def test_a_consumer_that_is_cancelled_gives_its_run_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = begin(peer, lambda: channel.consume('q'))
    tag = deliveries.tag
    del deliveries  # nobody holds it: what arrives from now on goes back
    peer.expect('basic.cancel')
    peer.raw(b''.join(deliver(tag, number) for number in range(1, 6)))
    assert [peer.expect('basic.nack').delivery_tag for _ in range(5)] == [1, 2, 3, 4, 5]
    assert client.stats()['undelivered_messages'] == 0
    assert channel.unsettled == 0


def test_a_run_counts_towards_the_memory_limits(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(b''.join(deliver('tag', number, bytes(number)) for number in range(1, 21)))
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 20)
    assert inside.budget(client).bytes == sum(range(1, 21))
    for left in range(19, -1, -1):
        client.drain_events()
        assert inside.budget(client).messages == left
    assert inside.budget(client).bytes == 0
