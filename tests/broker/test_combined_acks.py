"""Acks of one turn of the hub that follow one another go out as one frame, and the peer gets exactly what was acked."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp.io import writer
from gamqp.wire import encode_ack

MESSAGES = 60
CLIENT = {'combine_acks': True}


def deliver(first: int, last: int) -> bytes:
    return b''.join(
        frames('basic.deliver', consumer_tag='tag', delivery_tag=number) for number in range(first, last + 1)
    )


@contextlib.contextmanager
def only_hub_sends(client: gamqp.Connection) -> Iterator[None]:
    """A hub that is late, as on a busy machine, has its frames sent earlier, and others are not combined with those."""
    before, writer.BLOCKED_AFTER = writer.BLOCKED_AFTER, 1000.0
    try:
        with inside.transport(client).guard:  # which the sending thread would need
            yield
    finally:
        writer.BLOCKED_AFTER = before


@pytest.fixture
def acked(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> Iterator[gamqp.Channel]:
    """``with_unacked``, of connection and channel as they are usually."""
    with_unacked(peer, client, channel)
    with only_hub_sends(client):
        yield channel


def with_unacked(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> gamqp.Channel:
    """The channel with MESSAGES unacked deliveries."""
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(deliver(1, MESSAGES))
    while len(got) < MESSAGES:
        client.drain_events()
    greenlets.sleep(0.001)  # a turn of the hub begins
    return channel


def acks(peer: ScriptedBroker, count: int) -> list[tuple[int, bool]]:
    """The next acks that the peer gets."""
    said = [peer.expect('basic.ack') for _ in range(count)]
    return [(one.delivery_tag, one.multiple) for one in said]


def test_acks_of_one_turn_are_two_frames(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    for tag in range(1, MESSAGES + 1):
        acked.basic_ack(tag)
    # The first one does not wait for the end of the turn; the others have one frame.
    assert acks(peer, 2) == [(1, False), (MESSAGES, True)]
    assert acked.unsettled == 0


def test_two_acks_are_never_more_than_they_say(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    for tag in (1, 2):
        acked.basic_ack(tag)
    assert acks(peer, 2) == [(1, False), (2, False)]


def test_a_gap_is_not_acked(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    for tag in (1, 2, 3, 5, 6, 4, 7, 8):
        acked.basic_ack(tag)
    assert acks(peer, 7) == [(1, False), (3, True), (5, False), (6, False), (4, False), (7, False), (8, False)]


def test_what_was_refused_before_is_not_acked(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    acked.basic_ack(1)
    acked.basic_nack(2)
    acked.basic_ack(3)
    acked.basic_ack(4)
    assert acks(peer, 1) == [(1, False)]
    assert peer.expect('basic.nack').delivery_tag == 2
    assert acks(peer, 2) == [(3, False), (4, False)]


@pytest.mark.parametrize(
    ('act', 'name'),
    [
        (lambda channel: channel.basic_publish(gamqp.Message('x'), '', 'q'), 'basic.publish'),
        (lambda channel: channel.basic_reject(MESSAGES, requeue=False), 'basic.reject'),
        (lambda channel: channel.basic_cancel('tag', nowait=True), 'basic.cancel'),
    ],
    ids=['publish', 'reject', 'cancel'],
)
def test_no_ack_overtakes_another_frame(peer: ScriptedBroker, acked: gamqp.Channel, act: Any, name: str) -> None:
    for tag in (1, 2, 3):
        acked.basic_ack(tag)
    act(acked)
    for tag in (4, 5):
        acked.basic_ack(tag)
    assert acks(peer, 2) == [(1, False), (3, True)]
    assert peer.expect(name)
    assert acks(peer, 1) == [(5, True)]


def test_an_ack_of_something_unknown_stands_alone(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    """The broker closes the channel over it: it must not be hidden in an ack that the broker accepts."""
    for tag in range(1, MESSAGES + 1):
        acked.basic_ack(tag)
    acked.basic_ack(MESSAGES + 1)
    acked.basic_ack(MESSAGES)
    assert acks(peer, 4) == [(1, False), (MESSAGES, True), (MESSAGES + 1, False), (MESSAGES, False)]


def test_in_a_transaction_each_is_sent(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    """A rollback makes them unacked again, which the client cannot see."""
    selecting = greenlets.spawn(acked.tx_select)
    peer.expect('tx.select')
    peer.send('tx.select-ok')
    selecting.get()
    for tag in (1, 2, 3):
        acked.basic_ack(tag)
    assert acks(peer, 3) == [(1, False), (2, False), (3, False)]


def test_after_a_multiple_ack_they_are_combined_again(peer: ScriptedBroker, acked: gamqp.Channel) -> None:
    acked.basic_ack(10, multiple=True)
    for tag in range(11, MESSAGES + 1):
        acked.basic_ack(tag)
    said = []
    while not said or said[-1][0] != MESSAGES:
        said += acks(peer, 1)
    assert said[0] == (10, True)
    # From the next multiple of 16 on it is looked at whether there is anything below.
    assert len(said) < 10


@pytest.mark.parametrize('tag', [-1, 2**64, '1', None, 1.0, []])
def test_a_tag_that_is_none_is_refused(acked: gamqp.Channel, tag: Any) -> None:
    with pytest.raises((gamqp.AMQPError, ValueError, TypeError)):
        acked.basic_ack(tag)
    assert acked.unsettled == MESSAGES


class Model:
    """What the broker would do with the acks that it gets."""

    def __init__(self, count: int) -> None:
        self.unacked = set(range(1, count + 1))
        self.acked: set[int] = set()

    def take(self, said: Any) -> None:
        tag = said.delivery_tag
        covered = {one for one in self.unacked if one <= tag} if getattr(said, 'multiple', False) else {tag}
        assert covered <= self.unacked, f'{said.name} {tag}: unknown'
        self.unacked -= covered
        if said.name == 'basic.ack':
            self.acked |= covered


@pytest.mark.parametrize('seed', range(12))
def test_random_settling(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, seed: int) -> None:
    """Whatever is settled in whatever order: at each publish the peer has got exactly what was settled before it."""
    acked = with_unacked(peer, client, channel)
    chance = random.Random(seed)
    left, done = list(range(1, MESSAGES + 1)), set[int]()
    states: list[tuple[set[int], set[int]]] = []
    while left:
        kind = chance.random()
        tag = left[0] if chance.random() < 0.85 else chance.choice(left)
        if kind < 0.75:
            acked.basic_ack(tag)
            done.add(tag)
            left.remove(tag)
        elif kind < 0.8:
            acked.basic_nack(tag)
            left.remove(tag)
        elif kind < 0.83:
            acked.basic_reject(tag, requeue=True)
            left.remove(tag)
        elif kind < 0.86:
            tag = left[min(3, len(left) - 1)]
            acked.basic_ack(tag, multiple=True)
            done |= {one for one in left if one <= tag}
            left = [one for one in left if one > tag]
        elif kind < 0.95:
            acked.basic_publish(gamqp.Message('x'), '', 'q')
            states.append((set(left), set(done)))
        else:
            greenlets.sleep(0)
        assert acked.unsettled == len(left)
    acked.basic_publish(gamqp.Message('last'), '', 'q')
    states.append((set(), set(done)))
    model = Model(MESSAGES)
    for expected in states:
        while (said := peer.next()).name != 'basic.publish':
            model.take(said)
        assert (model.unacked, model.acked) == expected
    assert acked.connection is not None
    assert acked.connection.stats()['acked'] == len(done)


def test_it_can_be_turned_off(peer: ScriptedBroker) -> None:
    client = peer.open(combine_acks=False)
    channel = with_unacked(peer, client, peer.open_channel(client))
    for tag in range(1, MESSAGES + 1):
        channel.basic_ack(tag)
    assert acks(peer, MESSAGES) == [(tag, False) for tag in range(1, MESSAGES + 1)]


def test_only_what_is_last_in_the_queue_is_replaced(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    greenlets.sleep(0.001)
    one, two, three, four = (encode_ack(1, tag, False) for tag in (1, 2, 3, 4))
    queue = inside.writer(client)
    with only_hub_sends(client):
        queue.send(one)
        assert not queue.replace_last(one, four)  # it was sent at once
        queue.send(two)
        equal = bytes(bytearray(two))
        assert not queue.replace_last(equal, four)  # not the same object: another one's frame
        assert queue.replace_last(two, three)
        assert not queue.replace_last(two, four)
        queue.send_without_hub()  # as the sending thread does
        assert not queue.replace_last(three, four)
    assert acks(peer, 2) == [(1, False), (3, False)]


@pytest.mark.parametrize('late', range(4))
def test_whatever_the_sending_thread_has_taken_is_not_replaced(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: int
) -> None:
    """It sends what is queued between any two acks: the peer has acked exactly what was acked."""
    chance = random.Random(late)
    with_unacked(peer, client, channel)
    with only_hub_sends(client):
        for tag in range(1, MESSAGES + 1):
            channel.basic_ack(tag)
            if chance.random() < 0.3:
                inside.writer(client).send_without_hub()
    model = Model(MESSAGES)
    while model.unacked:
        model.take(peer.expect('basic.ack'))
    assert model.acked == set(range(1, MESSAGES + 1))
    peer.expect_nothing_more(client)
