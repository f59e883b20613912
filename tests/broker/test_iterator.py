"""Channel.consume, the iterator: the frames it sends, and what becomes of messages that were not yielded."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMIT, deliveries, flood, undelivered
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import begin, messages, start

import gamqp
from gamqp import exceptions
from gamqp.channel.reuse import is_as_new
from gamqp.state.expected_replies import Replies
from gamqp.state.receive_budget import ReceiveBudget


def end(peer: ScriptedBroker, deliveries: Any) -> None:
    """The broker agrees to a cancel."""
    peer.send('basic.cancel-ok', consumer_tag=deliveries.tag)


# -- starting ------------------------------------------------------------------------------------------------


def test_prefetch_goes_in_front_of_the_consume_and_nobody_waits_for_it(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    starting = greenlets.spawn(lambda: channel.consume('q', prefetch=7, exclusive=True, arguments={'x-priority': 5}))
    qos = peer.expect('basic.qos')
    assert (qos.prefetch_count, qos.prefetch_size) == (7, 0)
    consume = peer.expect('basic.consume')  # without an answer to the qos
    assert (consume.queue, consume.exclusive, consume.no_ack) == ('q', True, False)
    assert consume.arguments == {'x-priority': 5}
    peer.send('basic.qos-ok')
    peer.send('basic.consume-ok', consumer_tag=consume.consumer_tag)
    assert starting.get().tag == consume.consumer_tag


def test_each_consumer_of_a_channel_gets_the_prefetch_it_asked_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    def next_two() -> list[Any]:
        said = [peer.next()]
        if said[0].name == 'basic.qos':
            peer.send('basic.qos-ok')
            said.append(peer.next())
        assert said[-1].name == 'basic.consume'
        peer.send('basic.consume-ok', consumer_tag=said[-1].consumer_tag)
        return [one.prefetch_count for one in said if one.name == 'basic.qos']

    kept = []
    for how, expected in (
        (lambda: channel.consume('q', prefetch=10), [10]),
        (lambda: channel.consume('q', prefetch=10), []),  # it is so already
        (lambda: channel.subscribe('q', print, prefetch=20), [20]),
        (lambda: channel.basic_consume('q', callback=print), [0]),  # who asked for none gets none
        (lambda: channel.consume('q', prefetch=0), []),
        (lambda: channel.consume('q', no_ack=True), []),  # it has no meaning there
        (lambda: channel.subscribe('q', print, concurrency=300), [300]),
    ):
        starting = greenlets.spawn(how)
        assert next_two() == expected
        kept.append(starting.get())
    asking = greenlets.spawn(channel.basic_qos, 0, 5, False)
    assert peer.expect('basic.qos').prefetch_count == 5
    peer.send('basic.qos-ok')
    asking.get()
    for how, expected in (
        (lambda: channel.basic_consume('q', callback=print), []),
        (lambda: channel.consume('q', prefetch=1), [1]),
        (lambda: channel.basic_consume('q', callback=print), [5]),  # what the program asked for, again
        (lambda: channel.consume('q', prefetch=5), []),
    ):
        starting = greenlets.spawn(how)
        assert next_two() == expected
        kept.append(starting.get())
    client.collect()


@pytest.mark.parametrize('prefetch', [-1, 65536, None])
def test_an_impossible_prefetch_is_refused(peer: ScriptedBroker, channel: gamqp.Channel, prefetch: Any) -> None:
    with pytest.raises((TypeError, ValueError), match='prefetch'):
        channel.consume('q', prefetch=prefetch)
    with pytest.raises((TypeError, ValueError), match='prefetch_count'):
        channel.basic_qos(0, prefetch, False)
    assert is_as_new(channel)
    deliveries = start(peer, channel, prefetch=3)
    assert deliveries.delivered == 0
    channel.connection.collect()


def test_a_stream_without_prefetch_is_refused_before_anything_is_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    stream = {'x-stream-offset': 'first'}
    for arguments in ({'prefetch': 0}, {'no_ack': True}):
        with pytest.raises(ValueError, match='prefetch above 0'):
            channel.consume('s', arguments=stream, **arguments)
        with pytest.raises(ValueError, match='prefetch above 0'):
            channel.subscribe('s', print, arguments=stream, **arguments)
    for offset in ('frist', '1 hour', '', True, 1.5, None):
        with pytest.raises(ValueError, match='x-stream-offset'):
            channel.consume('s', arguments={'x-stream-offset': offset})
    peer.expect_nothing_more(client)


def test_a_refused_queue_is_raised_by_consume(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    starting = greenlets.spawn(channel.consume, 'no such queue')
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    peer.send('basic.qos-ok')
    peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND')
    with pytest.raises(exceptions.NotFound):
        starting.get()


@pytest.mark.parametrize('no_ack', [False, True])
def test_killed_before_consume_ok_nothing_is_left_behind(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, no_ack: bool
) -> None:
    starting = greenlets.spawn(lambda: channel.consume('q', no_ack=no_ack, consumer_tag='t'))
    if not no_ack:
        peer.expect('basic.qos')
        peer.send('basic.qos-ok')
    peer.expect('basic.consume')
    peer.raw(messages('t', [1, 2]))
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 2)
    starting.kill()
    with pytest.raises(GreenletExit):
        starting.get()
    assert undelivered(client) == (0, 0)
    peer.raw(messages('t', [3]))
    peer.send('basic.consume-ok', consumer_tag='t')
    for tag in (1, 2, 3) if not no_ack else ():
        back = peer.expect('basic.nack')
        assert (back.delivery_tag, back.requeue, back.multiple) == (tag, True, False)
    assert peer.expect('basic.cancel').consumer_tag == 't'
    peer.send('basic.cancel-ok', consumer_tag='t')
    peer.expect_nothing_more(client)
    assert client.stats()['undelivered_messages'] == 0


def test_a_killed_basic_consume_without_acks_gives_nothing_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """The broker knows those messages no more: to nack one would close the channel."""
    starting = greenlets.spawn(lambda: channel.basic_consume('q', 't', no_ack=True, callback=print))
    peer.expect('basic.consume')
    peer.raw(messages('t', [1, 2]))
    greenlets.wait_until(lambda: client.stats()['undelivered_messages'] == 2)
    starting.kill()
    with pytest.raises(GreenletExit):
        starting.get()
    peer.expect_nothing_more(client)
    assert client.stats()['undelivered_messages'] == 0


# -- leaving -------------------------------------------------------------------------------------------------


def test_break_cancels_first_and_gives_back_then(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 4)
    for message in deliveries:
        assert message.body == b'1'
        message.ack()
        break
    tag = deliveries.tag
    del deliveries
    peer.expect('basic.ack')
    assert peer.expect('basic.cancel').consumer_tag == tag
    assert [peer.expect('basic.nack').delivery_tag for _ in range(3)] == [2, 3, 4]
    peer.raw(messages(tag, [5]))  # it was on its way
    assert peer.expect('basic.nack').delivery_tag == 5
    peer.send('basic.cancel-ok', consumer_tag=tag)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert undelivered(client) == (0, 0)
    assert channel.unsettled == 0


def test_an_error_in_the_loop_leaves_as_a_break_does(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    def loop() -> None:
        for message in channel.consume('q', prefetch=2):
            raise LookupError(message.body)

    looping = greenlets.spawn(loop)
    peer.expect('basic.qos')
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.qos-ok')
    peer.raw(frames('basic.consume-ok', consumer_tag=tag) + messages(tag, [1, 2]))
    with pytest.raises(LookupError):
        looping.get()
    # The task keeps the error, and that the frame of the loop: only its iterator is gone.
    assert peer.expect('basic.cancel').consumer_tag == tag
    assert peer.expect('basic.nack').delivery_tag == 2
    assert list(inside.unacked(channel)) == [1]  # the one in hand is the program's


def test_a_dropped_iterator_without_acks_keeps_no_budget(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 10, no_ack=True)
    next(deliveries)
    tag = deliveries.tag
    assert client.stats()['undelivered_messages'] == 9
    del deliveries
    peer.expect('basic.cancel')
    assert client.stats()['undelivered_messages'] == 0
    peer.raw(messages(tag, range(11, 15)))  # sent before the cancel came
    peer.send('basic.cancel-ok', consumer_tag=tag)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert undelivered(client) == (0, 0)
    peer.expect_nothing_more(client)


def test_close_waits_for_the_broker_and_twice_does_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 2)
    closing = greenlets.spawn(deliveries.close)
    peer.expect('basic.cancel')
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [1, 2]
    assert not closing.done
    end(peer, deliveries)
    closing.get()
    deliveries.close()
    assert list(deliveries) == []
    assert 'ended' in repr(deliveries)
    peer.expect_nothing_more(client)


def test_with_closes_at_the_end_of_its_block(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, 2)

    def block() -> None:
        with deliveries:
            next(deliveries).ack()

    running = greenlets.spawn(block)
    peer.expect('basic.ack')
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 2
    end(peer, deliveries)
    running.get()


def test_a_killed_close_has_cancelled_all_the_same(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 2)
    closing = greenlets.spawn(deliveries.close)
    peer.expect('basic.cancel')
    closing.kill()
    with pytest.raises(GreenletExit):
        closing.get()
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [1, 2]
    end(peer, deliveries)
    assert list(deliveries) == []
    assert client.stats()['undelivered_messages'] == 0


def test_dropped_by_the_garbage_collector_in_another_thread(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """All that the prefetch allows has arrived, so nothing more will come: it is the hub that must be told."""
    box: list[Any] = []  # the only one who knows it
    starting = greenlets.spawn(lambda: box.append(channel.consume('q', prefetch=3, consumer_tag='t')))
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    peer.raw(frames('basic.qos-ok') + frames('basic.consume-ok', consumer_tag='t') + messages('t', [1, 2, 3]))
    starting.get()
    greenlets.wait_until(lambda: box[0].delivered == 3)
    there = weakref.ref(box[0])
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join(60)
    assert there() is None
    assert peer.expect('basic.cancel').consumer_tag
    assert [peer.expect('basic.nack').delivery_tag for _ in range(3)] == [1, 2, 3]
    assert client.stats()['undelivered_messages'] == 0


def test_dropped_between_a_question_and_its_sending(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector may come at any moment; then the cancel must not overtake the question that is being asked."""
    box: list[Any] = [start(peer, channel, 1)]
    expect = Replies.expect

    def expect_and_collect(replies: Replies, expected: Any) -> None:
        expect(replies, expected)
        box.clear()  # here

    with monkeypatch.context() as patch:
        patch.setattr(Replies, 'expect', expect_and_collect)
        asking = greenlets.spawn(lambda: channel.queue_declare('other'))
        peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='other')
    assert asking.get().queue == 'other'
    tag = peer.expect('basic.cancel').consumer_tag
    assert peer.expect('basic.nack').delivery_tag == 1
    peer.send('basic.cancel-ok', consumer_tag=tag)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert client.connected


