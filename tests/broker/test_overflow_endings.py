"""What lies in the spool when its consumer, channel or connection ends, and when the program acks past it."""

from __future__ import annotations

import contextlib
from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMITED, deliveries, drained, flood, nacked, temporary_files, undelivered
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions

pytestmark = pytest.mark.usefixtures('no_file_is_left')

CLIENT = LIMITED

MANY = 200


def stuck(message: Any) -> None:
    """A handler that does not come to an end by itself."""
    greenlets.sleep(50)


def empty(client: Any) -> bool:
    return inside.overflow(client) is None and undelivered(client) == (0, 0)


# -- a consumer is cancelled -----------------------------------------------------------------


def test_drain_gives_back_everything_of_a_callback(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    drained(client, got, 5)
    assert channel.unsettled == MANY
    draining = greenlets.spawn(client.drain, 20)
    peer.expect('basic.cancel')
    assert sorted(nacked(peer, MANY - 5)) == list(range(6, MANY + 1))
    assert empty(client)
    assert (channel.unsettled, client.stats()['given_back']) == (5, MANY - 5)
    greenlets.wait_until(lambda: inside.reads(client))
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.agree_to_close()
    assert draining.get() is True
    assert len(got) == 5


@pytest.mark.parametrize('how', ['consume', 'subscribe'])
def test_a_cancelled_intake_gives_everything_back(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, how: str
) -> None:
    if how == 'consume':
        consumer = begin(peer, lambda: channel.consume('q', consumer_tag='tag'))
        ending = consumer.close
    else:
        consumer = begin(peer, lambda: channel.subscribe('q', stuck, consumer_tag='tag'))
        ending = lambda: consumer.cancel(wait=False)  # noqa: E731
    flood(peer, client, deliveries(range(1, MANY + 1)))
    begun = 0 if how == 'consume' else 1
    cancelling = greenlets.spawn(ending)
    peer.expect('basic.cancel')
    assert sorted(nacked(peer, MANY - begun)) == list(range(1 + begun, MANY + 1))
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    assert empty(client)
    assert channel.unsettled == begun
    if begun:
        for worker in inside.workers(consumer):
            greenlets.backend.kill(worker)
        peer.expect('basic.nack')


def test_a_great_many_are_given_back_piece_by_piece(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> None:
    loop = begin(peer, lambda: channel.consume('q', prefetch=0, consumer_tag='tag'))
    flood(peer, client, deliveries(range(1, 5001), size=10))
    channel.basic_cancel('tag', nowait=True)
    assert channel.unsettled > 0  # the rest follows from the hub
    peer.expect('basic.cancel')
    assert sorted(nacked(peer, 5000)) == list(range(1, 5001))
    assert channel.unsettled == inside.inbox(loop).spooled == 0


def test_others_keep_theirs(peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    loop = begin(peer, lambda: channel.consume('q', prefetch=0, consumer_tag='b'))
    flood(peer, client, b''.join(deliveries([2 * n + 1]) + deliveries([2 * n + 2], 'b') for n in range(MANY)))
    channel.basic_cancel('b', nowait=True)
    peer.expect('basic.cancel')
    assert sorted(nacked(peer, MANY)) == list(range(2, 2 * MANY + 1, 2))
    assert drained(client, got, MANY) == list(range(1, 2 * MANY + 1, 2))
    assert not inside.inbox(loop).messages


def test_messages_of_a_stream_are_not_nacked(peer: ScriptedBroker, client: Any, channel: gamqp.Channel) -> None:
    arguments = {'x-stream-offset': 'first'}
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', arguments=arguments))
    numbered = {'properties': {'application_headers': {'x-stream-offset': 5}}}
    flood(peer, client, deliveries(range(1, MANY + 1), **numbered))
    channel.basic_cancel('tag', nowait=True)
    peer.expect('basic.cancel')
    assert sorted(peer.expect('basic.ack').delivery_tag for _ in range(MANY)) == list(range(1, MANY + 1))
    assert empty(client)
    assert not inside.inbox(loop).messages


@pytest.mark.parametrize('how', ['callback', 'consume', 'subscribe'])
def test_what_came_without_acks_is_handed_out_after_the_cancel(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], how: str
) -> None:
    gate = [False]

    def handle(message: Any) -> None:
        greenlets.wait_until(lambda: gate[0])
        got.append(message)

    loop: Any = ()
    if how == 'callback':
        begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=got.append))
    elif how == 'consume':
        loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    else:
        consumer = begin(peer, lambda: channel.subscribe('q', handle, consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect('basic.cancel')
    peer.raw(deliveries([MANY + 1]) + frames('basic.cancel-ok', consumer_tag='tag'))
    cancelling.get()
    gate[0] = True
    if how == 'callback':
        drained(client, got, MANY + 1)
    elif how == 'consume':
        got += loop  # it ends by itself
    else:
        joining = greenlets.spawn(consumer.join)
        joining.get()
        assert not inside.inbox(consumer).busy
    assert [message.delivery_tag for message in got] == list(range(1, MANY + 2))
    assert empty(client)
    assert not inside.unfinished_handlers(client).retiring


def test_cancel_and_join_wait_for_what_stands_behind_others_on_disk(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    handled: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    consumer = begin(peer, lambda: channel.subscribe('q', handled.append, consumer_tag='b', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY + 1)) + deliveries(range(MANY + 1, MANY + 21), 'b'))
    assert inside.inbox(consumer).busy
    cancelling = greenlets.spawn(consumer.cancel)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='b')
    greenlets.wait_until(lambda: inside.has_ended(consumer))
    joining = greenlets.spawn(consumer.join)
    greenlets.sleep(0)
    assert not cancelling.done
    assert not joining.done
    drained(client, got, MANY)
    cancelling.get()
    joining.get()
    assert [message.delivery_tag for message in handled] == list(range(MANY + 1, MANY + 21))


# -- a channel ends --------------------------------------------------------------------------


@pytest.mark.parametrize('no_ack', [True, False], ids=['no ack', 'ack'])
@pytest.mark.parametrize('how', ['callback', 'consume'])
def test_closing_the_channel_drops_it(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], how: str, no_ack: bool
) -> None:
    if how == 'callback':
        begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=no_ack, callback=got.append))
    else:
        loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=no_ack))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    assert empty(client)
    peer.send('channel.close-ok')
    closing.get()
    greenlets.wait_until(lambda: inside.reads(client))
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    if how == 'consume':
        with pytest.raises(exceptions.RecoverableConnectionError):
            next(loop)


