"""basic_recover: the broker takes back what awaits an ack here; nothing of it is handed out or settled after that."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from script import ScriptedBroker
from scripted_consumers import Work, begin, messages, start, subscribed

import gamqp


def recover(peer: ScriptedBroker, channel: gamqp.Channel, between: bytes = b'') -> None:
    """between: what the broker has said before it answers."""
    recovering = greenlets.spawn(channel.basic_recover, True)
    peer.expect('basic.recover')
    peer.raw(between)
    peer.send('basic.recover-ok')
    recovering.get()
    assert channel.unsettled == 0


def test_nothing_that_waited_for_a_callback_is_handed_out(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.raw(messages('tag', range(1, 6)))
    client.drain_events(timeout=30)
    greenlets.wait_until(lambda: channel.unsettled == 5)
    recover(peer, channel, messages('tag', [6]))
    assert client.stats()['undelivered_messages'] == 0
    got[0].ack()
    got[0].nack()
    got[0].reject()
    assert client.stats()['stale_settlements'] == 3
    peer.raw(messages('tag', [7]))
    client.drain_events(timeout=30)
    assert [message.delivery_tag for message in got] == [1, 7]
    peer.expect_nothing_more(client)
    got[1].ack()
    assert peer.expect('basic.ack').delivery_tag == 7
    assert channel.unsettled == 0


def test_nothing_that_waited_for_an_iterator_is_yielded_or_given_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, 5)
    first = next(loop)
    recover(peer, channel, messages(loop.tag, [6]))
    assert client.stats()['undelivered_messages'] == 0
    first.ack()
    peer.expect_nothing_more(client)
    peer.raw(messages(loop.tag, [7, 8]))
    assert next(loop).delivery_tag == 7
    greenlets.wait_until(lambda: loop.delivered == 8)
    closing = greenlets.spawn(loop.close)
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 8
    peer.send('basic.cancel-ok', consumer_tag=loop.tag)
    closing.get()


def test_nothing_that_waited_for_a_handler_is_handled_or_acked(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, 5)
    greenlets.wait_until(lambda: work.begun == ['1'])
    recover(peer, channel)
    work.go(1)
    greenlets.wait_until(lambda: not work.running)
    peer.expect_nothing_more(client)
    peer.raw(messages(consumer.tag, [6]))
    assert peer.expect('basic.ack').delivery_tag == 6
    assert work.begun == ['1', '6']
    assert client.stats()['undelivered_messages'] == 0


@pytest.mark.parametrize('answered', [False, True])
def test_a_caller_that_is_killed_amid_it_leaves_the_channel_in_order(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, answered: bool
) -> None:
    loop = start(peer, channel, 5)
    first = next(loop)
    recovering = greenlets.spawn(channel.basic_recover, True)
    peer.expect('basic.recover')
    if answered:  # and killed before it runs again, if the hub has read that by then
        peer.send('basic.recover-ok')
    recovering.kill()
    if not answered:
        peer.raw(messages(loop.tag, [6]))
        peer.send('basic.recover-ok')
    peer.raw(messages(loop.tag, [7]))
    message = next(loop)
    assert message.delivery_tag == 7
    first.ack()
    peer.expect_nothing_more(client)
    message.ack()
    assert peer.expect('basic.ack').delivery_tag == 7
    assert (channel.unsettled, client.stats()['undelivered_messages']) == (0, 0)


@pytest.mark.parametrize('how', ['callback', 'loop'])
def test_what_needs_no_ack_is_kept(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, how: str
) -> None:
    got: list[Any] = []
    if how == 'callback':
        begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=got.append))
        peer.raw(messages('tag', range(1, 4)))
    else:
        loop = start(peer, channel, 3, no_ack=True)
    recover(peer, channel)
    for _ in range(3):
        if how == 'callback':
            client.drain_events(timeout=30)
        else:
            got.append(next(loop))
    assert [message.delivery_tag for message in got] == [1, 2, 3]


def test_recover_async_takes_what_is_here_at_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, 5)
    first = next(loop)
    channel.basic_recover_async(True)
    peer.expect('basic.recover-async')
    assert channel.unsettled == 0
    first.ack()
    peer.expect_nothing_more(client)
    peer.raw(messages(loop.tag, [6]))
    message = next(loop)
    message.ack()
    assert peer.expect('basic.ack').delivery_tag == message.delivery_tag == 6
