"""Channel.consume, the iterator: how it ends, and who may wait in it."""

from __future__ import annotations

import threading
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import messages, start

import gamqp
from gamqp import exceptions


def end(peer: ScriptedBroker, deliveries: Any) -> None:
    """The broker agrees to a cancel."""
    peer.send('basic.cancel-ok', consumer_tag=deliveries.tag)


# -- the end -------------------------------------------------------------------------------------------------


def test_a_cancel_from_elsewhere_ends_the_loop(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel)
    looping = greenlets.spawn(list, deliveries)
    greenlets.sleep(0)
    cancelling = greenlets.spawn(channel.basic_cancel, deliveries.tag)
    peer.expect('basic.cancel')
    assert not looping.done
    end(peer, deliveries)
    cancelling.get()
    assert looping.get() == []
    with pytest.raises(StopIteration):
        next(deliveries)


def test_without_acks_what_came_before_the_cancel_is_yielded(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, 2, no_ack=True)
    channel.basic_cancel(deliveries.tag, nowait=True)
    peer.expect('basic.cancel')
    peer.raw(messages(deliveries.tag, [3]))
    end(peer, deliveries)
    assert [message.body for message in deliveries] == [b'1', b'2', b'3']


def test_cancelled_by_the_broker(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, 3)
    first = next(deliveries)
    peer.send('basic.cancel', consumer_tag=deliveries.tag, nowait=True)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    for _ in range(2):
        with pytest.raises(exceptions.ConsumerCancelled, match=deliveries.tag):
            next(deliveries)
    peer.expect('basic.cancel')
    # A channel that kept them would be closed by RabbitMQ 3 when their time is up.
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [2, 3]
    first.ack()
    assert peer.expect('basic.ack').delivery_tag == 1
    del deliveries
    peer.expect_nothing_more(client)
    assert not inside.unfinished_handlers(client).retiring
    assert client.stats()['undelivered_messages'] == 0