def test_a_reopened_channel_gets_nothing_of_what_came_before(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    error = frames('channel.close', reply_code=404, reply_text='gone')
    peer.raw(error)
    flood(peer, client, b'')  # for nobody reads
    assert empty(client)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):
        client.drain_events(timeout=30)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    assert drained(client, got, MANY) == list(range(1, MANY + 1))
    assert {inside.incarnation(message) for message in got} == {1}
    assert inside.can_be_settled(got[-1])


def test_what_comes_in_one_packet_with_the_end_of_the_last_that_had_any_is_not_lost(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    other = peer.open_channel(client, 2)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    begin(peer, lambda: other.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    gone = frames('channel.close', reply_code=404, reply_text='gone')
    asking = greenlets.spawn(client.channels[9].queue_declare, 'q')
    peer.expect('queue.declare')
    peer.raw(gone + deliveries([1, 2, 3], 'tag', 2, size=10) + frames('queue.declare-ok', 9, queue='q'))
    asking.get()
    with pytest.raises(exceptions.NotFound):
        drained(client, got, 3)
    assert drained(client, got, 3) == [1, 2, 3]
    assert {message.channel for message in got} == {other}


def test_what_an_iterator_got_without_acks_outlives_its_channel(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    peer.raw(frames('channel.close', reply_code=404, reply_text='gone'))
    flood_again(peer, client)
    second = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, 51)))
    assert [next(loop).delivery_tag for _ in range(MANY)] == list(range(1, MANY + 1))
    with pytest.raises(exceptions.NotFound):
        next(loop)
    assert [inside.incarnation(next(second)) for _ in range(50)] == [1] * 50
    assert empty(client)


def flood_again(peer: ScriptedBroker, client: Any) -> None:
    """Have the client read on, and reopen channel 1."""
    asking = greenlets.spawn(client.channels[9].queue_declare, 'q')
    peer.expect('queue.declare', 9)
    peer.expect('channel.close-ok', 1)
    peer.expect('channel.open', 1)
    peer.raw(frames('channel.open-ok', 1) + frames('queue.declare-ok', 9, queue='q'))
    asking.get()


# -- the connection ends ------------------------------------------------------------------------


