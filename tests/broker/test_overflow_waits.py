"""Who waits for what lies in the spool, and what else happens on its channel meanwhile: gets, acks, the end."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMITED, deliveries, drained, flood
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp.io import writer

pytestmark = pytest.mark.usefixtures('no_file_is_left')

CLIENT = LIMITED

MANY = 200


# -- the end of a consumer without acks ------------------------------------------------------


class Cancelling:
    """A consumer, two at a time, that is cancelled by the handlers of its messages 1 and 2 together."""

    def __init__(self, peer: ScriptedBroker, channel: gamqp.Channel) -> None:
        self.handled: list[int] = []
        self.gate = False
        self.cancelling = 0
        subscribe = functools.partial(channel.subscribe, 'q', self, 2, consumer_tag='tag', no_ack=True)
        self.peer, self.consumer = peer, begin(peer, subscribe)

    def __call__(self, message: Any) -> None:
        if message.delivery_tag <= 2:
            greenlets.wait_until(lambda: self.gate)
            self.cancelling += 1
            self.consumer.cancel()
        self.handled.append(message.delivery_tag)

    def cancel(self) -> None:
        self.gate = True
        greenlets.wait_until(lambda: self.cancelling == 2)
        for _ in range(2):
            self.peer.expect('basic.cancel')
            self.peer.send('basic.cancel-ok', consumer_tag='tag')
        greenlets.wait_until(lambda: inside.has_ended(self.consumer))


def test_handlers_that_all_cancel_do_not_wait_for_a_spool_that_cannot_come_back(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    """Memory is full of messages that these very handlers would have to take."""
    handlers = Cancelling(peer, channel)
    flood(peer, client, deliveries(range(1, MANY + 1)))
    handlers.cancel()
    handlers.consumer.join(30)
    assert sorted(handlers.handled) == list(range(1, MANY + 1))
    assert not inside.unfinished_handlers(client).retiring


def test_handlers_that_all_cancel_do_not_wait_for_a_spool_that_only_they_can_take(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    """It does come back, from behind the messages of another."""
    other = peer.open_channel(client, 2)
    handlers = Cancelling(peer, channel)
    begin(peer, lambda: other.basic_consume('q', 'two', no_ack=True, callback=got.append))
    flood(peer, client, deliveries([1, 2]) + deliveries(range(1, 60), 'two', 2) + deliveries(range(3, 8)))
    assert inside.inbox(handlers.consumer).spooled
    handlers.cancel()
    drained(client, got, 59)
    handlers.consumer.join(30)
    assert sorted(handlers.handled) == list(range(1, 8))


def test_closing_an_iterator_ends_the_loop_that_waits_for_the_spool(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    other = peer.open_channel(client, 2)
    begin(peer, lambda: other.basic_consume('q', 'two', no_ack=True, callback=got.append))
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, 80), 'two', 2) + deliveries(range(1, 8)))
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    assert inside.inbox(loop).spooled == 7
    looping = greenlets.spawn(list, loop)
    greenlets.wait_until(lambda: inside.inbox(loop).waiting is not None)
    loop.close()
    assert looping.get() == []
    drained(client, got, 79)
    assert not inside.unfinished_handlers(client).retiring


# -- a message that never was there --------------------------------------------------------------


def flood_and_get(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> Any:
    """The reply of a basic_get, behind a flood of the same channel: its tag is the highest, and it is here first."""
    getting = greenlets.spawn(channel.basic_get, 'other')
    peer.expect('basic.get')
    reply = {'delivery_tag': MANY, 'exchange': '', 'routing_key': 'other', 'redelivered': False, 'message_count': 0}
    peer.raw(deliveries(range(1, MANY)) + frames('basic.get-ok', 1, body=b'got', **reply))
    message = getting.get()
    assert client.stats()['spooled_messages'] > 0
    assert channel.unsettled == MANY
    return message


def test_an_ack_of_several_settles_what_has_come_back_behind_a_later_one(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', prefetch=0))
    flood_and_get(peer, client, channel)
    for message in itertools.islice(loop, MANY - 1):
        if message.delivery_tag == 150:
            assert inside.oldest_unacked(channel) == (101, 'tag')  # type: ignore[index]
        if message.delivery_tag % 50 == 0 or message.delivery_tag == MANY - 1:
            message.ack(multiple=True)
            assert not inside.can_be_settled(message)
    assert (client.stats()['acked'], channel.unsettled) == (MANY - 1, 1)
    assert inside.oldest_unacked(channel) == (MANY, '')  # type: ignore[index]
    inside.inbox(loop).entry.discard = True  # the peer will not agree to a cancel


def test_a_handler_that_acks_several_has_settled_its_own_message(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    """Acked a second time, RabbitMQ would close the channel."""
    gate = [False]

    def handle(message: Any) -> None:
        greenlets.wait_until(lambda: gate[0])
        if message.delivery_tag == 100:
            message.ack(multiple=True)

    consumer = begin(peer, lambda: channel.subscribe('q', handle, consumer_tag='tag', prefetch=0))
    last = flood_and_get(peer, client, channel)
    gate[0] = True
    greenlets.wait_until(lambda: consumer.delivered == MANY - 1 and not inside.inbox(consumer).busy)
    last.ack()
    acks = [peer.expect('basic.ack') for _ in range(MANY)]
    assert [said.delivery_tag for said in acks] == list(range(1, MANY + 1))
    assert [said.delivery_tag for said in acks if said.multiple] == [100]
    assert channel.unsettled == 0


# -- the end of the connection -----------------------------------------------------------------------


def test_a_connection_that_is_lost_while_much_is_given_back(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset has come, nobody has read it, and one of the sends of basic_cancel meets it."""
    # Not the sending thread, which would meet it first on a machine that is slow here.
    monkeypatch.setattr(writer.Writer, 'help', lambda self, now: None)
    loop = begin(peer, lambda: channel.consume('q', prefetch=0, consumer_tag='tag'))
    begin(peer, lambda: channel.basic_consume('q', 'two', callback=got.append))
    flood(peer, client, deliveries(range(1, 3001), size=2000) + deliveries(range(3001, 3300), 'two', size=2000))
    peer.raw(deliveries([3300], 'two'))
    greenlets.wait_until(lambda: not inside.reads(client))  # because of the second consumer, to the end
    client.send_heartbeat()  # at once; what follows in this pass of the hub goes in batches
    channel.basic_publish(gamqp.Message(bytes(writer.BATCH - 8000)), '', 'q')
    peer.cut(reset=True)
    channel.basic_cancel('tag', nowait=True)
    assert not client.is_open
    assert inside.has_ended(loop)
    assert client.stats()['given_back'] > 100
    assert inside.overflow(client) is None
    assert not client.transport.connected
