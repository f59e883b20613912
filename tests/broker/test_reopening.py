"""What the broker wrote for a channel that it then closed does not reach the reopened one.

Between its channel.close and its open-ok the queues, and whatever else was under way, may still
write; our calls for the new channel are out already then, under the same names.
"""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import Work, begin

import gamqp
from gamqp import exceptions
from gamqp.state.prefetch import NO_PREFETCH

CLOSE = {'reply_code': 406, 'reply_text': 'PRECONDITION_FAILED - unknown delivery tag 77', 'class_id': 60}
NO_ROUTE = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': 'ex', 'routing_key': 'k'}

#: One of everything that may come late, each with its own bytes in this.
OLD = {
    'deliveries': b''.join(
        frames('basic.deliver', consumer_tag='tag', delivery_tag=tag, body=b'old') for tag in range(1, 6)
    ),
    'a delivery in pieces': frames('basic.deliver', consumer_tag='tag', delivery_tag=6, body=bytes(9000), limit=4096),
    'a delivery to nobody': frames('basic.deliver', consumer_tag='other', delivery_tag=7, body=b'old'),
    'returns': frames('basic.return', body=b'same', **NO_ROUTE),
    'cancels': frames('basic.cancel', consumer_tag='tag') + frames('basic.cancel', consumer_tag='tag', nowait=True),
    'acks': frames('basic.ack', delivery_tag=1) + frames('basic.ack', delivery_tag=9, multiple=True),
    'nacks': frames('basic.nack', delivery_tag=1),
    'replies': frames('queue.declare-ok', queue='old') + frames('basic.get-empty') + frames('confirm.select-ok'),
    'replies of consumers': frames('basic.consume-ok', consumer_tag='tag')
    + frames('basic.cancel-ok', consumer_tag='tag'),
    'a message that was asked for': frames('basic.get-ok', delivery_tag=8, body=b'old'),
    'recover-ok': frames('basic.recover-ok'),
    'flow': frames('channel.flow', active=False),
    'close-ok': frames('channel.close-ok'),
}
EVERYTHING = b''.join(OLD.values())
each_and_all = pytest.mark.parametrize('late', [*OLD.values(), EVERYTHING], ids=[*OLD, 'everything'])


