"""Deliveries on their way to the program: early, unwanted, in pieces, interleaved, and through drain_events."""

from __future__ import annotations

import random
import select
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from greenlet import GreenletExit
from named_methods import split
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions


def consume(peer: ScriptedBroker, channel: gamqp.Channel, tag: str = 'tag', **arguments: Any) -> list[Any]:
    """Start a consumer; returns the list its messages go to."""
    got: list[Any] = []
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', tag, **{'callback': got.append, **arguments}))
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', channel.channel_id, consumer_tag=tag)
    assert consuming.get() == tag
    return got


def deliver(number: int, tag: str = 'tag', channel: int = 1, **more: Any) -> bytes:
    return frames(
        'basic.deliver', channel, **{'consumer_tag': tag, 'delivery_tag': number, 'body': b'%d' % number, **more}
    )


def test_a_delivery_that_comes_with_consume_ok_is_not_lost(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=got.append))
    tag = peer.expect('basic.consume').consumer_tag
    peer.raw(deliver(1, tag) + frames('basic.consume-ok', consumer_tag=tag) + deliver(2, tag))
    client.drain_events(timeout=30)
    client.drain_events(timeout=30)
    assert consuming.get() == tag
    assert [message.body for message in got] == [b'1', b'2']
    peer.expect_nothing_more(client)