@pytest.mark.parametrize('how', ['lost', 'collected', 'closed'])
@pytest.mark.parametrize('no_ack', [True, False], ids=['no ack', 'ack'])
def test_the_end_of_the_connection_closes_the_files(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], no_ack: bool, how: str
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=no_ack, callback=got.append))
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='b', no_ack=no_ack))
    before = temporary_files()
    flood(peer, client, deliveries(range(1, MANY + 1)) + deliveries(range(MANY + 1, 2 * MANY + 1), 'b'))
    assert len(temporary_files()) > len(before)
    if how == 'lost':
        flooding = greenlets.spawn(client.channels[9].queue_declare, 'q')
        peer.expect('queue.declare')
        peer.hang_up()
        with pytest.raises(exceptions.RecoverableConnectionError):
            flooding.get()
    elif how == 'collected':
        client.collect()
    else:
        closing = greenlets.spawn(client.close)
        peer.agree_to_close()
        closing.get()
    assert temporary_files() == before
    assert empty(client)
    with pytest.raises(exceptions.RecoverableConnectionError):
        client.drain_events(timeout=1)
    with pytest.raises(exceptions.RecoverableConnectionError):
        for _ in loop:
            pass
    assert not inside.unfinished_handlers(client).retiring


def test_an_iterator_that_waits_for_the_spool_hears_of_the_end(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    """It was cancelled, and what it waits for stands behind another's messages."""
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=lambda message: None))
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='b', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY)) + deliveries([MANY], 'b'))
    cancelling = greenlets.spawn(channel.basic_cancel, 'b')
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='b')
    cancelling.get()
    iterating = greenlets.spawn(list, loop)
    greenlets.sleep(0)
    assert not iterating.done
    client.collect()
    assert iterating.get() == []
    assert not inside.unfinished_handlers(client).retiring


# -- drain ------------------------------------------------------------------------------------


@pytest.mark.parametrize('how', ['callback', 'consume', 'subscribe'])
def test_drain_waits_for_what_came_without_acks(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], how: str
) -> None:
    gate = [False]

    def handle(message: Any) -> None:
        greenlets.wait_until(lambda: gate[0])
        got.append(message)

    def run() -> None:
        try:
            if how == 'consume':
                for message in loop:
                    handle(message)
            while how == 'callback':
                client.drain_events(timeout=30)
        except exceptions.RecoverableConnectionError:
            pass

    loop: Any = None
    if how == 'callback':
        begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=handle))
    elif how == 'consume':
        loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    else:
        begin(peer, lambda: channel.subscribe('q', handle, consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    running = greenlets.spawn(run)
    draining = greenlets.spawn(client.drain, 20)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    flood_nothing = inside.overflow(client)
    assert flood_nothing is not None
    gate[0] = True
    peer.agree_to_close()
    assert draining.get() is True
    assert [message.delivery_tag for message in got] == list(range(1, MANY + 1))
    running.get()


# -- acks that reach into the spool -----------------------------------------------------------------


@pytest.mark.parametrize('how', ['all', 'up to one', 'recover'])
def test_what_was_settled_while_it_lay_there_is_neither_handed_out_nor_given_back(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], how: str
) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    last = MANY if how != 'up to one' else MANY - 10
    if how == 'all':
        channel.basic_ack(0, multiple=True)
    elif how == 'up to one':
        channel.basic_ack(last, multiple=True)
    else:
        recovering = greenlets.spawn(channel.basic_recover, True)
        peer.expect('basic.recover')
        peer.send('basic.recover-ok')
        recovering.get()
    if how == 'recover':
        assert channel.unsettled == 0 and empty(client), 'the broker has them again'
        return
    peer.expect('basic.ack')
    assert client.stats()['acked'] == last
    assert channel.unsettled == MANY - last
    while not empty(client):
        with contextlib.suppress(TimeoutError):
            client.drain_events(timeout=0.01)
    assert [message.delivery_tag for message in got] == list(range(last + 1, MANY + 1))
    assert channel.unsettled == MANY - last
    peer.expect_nothing_more(client)


def test_closing_the_last_loop_over_a_spooled_consumer_reads_on(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel
) -> None:
    """A loop that is left, without acks: what it had on disk is dropped, and nobody waits for it."""
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=True))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    del loop
    peer.expect('basic.cancel')
    assert empty(client)
    greenlets.wait_until(lambda: inside.reads(client))
    peer.send('basic.cancel-ok', consumer_tag='tag')