def close(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """The broker closes the channel over an ack, and has heard that it is to be opened again."""
    channel.basic_ack(77)
    peer.expect('basic.ack')
    peer.send('channel.close', **CLOSE)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    with pytest.raises(exceptions.PreconditionFailed):
        channel.basic_ack(78)


def test_a_reopened_channel_has_no_prefetch_until_it_is_asked_for_again(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    for a_global in (False, True):
        limiting = greenlets.spawn(lambda a_global=a_global: channel.basic_qos(0, 5, a_global))
        peer.expect('basic.qos')
        peer.send('basic.qos-ok')
        limiting.get()
    close(peer, channel)
    peer.send('channel.open-ok')
    assert inside.prefetch(channel) == NO_PREFETCH
    starting = greenlets.spawn(lambda: channel.consume('q', prefetch=5))
    assert peer.expect('basic.qos').prefetch_count == 5  # the new channel has not heard of it
    peer.send('basic.qos-ok')
    peer.send('basic.consume-ok', consumer_tag=peer.expect('basic.consume').consumer_tag)
    starting.get()


@each_and_all
def test_a_consumer_that_is_started_again_under_its_tag(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: bytes
) -> None:
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    close(peer, channel)
    starting = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.expect('basic.consume')
    peer.raw(late)
    peer.send('connection.blocked', reason='a full stop')
    greenlets.wait_until(lambda: client.is_blocked)
    assert not starting.done
    assert channel.unsettled == 0
    peer.raw(frames('channel.open-ok') + frames('basic.consume-ok', consumer_tag='tag'))
    starting.get()
    peer.send('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'new')
    client.drain_events(timeout=30)
    assert [message.body for message in got] == [b'new']
    got[0].ack()
    assert peer.expect('basic.ack').delivery_tag == 1
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    assert client.stats()['given_back'] == 0


@each_and_all
def test_iterators_and_handlers(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, late: bytes
) -> None:
    close(peer, channel)
    looping = greenlets.spawn(lambda: channel.consume('q', 5, consumer_tag='tag'))
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    subscribing = greenlets.spawn(lambda: channel.subscribe('q', work, prefetch=5, consumer_tag='other'))
    peer.expect('basic.consume')
    peer.raw(late)
    peer.raw(
        frames('channel.open-ok')
        + frames('basic.qos-ok')
        + frames('basic.consume-ok', consumer_tag='tag')
        + frames('basic.consume-ok', consumer_tag='other')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'new')
    )
    with looping.get() as loop:
        assert next(loop).body == b'new'
        assert loop.delivered == 1
        assert subscribing.get().delivered == 0
        channel.collect()


@each_and_all
def test_publishes_that_wait_for_their_own_confirm(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: bytes
) -> None:
    """Sent behind channel.open: acks and returns that look like theirs are of the old channel until open-ok."""
    channel.events['basic_ack'].add(lambda tag, multiple: pytest.fail('an ack of the old channel'))
    close(peer, channel)
    receipt = channel.publish(b'same', 'ex', 'k', mandatory=True)
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.raw(late)
    peer.send('connection.blocked', reason='a full stop')
    greenlets.wait_until(lambda: client.is_blocked)
    assert receipt.state == 'pending'
    assert client.stats()['returned'] == 0
    channel.events.clear()
    peer.raw(frames('channel.open-ok') + frames('confirm.select-ok') + frames('basic.ack', delivery_tag=1))
    receipt.wait(30)
    assert channel.is_open


@each_and_all
def test_calls_get_their_own_replies(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: bytes
) -> None:
    close(peer, channel)
    declaring = greenlets.spawn(channel.queue_declare, 'new')
    peer.expect('queue.declare')
    getting = greenlets.spawn(channel.basic_get, 'new')
    peer.expect('basic.get')
    recovering = greenlets.spawn(channel.basic_recover, True)
    peer.expect('basic.recover')
    peer.raw(late)
    peer.raw(
        frames('channel.open-ok')
        + frames('queue.declare-ok', queue='new')
        + frames('basic.get-ok', delivery_tag=1, body=b'new')
        + frames('basic.recover-ok')
    )
    assert declaring.get().queue == 'new'
    message = getting.get()
    assert message.body == b'new'
    recovering.get()
    message.ack()  # of before recover: not sent
    assert client.stats()['stale_settlements'] == 1
    assert channel.active


@each_and_all
def test_a_close_of_ours_that_stands_behind_the_open(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: bytes
) -> None:
    close(peer, channel)
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.raw(late)
    peer.raw(frames('channel.open-ok') + frames('channel.close-ok'))
    closing.get()
    assert 1 not in client.channels
    assert client.connected


@each_and_all
def test_a_channel_that_is_closed_twice(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, late: bytes
) -> None:
    """The second close comes in the middle of what is late."""
    close(peer, channel)
    peer.raw(late)
    peer.send('channel.close', **CLOSE)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.raw(late)
    peer.send('channel.open-ok')
    greenlets.wait_until(lambda: channel.is_open)
    with pytest.raises(exceptions.PreconditionFailed):
        channel.basic_ack(1)
    channel.basic_ack(1)
    assert peer.expect('basic.ack').delivery_tag == 1


def test_nothing_of_it_goes_to_disk(peer: ScriptedBroker) -> None:
    """With the limits reached, and read on because a call waits."""
    client = peer.open(max_undelivered_messages=2)
    channel = peer.open_channel(client)
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append, no_ack=True))
    other = peer.open_channel(client, 2)
    starting = greenlets.spawn(lambda: other.basic_consume('q', 'kept', callback=got.append, no_ack=True))
    peer.expect('basic.consume', 2)
    peer.send('basic.consume-ok', 2, consumer_tag='kept')
    starting.get()
    waiting = greenlets.spawn(other.queue_declare, 'q')
    peer.expect('queue.declare', 2)
    close(peer, channel)
    again = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.expect('basic.consume', 1)
    peer.raw(
        b''.join(
            frames('basic.deliver', 2, consumer_tag='kept', delivery_tag=tag, body=b'kept') for tag in (1, 2, 3, 4)
        )
        + OLD['deliveries']
    )
    peer.raw(
        frames('channel.open-ok')
        + frames('basic.consume-ok', consumer_tag='tag')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'new')
        + frames('queue.declare-ok', 2, queue='q')
    )
    again.get()
    waiting.get()
    while len(got) < 5:
        client.drain_events(timeout=30)
    assert sorted(message.body for message in got) == [b'kept'] * 4 + [b'new']
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_what_comes_behind_open_ok_from_rabbitmq(peer: ScriptedBroker) -> None:
    """Its old channel's writer may be slower than the new channel. The numbers tell, and the replies that are due."""
    client = peer.client()
    opening = greenlets.spawn(client.connect)
    peer.handshake(properties={'product': 'RabbitMQ', 'version': '4.3.0', 'capabilities': {'basic.nack': True}})
    opening.get()
    channel = peer.open_channel(client)
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    close(peer, channel)
    starting = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.expect('basic.consume')
    receipt = channel.publish(b'same', 'ex', 'k')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.raw(
        frames('channel.open-ok')
        + OLD['deliveries']
        + OLD['cancels']
        + OLD['acks']
        + frames('basic.consume-ok', consumer_tag='tag')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=6, body=b'old')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'new')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=7, body=b'old')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=2, body=b'new')
        + frames('confirm.select-ok')
        + frames('basic.ack', delivery_tag=9, multiple=True)
    )
    starting.get()
    for _ in range(2):
        client.drain_events(timeout=30)
    assert [(message.delivery_tag, message.body) for message in got] == [(1, b'new'), (2, b'new')]
    assert receipt.state == 'pending'
    peer.send('basic.ack', delivery_tag=1)
    receipt.wait(30)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    assert client.connected


def test_confirm_mode_that_is_asked_for_twice_on_a_reopened_channel(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    """A confirm that comes while the second answer is due is none of the old channel."""
    close(peer, channel)
    receipt = channel.publish(b'1', 'ex', 'k')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.raw(frames('channel.open-ok') + frames('confirm.select-ok'))
    again = greenlets.spawn(channel.confirm_select)
    peer.expect('confirm.select')
    peer.raw(frames('basic.ack', delivery_tag=1) + frames('confirm.select-ok'))
    again.get()
    receipt.wait(30)
    channel.confirm_select(nowait=True)
    assert peer.expect('confirm.select').nowait
