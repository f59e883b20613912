"""How much is done between two turns of the hub where a program has thousands of consumers: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from meter import MOST as ITEMS
from meter import Meter
from script import ScriptedBroker, frames
from scripted_consumers import messages, start

import gamqp
from gamqp.state.receive_budget import ReceiveBudget

CONSUMERS = 4000
EACH = 3
MOST = ITEMS + 100  # and what else there is to do


class MeteredBudget(Meter, ReceiveBudget):
    """A budget that counts how many messages leave it between two turns of the hub."""

    def __init__(self) -> None:
        ReceiveBudget.__init__(self, 10**6, 10**9)
        Meter.__init__(self)

    def give_back(self, size: int) -> None:
        super().give_back(size)
        self.note()


@pytest.fixture
def meter() -> Iterator[MeteredBudget]:
    meter = MeteredBudget()
    yield meter
    meter.running = False


@pytest.fixture
def client(peer: ScriptedBroker, meter: MeteredBudget) -> gamqp.Connection:
    client = peer.open((10, 131072, 0))
    inside.backpressure(client).budget = meter
    client.Channel = inside.channel_noting_cancels(meter.note)  # which count, too
    return client


def tags_of(number: int) -> range:
    return range(EACH * number + 1, EACH * (number + 1) + 1)


@pytest.fixture
def crowd(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]) -> list[str]:
    """The tags of many consumers with callbacks, each of which has some undelivered messages."""
    tags = [
        channel.basic_consume('q', nowait=True, callback=got.append, consumer_tag=str(number))
        for number in range(CONSUMERS)
    ]
    for _ in tags:
        peer.expect('basic.consume')
    peer.raw(b''.join(frames('basic.consume-ok', consumer_tag=tag) for tag in tags))
    peer.raw(b''.join(messages(tag, tags_of(number)) for number, tag in enumerate(tags)))
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == CONSUMERS * EACH)
    meter: Any = inside.budget(client)
    meter.most = meter.turns = 0
    return tags


def agree_to_cancels(peer: ScriptedBroker, tags: list[str], reverse: bool = False) -> None:
    """All cancels, and the nacks between; then cancel-ok for each."""
    nacked, cancelled = 0, []
    while len(cancelled) < len(tags) or nacked < len(tags) * EACH:
        said = peer.next()
        if said.name == 'basic.cancel':
            cancelled.append(said.consumer_tag)
        else:
            assert said.name == 'basic.nack'
            nacked += 1
    answers = reversed(cancelled) if reverse else cancelled
    peer.raw(b''.join(frames('basic.cancel-ok', consumer_tag=tag) for tag in answers))


def test_drain(
    peer: ScriptedBroker, client: gamqp.Connection, meter: MeteredBudget, crowd: list[str], got: list[Any]
) -> None:
    agreeing = greenlets.spawn(lambda: (agree_to_cancels(peer, crowd, reverse=True), peer.agree_to_close()))
    assert client.drain(60) is True
    agreeing.get()
    assert got == []
    assert meter.most <= MOST
    assert meter.turns >= CONSUMERS * (EACH + 1) // 1000


@pytest.mark.parametrize('how', ['close', 'closed by the broker', 'recover'])
def test_the_end_of_all_deliveries_of_a_channel(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    meter: MeteredBudget,
    crowd: list[str],
    got: list[Any],
    how: str,
) -> None:
    other = peer.open_channel(client, 2)
    meter.most = 0
    if how == 'close':
        task = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
        task.get()
    elif how == 'recover':
        task = greenlets.spawn(channel.basic_recover, True)
        peer.expect('basic.recover')
        peer.send('basic.recover-ok')
        task.get()
    else:
        peer.send('channel.close', reply_code=404, reply_text='gone')
        peer.reopen()
        greenlets.wait_until(lambda: channel.is_open)
        with pytest.raises(gamqp.NotFound):
            client.drain_events(timeout=30)
    # At once, whatever still lies about: nobody gets any of it, and others get theirs.
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    starting = greenlets.spawn(lambda: other.basic_consume('q', 'other', callback=got.append))
    peer.expect('basic.consume', 2)
    peer.raw(frames('basic.consume-ok', 2, consumer_tag='other') + delivery(2, 'other'))
    starting.get()
    client.drain_events(timeout=30)
    assert [message.consumer_tag for message in got] == ['other']
    greenlets.wait_until(lambda: meter.messages == 0)
    # drain_events has passed over some meanwhile, and recover-ok has begun another walk beside the first.
    assert (meter.bytes, meter.most <= 3 * MOST) == (0, True)
    greenlets.wait_until(lambda: inside.waiting_events(client) < CONSUMERS)  # void entries go, too


def delivery(channel: int, tag: str) -> bytes:
    return frames('basic.deliver', channel, consumer_tag=tag, delivery_tag=1, body=b'x')


def test_cancelling_them_one_after_the_other_is_one_walk_in_all(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    meter: MeteredBudget,
    crowd: list[str],
    got: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = inside.looks_at_void(channel, monkeypatch)
    for tag in crowd:
        channel.basic_cancel(tag, nowait=True)
    assert [message.delivery_tag for message in got] == list(range(1, CONSUMERS * EACH + 1))
    assert len(looked) == CONSUMERS * EACH
    assert not inside.waiting_events(client)


@pytest.mark.parametrize('how', ['close', 'channel', 'cancelled by the broker'])
def test_one_iterator_with_a_great_many(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: MeteredBudget, how: str
) -> None:
    count = CONSUMERS * EACH
    loop = start(peer, channel, count, prefetch=0)
    meter.most = 0
    if how == 'close':
        task = greenlets.spawn(loop.close)
        peer.expect('basic.cancel')
    elif how == 'channel':
        task = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
    else:
        peer.send('basic.cancel', consumer_tag=loop.tag, nowait=True)
        peer.expect('basic.cancel')
    if how != 'channel':
        assert [peer.expect('basic.nack').delivery_tag for _ in range(count)] == list(range(1, count + 1))
    if how == 'close':
        peer.send('basic.cancel-ok', consumer_tag=loop.tag)
    if how != 'cancelled by the broker':
        task.get()
    greenlets.wait_until(lambda: meter.messages == 0)
    assert meter.most <= MOST
    peer.expect_nothing_more(client)


def test_void_entries_do_not_pile_up_where_nobody_drains(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    """A consumer that stays undelivered for ever, and channels that come and go behind it."""
    starting = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.expect('basic.consume')
    peer.raw(frames('basic.consume-ok', consumer_tag='tag') + delivery(1, 'tag'))
    starting.get()
    for _ in range(5):
        other = peer.open_channel(client, 2)
        starting = greenlets.spawn(lambda: other.basic_consume('q', 'other', callback=got.append))  # noqa: B023
        peer.expect('basic.consume')
        many = b''.join(
            frames('basic.deliver', 2, consumer_tag='other', delivery_tag=tag, body=b'x') for tag in range(1, 1501)
        )
        peer.raw(frames('basic.consume-ok', 2, consumer_tag='other') + many)
        starting.get()
        greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 1501)
        closing = greenlets.spawn(other.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok', 2)
        closing.get()
        greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 1)
        greenlets.wait_until(lambda: inside.waiting_events(client) < 1600)
    client.drain_events(timeout=30)
    assert [message.consumer_tag for message in got] == ['tag']