@pytest.mark.parametrize('spool', [False, True], ids=['from the socket', 'from the spool'])
@pytest.mark.parametrize('no_ack', [False, True], ids=['ack', 'no ack'])
def test_dropped_while_a_message_is_put_into_it(peer: ScriptedBroker, no_ack: bool, spool: bool) -> None:
    """The collector comes after the look at whether anybody wants the message."""
    client: Any = peer.open((10, 131072, 0), max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)
    box: list[Any] = []
    armed = [not spool]

    class Collecting(ReceiveBudget):
        def take(self, size: int) -> None:
            super().take(size)
            if armed[0]:
                box.clear()  # here

    budget = inside.backpressure(client).budget = Collecting(LIMIT, 10_000_000)
    box.append(begin(peer, lambda: channel.consume('q', prefetch=0, consumer_tag='t', no_ack=no_ack)))
    if spool:
        flood(peer, client, deliveries(range(1, 5 * LIMIT), 't'))
        while not budget.relaxed:
            message = next(box[0])
            if not no_ack:
                message.ack()
        armed[0] = True  # and then some come back
    else:
        peer.raw(deliveries([1], 't'))
    greenlets.wait_until(lambda: not box)
    while peer.next().name != 'basic.cancel':
        pass
    assert (budget.messages, budget.bytes, channel.unsettled) == (0, 0, 0)


def test_an_iterator_in_a_cycle_is_collected(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    cycle: list[Any] = [start(peer, channel, 1)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 1
