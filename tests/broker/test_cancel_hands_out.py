"""basic_cancel of a consumer with a callback: what has arrived for it is handed out before the call returns."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from flooding import LIMIT, deliveries, flood
from greenlet import GreenletExit
from script import ScriptedBroker
from scripted_consumers import begin, messages

import gamqp
from gamqp import exceptions, green
from gamqp.connection import unfinished_handlers


def consume(peer: ScriptedBroker, channel: gamqp.Channel, callback: Any, tag: str = 'tag') -> None:
    begin(peer, lambda: channel.basic_consume('q', tag, callback=callback))


def arrived(peer: ScriptedBroker, client: gamqp.Connection, said: bytes, count: int) -> None:
    before = client.stats()['undelivered_messages']
    peer.raw(said)
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == before + count)


def cancelled(peer: ScriptedBroker, channel: gamqp.Channel, tag: str = 'tag', behind: bytes = b'') -> None:
    """basic_cancel in this greenlet; what the broker sends before it agrees is *behind*."""

    def agree() -> None:
        peer.expect('basic.cancel')
        peer.raw(behind)
        peer.send('basic.cancel-ok', consumer_tag=tag)

    agreeing = greenlets.spawn(agree)
    try:
        channel.basic_cancel(tag)
    finally:
        agreeing.get()


def tags(got: list[Any]) -> list[int]:
    return [message.delivery_tag for message in got]


def test_in_order_and_with_what_comes_before_the_broker_agrees(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    consume(peer, channel, got.append)
    arrived(peer, client, messages('tag', [1, 2]), 2)
    cancelled(peer, channel, behind=messages('tag', [3]))
    assert tags(got) == [1, 2, 3]
    assert channel.callbacks == {} and channel.unsettled == 3
    got[0].ack()
    peer.expect('basic.ack')
    peer.expect_nothing_more(client)


def test_what_is_in_a_file_too(peer: ScriptedBroker, got: list[Any]) -> None:
    client = peer.open(max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)
    consume(peer, channel, got.append)
    many = 5 * LIMIT
    flood(peer, client, deliveries(range(1, many + 1)))
    assert client.stats()['spooled_messages']
    cancelled(peer, channel)
    assert tags(got) == list(range(1, many + 1))
    assert client.stats()['spooled_messages'] == 0


def test_what_came_before_for_others_is_handed_out_first_and_what_came_later_waits(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    """An ack with multiple in a callback must not cover what nobody has seen."""
    consume(peer, channel, got.append)
    consume(peer, channel, got.append, 'other')
    arrived(peer, client, messages('other', [1]) + messages('tag', [2]) + messages('other', [3]), 3)
    cancelled(peer, channel)
    assert tags(got) == [1, 2]
    client.drain_events(timeout=30)
    assert tags(got) == [1, 2, 3]


@pytest.mark.limit(20)
def test_what_was_settled_meanwhile_is_not_waited_for(
    peer: ScriptedBroker, got: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished_handlers, 'LOOK', 1000.0)
    client = peer.open(rpc_timeout=1000)
    channel = peer.open_channel(client)
    consume(peer, channel, got.append)
    arrived(peer, client, messages('tag', [1, 2]), 2)
    channel.basic_ack(2, multiple=True)
    peer.expect('basic.ack')
    cancelled(peer, channel)
    assert got == [] and client.stats()['undelivered_messages'] == 0


def test_notices_are_left_to_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    consume(peer, channel, got.append)
    consume(peer, channel, got.append, 'other')
    peer.send('basic.cancel', consumer_tag='other', nowait=True)
    peer.expect('basic.cancel')
    arrived(peer, client, messages('tag', [1]), 1)
    cancelled(peer, channel)
    assert tags(got) == [1]
    with pytest.raises(exceptions.ConsumerCancelled, match='other'):
        client.drain_events(timeout=30)


def test_a_callback_that_raises_leaves_the_rest_to_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    def callback(message: Any) -> None:
        got.append(message)
        if message.delivery_tag == 1:
            raise LookupError('mine')

    consume(peer, channel, callback)
    arrived(peer, client, messages('tag', [1, 2]), 2)
    with pytest.raises(LookupError, match='mine'):
        cancelled(peer, channel)
    client.drain_events(timeout=30)
    assert tags(got) == [1, 2]


def test_without_waiting_for_the_broker(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    consume(peer, channel, got.append)
    arrived(peer, client, messages('tag', [1]), 1)
    channel.basic_cancel('tag', nowait=True)
    assert tags(got) == [1]
    peer.expect('basic.cancel')
    peer.raw(messages('tag', [2]))
    assert peer.expect('basic.nack').delivery_tag == 2
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('depth', [0, 3])
@pytest.mark.parametrize('nowait', [False, True])
def test_in_a_callback_the_next_drain_events_does(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    got: list[Any],
    nowait: bool,
    depth: int,
) -> None:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            channel.basic_cancel('tag', nowait=nowait)

    def callback(message: Any) -> None:
        if not got:
            deeper(depth)
        got.append(message)

    consume(peer, channel, callback)
    arrived(peer, client, messages('tag', [1, 2, 3]), 3)
    draining = greenlets.spawn(client.drain_events, 5)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    draining.get()
    assert tags(got) == [1]
    for count in (2, 3):
        client.drain_events(timeout=30)
        assert tags(got) == [1, 2, 3][:count]


def test_callbacks_stay_one_after_the_other_where_another_greenlet_drains(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    held = green.Event(greenlets.backend)
    running: list[int] = []

    def callback(message: Any) -> None:
        running.append(1)
        got.append(message)
        if message.delivery_tag == 1:
            held.wait()
        running.pop()
        assert not running

    consume(peer, channel, callback)
    arrived(peer, client, messages('tag', [1, 2, 3]), 3)
    draining = greenlets.spawn(lambda: [client.drain_events(timeout=30) for _ in range(2)])
    greenlets.wait_until(lambda: running)
    done: list[bool] = []
    cancelling = greenlets.spawn(lambda: done.append(channel.basic_cancel('tag') is None))
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.expect_nothing_more(client)
    assert tags(got) == [1]
    assert not done
    held.set()
    draining.get()
    cancelling.get()  # the drainer has gone after the second: this one has run the third
    assert tags(got) == [1, 2, 3]


def test_a_drainer_that_does_not_come_back_is_waited_for_as_long_as_for_a_reply(
    peer: ScriptedBroker, got: list[Any]
) -> None:
    client = peer.open(rpc_timeout=1)
    channel = peer.open_channel(client)
    held = green.Event(greenlets.backend)

    def callback(message: Any) -> None:
        got.append(message)
        held.wait()

    consume(peer, channel, callback)
    arrived(peer, client, messages('tag', [1, 2]), 2)
    draining = greenlets.spawn(client.drain_events, 5)
    greenlets.wait_until(lambda: got)
    cancelled(peer, channel)
    assert tags(got) == [1]
    held.set()
    draining.get()
    client.drain_events(timeout=30)
    assert tags(got) == [1, 2]


def test_a_killed_cancel_leaves_them_to_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    consume(peer, channel, got.append)
    arrived(peer, client, messages('tag', [1]), 1)
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    cancelling.kill()
    with pytest.raises(GreenletExit):
        cancelling.get()
    peer.raw(messages('tag', [2]))
    assert peer.expect('basic.nack').delivery_tag == 2
    client.drain_events(timeout=30)
    assert tags(got) == [1]


def test_the_end_of_the_connection_meanwhile_is_told(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    def callback(message: Any) -> None:
        got.append(message)
        client.collect()

    consume(peer, channel, callback)
    arrived(peer, client, messages('tag', [1, 2]), 2)
    cancelled(peer, channel)
    assert tags(got) == [1]