def test_an_ended_iterator_that_is_dropped_holds_up_no_drain(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Its last message was in hand when the broker cancelled it, and the loop ended by an error of its own."""
    deliveries = start(peer, channel, 1)
    next(deliveries)
    peer.send('basic.cancel', consumer_tag=deliveries.tag, nowait=True)
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert inside.unfinished_handlers(client).retiring
    del deliveries
    assert not inside.unfinished_handlers(client).retiring


@pytest.mark.parametrize('first', ['one that has ended', 'the one that drains'])
def test_drain_waits_for_the_greenlet_to_which_the_iterator_was_handed_over(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, first: str
) -> None:
    """Another one took the first message."""
    deliveries = start(peer, channel, 3)
    (next(deliveries) if first == 'the one that drains' else greenlets.spawn(next, deliveries).get()).ack()
    peer.expect('basic.ack')
    gate = [False]

    def loop() -> None:
        for message in deliveries:
            greenlets.wait_until(lambda: gate[0])
            message.ack()

    def say() -> None:
        peer.expect('basic.cancel')
        assert peer.expect('basic.nack').delivery_tag == 3
        end(peer, deliveries)
        greenlets.wait_until(lambda: inside.has_ended(deliveries))
        for _ in range(5):
            greenlets.sleep(0)  # drain has its turn
        peer.expect_nothing_more(client)
        gate[0] = True
        assert peer.expect('basic.ack').delivery_tag == 2
        peer.agree_to_close()

    looping = greenlets.spawn(loop)
    greenlets.wait_until(lambda: len(inside.inbox(deliveries).messages or ()) == 1)
    saying = greenlets.spawn(say)
    assert client.drain(20) is True
    saying.get()
    looping.get()


def test_a_channel_error_reaches_the_iterator_once_and_nobody_else(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 2)
    next(deliveries)
    peer.send('channel.close', reply_code=406, reply_text='PRECONDITION_FAILED - unknown delivery tag 9')
    peer.reopen()
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag'):
        next(deliveries)
    declaring = greenlets.spawn(lambda: channel.queue_declare('q'))  # the channel works, and does not say it again
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='q')
    declaring.get()


@pytest.mark.parametrize('no_ack', [False, True])
def test_the_end_of_the_connection(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, no_ack: bool
) -> None:
    deliveries = start(peer, channel, 3, no_ack=no_ack)
    waiting = start(peer, channel, consumer_tag='waiting')
    looping = greenlets.spawn(next, waiting)
    first = next(deliveries)
    budget = inside.budget(client)
    peer.cut()
    with pytest.raises(exceptions.RecoverableConnectionError):
        looping.get()
    # The broker has requeued what it waits for; what came without acks exists here only.
    rest = [next(deliveries).body for _ in range(2)] if no_ack else []
    assert rest == ([b'2', b'3'] if no_ack else [])
    with pytest.raises(exceptions.RecoverableConnectionError):
        next(deliveries)
    assert budget.messages == 0
    if not no_ack:
        with pytest.raises(exceptions.RecoverableConnectionError):
            first.ack()
    deliveries.close()


def test_closing_the_channel_ends_the_loop_with_an_error(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, 2)
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.raw(messages(deliveries.tag, [3]))
    peer.send('channel.close-ok')
    closing.get()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        next(deliveries)
    deliveries.close()


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_timeout_is_no_end(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, timeout=0.02)
    for _ in range(2):
        with pytest.raises(TimeoutError, match='no message within'):
            next(deliveries)
    peer.raw(messages(deliveries.tag, [1]))
    greenlets.wait_until(lambda: deliveries.delivered == 1)
    assert next(deliveries).body == b'1'
    channel.connection.collect()


def test_killed_while_it_waits_the_next_one_gets_the_message(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel)
    waiting = greenlets.spawn(next, deliveries)
    greenlets.sleep(0)
    waiting.kill()
    peer.raw(messages(deliveries.tag, [1]))
    with pytest.raises(GreenletExit):
        waiting.get()
    assert greenlets.spawn(next, deliveries).get().body == b'1'
    channel.connection.collect()


def test_killed_after_the_message_has_come_and_before_it_ran(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel)
    waiting = greenlets.spawn(next, deliveries)
    greenlets.wait_until(lambda: inside.inbox(deliveries).waiting is not None)
    waiting.kill()  # runs in the next pass of the hub, where the message may wake it, too
    inside.message_arrives(channel, gamqp_message(deliveries.tag))
    with pytest.raises(GreenletExit):
        waiting.get()
    assert next(deliveries).body == b'here'
    channel.connection.collect()


def gamqp_message(consumer_tag: str) -> Any:
    """As the decoder makes it."""
    data = frames('basic.deliver', consumer_tag=consumer_tag, delivery_tag=1, body=b'here')
    return gamqp.wire.Decoder(gamqp.Message).feed(data)[0]


def test_two_greenlets_on_one_iterator_are_told_so(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel)
    first = greenlets.spawn(next, deliveries)
    greenlets.sleep(0)
    with pytest.raises(RuntimeError, match='two greenlets iterate'):
        next(deliveries)
    peer.raw(messages(deliveries.tag, [1]))
    assert first.get().body == b'1'
    channel.connection.collect()


def test_another_thread_is_refused(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel, 1)
    outcomes: list[BaseException] = []

    def use() -> None:
        for call in (lambda: next(deliveries), deliveries.close):
            try:
                call()
            except BaseException as error:
                outcomes.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(60)
    assert [type(error) for error in outcomes] == [exceptions.WrongThread] * 2
    assert next(deliveries).body == b'1'
    channel.connection.collect()


def test_undelivered_messages_count_against_the_budget_until_they_are_yielded(peer: ScriptedBroker) -> None:
    client = peer.open(max_undelivered_messages=4)
    channel = peer.open_channel(client)
    deliveries = start(peer, channel, 4)
    assert inside.budget(client).spent
    peer.raw(messages(deliveries.tag, range(5, 9)))
    greenlets.wait_until(lambda: not inside.reads(client))
    assert [int(next(deliveries).body) for _ in range(8)] == list(range(1, 9))
    greenlets.wait_until(lambda: inside.reads(client))
    assert client.stats()['undelivered_messages'] == 0