def test_what_a_message_tells_of_itself(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    got = consume(peer, channel)
    peer.raw(
        deliver(
            7,
            redelivered=True,
            exchange='x',
            routing_key='r',
            properties={'content_encoding': 'utf-8', 'application_headers': {'h': 1}},
            body='Zürich'.encode(),
        )
    )
    client.drain_events(timeout=30)
    (message,) = got
    assert message.body == 'Zürich'
    assert message.headers == {'h': 1}
    assert message.channel is channel
    assert message.delivery_info == {
        'consumer_tag': 'tag',
        'delivery_tag': 7,
        'redelivered': True,
        'exchange': 'x',
        'routing_key': 'r',
    }
    message.ack()
    message.nack(multiple=True, requeue=False)
    message.reject(requeue=True)
    acked = peer.expect('basic.ack')
    assert (acked.delivery_tag, acked.multiple) == (7, False)
    nacked = peer.expect('basic.nack')
    assert (nacked.delivery_tag, nacked.multiple, nacked.requeue) == (7, True, False)
    rejected = peer.expect('basic.reject')
    assert (rejected.delivery_tag, rejected.requeue) == (7, True)


def test_a_delivery_for_an_unknown_tag_is_given_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    peer.raw(deliver(3, 'nobody'))
    rejected = peer.expect('basic.nack')
    assert (rejected.delivery_tag, rejected.requeue) == (3, True)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_what_is_delivered_during_cancel_is_handed_out(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got = consume(peer, channel)
    peer.raw(deliver(1))
    greenlets.wait_until(lambda: inside.waiting_events(client))
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.raw(deliver(2))
    peer.expect_nothing_more(client)
    assert got == []
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    assert [message.body for message in got] == [b'1', b'2']
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    peer.expect_nothing_more(client)


def test_deliveries_of_a_no_ack_consumer_are_handed_out_though_it_is_cancelled(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """The broker has forgotten them: given back they would be lost."""
    got = consume(peer, channel, no_ack=True)
    assert channel.no_ack_consumers == {'tag'}
    peer.raw(deliver(1))
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.raw(deliver(2))
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    assert [message.body for message in got] == [b'1', b'2']
    peer.expect_nothing_more(client)


@pytest.mark.filterwarnings('ignore:basic_consume without')
def test_a_consumer_without_callback_drops_its_messages(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consume(peer, channel, callback=None)
    peer.raw(deliver(1) + frames('basic.cancel', consumer_tag='tag'))
    peer.expect('basic.cancel')
    with pytest.raises(exceptions.ConsumerCancelled):
        client.drain_events(timeout=30)


def test_a_tag_in_use_is_refused_here(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    consume(peer, channel)
    with pytest.raises(exceptions.NotAllowed, match="'tag' is in use"):
        channel.basic_consume('q', 'tag', callback=print)
    peer.expect_nothing_more(client)


def test_arguments_that_cannot_be_sent_leave_no_consumer(channel: gamqp.Channel) -> None:
    with pytest.raises(exceptions.EncodeError):
        channel.basic_consume('q' * 300, 'tag', callback=print)
    assert channel.callbacks == {}


def test_cancel_by_the_broker_calls_on_cancel_in_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    told: list[str] = []
    consume(peer, channel, on_cancel=told.append)
    peer.send('basic.cancel', consumer_tag='tag', nowait=True)
    assert told == []
    client.drain_events(timeout=30)
    assert told == ['tag']
    assert channel.callbacks == {}
    peer.expect('basic.cancel')
    peer.expect_nothing_more(client)


def test_cancel_by_the_broker_without_on_cancel_raises_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consume(peer, channel)
    peer.send('basic.cancel', consumer_tag='tag', nowait=False)
    assert peer.expect('basic.cancel').consumer_tag == 'tag'
    with pytest.raises(exceptions.ConsumerCancelled, match='tag'):
        client.drain_events(timeout=30)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_a_returned_message_without_handler_raises_in_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    peer.send('basic.return', reply_code=312, reply_text='NO_ROUTE', exchange='x', routing_key='r', body=b'b')
    with pytest.raises(exceptions.ChannelError, match='NO_ROUTE') as caught:
        client.drain_events(timeout=30)
    assert caught.value.reply_code == 312
    assert channel.is_open


def test_a_returned_message_goes_to_its_handlers(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    channel.events['basic_return'].add(lambda *args: got.append(args))
    peer.send('basic.return', reply_code=312, reply_text='NO_ROUTE', exchange='x', routing_key='r', body=b'b')
    client.drain_events(timeout=30)
    ((error, exchange, routing_key, message),) = got
    assert (error.reply_code, exchange, routing_key, message.body) == (312, 'x', 'r', b'b')


# -- pieces ---------------------------------------------------------------------------


def conversation() -> bytes:
    """What a broker says to one queue_declare, one consumer, and a message that comes back."""
    return (
        frames('queue.declare-ok', queue='q', message_count=3)
        + frames('basic.consume-ok', consumer_tag='tag')
        + frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'')
        + frames(
            'basic.deliver', consumer_tag='tag', delivery_tag=2, body=b'x' * 40, limit=30, properties={'type': 't'}
        )
        + b'\x08\x00\x00\x00\x00\x00\x00\xce'
        + frames('basic.return', reply_code=312, reply_text='NO_ROUTE', body=b'back')
    )


def hold(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, chunks: list[bytes]) -> None:
    """The conversation, as the client's program sees it, whatever the chunks it comes in."""
    got: list[Any] = []
    returned: list[Any] = []
    channel.events['basic_return'].add(lambda error, exchange, key, message: returned.append(message.body))
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.expect('basic.consume')
    for chunk in chunks:
        peer.raw(chunk)
        greenlets.sleep(0)
        greenlets.sleep(0)
    assert declaring.get() == ('q', 3, 0)
    assert consuming.get() == 'tag'
    for _ in range(3):
        client.drain_events(timeout=30)
    assert [(message.body, message.properties) for message in got] == [(b'', {}), (b'x' * 40, {'type': 't'})]
    assert returned == [b'back']


def test_byte_by_byte(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    hold(peer, client, channel, [bytes([octet]) for octet in conversation()])


def test_split_at_every_offset(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    said = conversation()
    for offset in range(1, len(said)):
        channel = peer.open_channel(client, 1)
        hold(peer, client, channel, [said[:offset], said[offset:]])
        closing = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
        closing.get()


def test_contents_interleaved_on_several_channels(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channels = [peer.open_channel(client, number) for number in range(1, 6)]
    got = [consume(peer, channel, f't{channel.channel_id}') for channel in channels]
    rng = random.Random(20)
    bodies = {number: rng.randbytes(rng.randrange(3000)) for number in range(1, 6)}
    queues = {number: split(deliver(1, f't{number}', number, body=body, limit=108)) for number, body in bodies.items()}
    while any(queues.values()):
        number = rng.choice([number for number, left in queues.items() if left])
        peer.raw(queues[number].pop(0))
    for _ in channels:
        client.drain_events(timeout=30)
    assert {number: messages[0].body for number, messages in enumerate(got, 1)} == bodies


def test_a_message_cut_off_by_channel_close_does_not_spoil_the_reopened_channel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """A broker sends whole contents, but a proxy need not; at least the error must be clear."""
    consume(peer, channel)
    peer.raw(split(deliver(1, body=b'xyz'))[0] + frames('channel.close', reply_code=406, reply_text='no'))
    with pytest.raises((exceptions.UnexpectedFrame, exceptions.PreconditionFailed)):
        client.drain_events(timeout=30)


# -- drain_events -------------------------------------------------------------------------


def test_each_of_several_drainers_gets_exactly_one_event(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got = consume(peer, channel)
    drainers = [greenlets.spawn(client.drain_events, 5) for _ in range(10)]
    greenlets.sleep(0)
    peer.raw(b''.join(deliver(number) for number in range(4)))
    greenlets.wait_until(lambda: sum(drainer.done for drainer in drainers) == 4)
    peer.raw(b''.join(deliver(number) for number in range(4, 10)))
    for drainer in drainers:
        drainer.get()
    assert sorted(int(message.body) for message in got) == list(range(10))


def test_the_event_of_a_killed_drainer_is_not_lost(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got = consume(peer, channel)
    for number in range(20):
        victim, heir = greenlets.spawn(client.drain_events), greenlets.spawn(client.drain_events)
        greenlets.sleep(0)
        peer.raw(deliver(number))
        victim.kill()
        with pytest.raises(GreenletExit):
            victim.get()
        heir.get()
    assert [int(message.body) for message in got] == list(range(20))


def test_the_event_of_a_drainer_killed_after_it_was_chosen_goes_to_the_next(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got = consume(peer, channel)
    other = peer.open_channel(client, 2)

    def purge_and_kill() -> None:
        other.queue_purge('q')
        greenlets.backend.run_soon(greenlet.getcurrent().switch)
        victim.greenlet.throw(GreenletExit)

    killing = greenlets.spawn(purge_and_kill)
    peer.expect('queue.purge')
    victim = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    heir = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    peer.raw(frames('queue.purge-ok', 2) + deliver(1))
    killing.get()
    heir.get()
    assert [message.body for message in got] == [b'1']


def test_the_deadline_of_drain_events_is_total(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    """Heartbeats, and replies to others, do not begin it anew."""
    draining = greenlets.spawn(client.drain_events, 0.3)
    for _ in range(200):
        if draining.done:
            break
        peer.raw(b'\x08\x00\x00\x00\x00\x00\x00\xce')
        greenlets.sleep(0.02)
    with pytest.raises(TimeoutError):
        draining.get(0.1)


def test_an_event_that_another_takes_does_not_begin_the_deadline_anew(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consume(peer, channel)
    other = peer.open_channel(client, 2)
    unlucky = greenlets.spawn(client.drain_events, 0.3)

    def steal() -> None:
        other.queue_purge('q')  # its reply is in front of the delivery, so this greenlet runs before the other
        client.drain_events(timeout=30)

    for number in range(200):
        if unlucky.done:
            break
        stealing = greenlets.spawn(steal)
        peer.expect('queue.purge')
        peer.raw(frames('queue.purge-ok', 2) + deliver(number))
        stealing.get()
        greenlets.sleep(0.02)
    with pytest.raises(TimeoutError):
        unlucky.get(0.1)


def test_timeout_zero_takes_what_is_there_and_waits_for_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got = consume(peer, channel)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    peer.raw(deliver(1))
    assert select.select([client.sock], [], [], 5)[0]  # no switch: the reader has not seen it
    client.drain_events(timeout=0)
    assert len(got) == 1


def test_an_error_of_a_callback_comes_out_and_the_next_message_is_served(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    calls: list[Any] = []

    def callback(message: Any) -> None:
        calls.append(message)
        if len(calls) == 1:
            raise ZeroDivisionError

    consume(peer, channel, callback=callback)
    peer.raw(deliver(1) + deliver(2))
    with pytest.raises(ZeroDivisionError):
        client.drain_events(timeout=30)
    client.drain_events(timeout=30)
    assert len(calls) == 2
