"""Consumer: workers that are killed, cancel and join, and the end of channel or connection while handlers run."""

from __future__ import annotations

import time
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import Work, ended, fail, messages, started, subscribed

import gamqp
from gamqp import exceptions

# -- kills ---------------------------------------------------------------------------------------------------


def test_a_killed_worker_requeues_its_message_and_is_replaced(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, 3)
    greenlets.wait_until(lambda: work.running == 1)
    greenlets.backend.kill(work.workers[0])
    assert [(said.name, said.delivery_tag) for said in (peer.next(), peer.next(), peer.next())] == [
        ('basic.nack', 1),
        ('basic.ack', 2),
        ('basic.ack', 3),
    ]
    greenlets.wait_until(lambda: not inside.inbox(consumer).busy)
    assert (consumer.in_flight, consumer.failed, consumer.acked) == (0, 0, 2)
    peer.expect_nothing_more(client)


def test_a_handler_that_exits_its_greenlet_ends_that_alone(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    def leave(message: Any) -> None:
        raise GreenletExit

    work.does['1'] = leave
    subscribed(peer, channel, work, 2)
    assert peer.expect('basic.nack').delivery_tag == 1
    assert peer.expect('basic.ack').delivery_tag == 2


@pytest.mark.parametrize('how', ['kill', 'throw'])
@pytest.mark.parametrize('concurrency', [1, 3])
def test_workers_killed_before_they_begin_are_replaced(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, how: str, concurrency: int
) -> None:
    """A greenlet that never began runs nothing, not even its finally."""
    killed: list[Any] = []
    spawn = greenlets.backend.spawn

    def spawn_and_kill(fn: Any, *args: Any) -> Any:
        if getattr(fn, '__name__', '') != '_work' or len(killed) == 3:
            return spawn(fn, *args)
        if how == 'throw':
            before_it_begins(lambda: killed[number].throw())
        number = len(killed)
        killed.append(spawn(fn, *args))
        if how == 'kill' and greenlets.GREEN == 'gevent':
            killed[number].kill(block=False)
        elif how == 'kill':
            before_it_begins(lambda: eventlet_kill(killed[number]))
        return killed[number]

    consumer = subscribed(peer, channel, work, concurrency=concurrency)
    greenlets.backend.spawn = spawn_and_kill
    try:
        peer.raw(messages(consumer.tag, [1, 2, 3, 4]))
        assert sorted(peer.expect('basic.ack').delivery_tag for _ in range(4)) == [1, 2, 3, 4]
    finally:
        greenlets.backend.spawn = spawn
    assert len(killed) == 3
    assert not set(killed) & set(work.workers)
    greenlets.wait_until(lambda: not inside.inbox(consumer).busy)
    assert work.most <= concurrency


def before_it_begins(fn: Any) -> None:
    """Call fn in the hub before what is spawned after this begins."""
    if greenlets.GREEN == 'gevent':
        greenlets.backend.run_soon(fn)
    else:
        greenlets.backend.hub().schedule_call_global(
            -1, fn
        )  # its timers go by time, and not by the order they were made


def eventlet_kill(worker: Any) -> None:
    import eventlet

    eventlet.kill(worker)


# -- ending --------------------------------------------------------------------------------------------------


def test_cancel_gives_back_what_has_not_begun_and_waits_for_what_has(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1, 2)
    consumer = subscribed(peer, channel, work, 4, concurrency=2)
    greenlets.wait_until(lambda: work.running == 2)
    cancelling = greenlets.spawn(consumer.cancel)
    peer.expect('basic.cancel')
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [3, 4]
    ended(peer, consumer)
    work.go(1)
    peer.expect('basic.ack')
    assert not cancelling.done
    work.go(2)
    peer.expect('basic.ack')
    cancelling.get()
    consumer.cancel()
    consumer.join()
    peer.expect_nothing_more(client)
    assert not inside.unfinished_handlers(client).retiring
    assert client.stats()['undelivered_messages'] == 0


def test_cancel_that_does_not_wait(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, 2)
    consumer.cancel(wait=False)
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 2
    with pytest.raises(TimeoutError, match='1 handlers run'):
        consumer.cancel(timeout=0.01)
    with pytest.raises(TimeoutError):
        consumer.join(timeout=0.01)
    ended(peer, consumer)
    work.go(1)
    peer.expect('basic.ack')
    consumer.join(30)


def test_cancel_in_time_when_the_broker_says_nothing(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    consumer = subscribed(peer, channel, work)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        consumer.cancel(timeout=0.02)
    assert time.monotonic() - begun < 15, 'that was its rpc_timeout'
    peer.expect('basic.cancel')
    ended(peer, consumer)
    consumer.join(30)


def test_cancel_without_acks_lets_all_be_handled_that_came(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, 3, no_ack=True)
    cancelling = greenlets.spawn(consumer.cancel)
    peer.expect('basic.cancel')
    peer.raw(messages(consumer.tag, [4]))
    ended(peer, consumer)
    assert inside.unfinished_handlers(client).retiring == {inside.inbox(consumer)}
    work.go(1)
    cancelling.get()
    assert work.begun == ['1', '2', '3', '4']
    assert not inside.unfinished_handlers(client).retiring


@pytest.mark.parametrize('count', [1, 3])
def test_handlers_that_cancel_their_own_consumer_do_not_wait_for_each_other(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, count: int
) -> None:
    work.hold(*range(1, count + 1))
    consumer = subscribed(peer, channel, work, count, concurrency=count)
    work.does = dict.fromkeys(work.held, lambda message: consumer.cancel())
    greenlets.wait_until(lambda: work.running == count)
    for body in range(1, count + 1):
        work.go(body)
    peer.expect('basic.cancel')
    ended(peer, consumer)
    assert {peer.expect('basic.ack').delivery_tag for _ in range(count)} == set(range(1, count + 1))
    consumer.join(30)


@pytest.mark.parametrize('how', ['join', 'cancel', 'drain'])
def test_who_is_no_handler_waits_also_for_handlers_that_cancel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, how: str
) -> None:
    """The first waited for the second in its cancel, and has been woken and not run yet when the program asks."""
    work.hold(1, 2)
    consumer = subscribed(peer, channel, work, 2, concurrency=2)
    work.does['1'] = lambda message: consumer.cancel()
    greenlets.wait_until(lambda: work.running == 2)
    work.go(1)
    peer.expect('basic.cancel')
    ended(peer, consumer)
    greenlets.wait_until(lambda: 'waiting' in inside.workers(consumer).values())
    work.go(2)  # runs in the next pass of the hub, right before the program
    wait = getattr(client if how == 'drain' else consumer, how)
    waiting = greenlets.spawn(lambda: (wait(), work.running, consumer.acked))
    assert [peer.expect('basic.ack').delivery_tag for _ in range(2)] == [2, 1]
    if how == 'drain':
        peer.agree_to_close()
    assert waiting.get()[1:] == (0, 2)


def test_a_handler_that_closes_its_channel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = lambda message: channel.close()
    consumer = subscribed(peer, channel, work, 3)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        consumer.join(30)
    peer.expect_nothing_more(client)
    assert work.begun == ['1']
    assert client.stats()['undelivered_messages'] == 0


def test_a_handler_that_closes_its_connection(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = lambda message: client.close()
    consumer = subscribed(peer, channel, work, 3)
    peer.agree_to_close()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        consumer.join(30)
    assert work.begun == ['1']


def test_a_channel_error_while_handlers_run(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    """They go on; what they settle then is nobody's any more, and must not hit the channel that was reopened."""
    work.hold(1, 2)
    work.does['2'] = fail
    consumer = subscribed(peer, channel, work, 3, concurrency=2)
    greenlets.wait_until(lambda: work.running == 2)
    joining = greenlets.spawn(consumer.join)
    greenlets.sleep(0)
    peer.send('channel.close', reply_code=406, reply_text='PRECONDITION_FAILED')
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    second = subscribed(peer, channel, work, 2, consumer_tag='second', concurrency=2)  # tags 1 and 2, once more
    for body in (1, 2):
        work.go(body)
    assert {peer.expect('basic.ack' if body == '1' else 'basic.nack').delivery_tag for body in '12'} == {1, 2}
    with pytest.raises(exceptions.PreconditionFailed):
        joining.get()
    peer.expect_nothing_more(client)
    assert (consumer.acked, second.acked) == (0, 1)
    assert client.stats()['undelivered_messages'] == 0


@pytest.mark.parametrize('no_ack', [False, True])
def test_the_connection_is_lost_while_handlers_run(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, no_ack: bool
) -> None:
    work.hold(1, 2)
    consumer = subscribed(peer, channel, work, 4, concurrency=2, no_ack=no_ack)
    greenlets.wait_until(lambda: work.running == 2)
    budget = inside.budget(client)
    peer.cut(reset=True)
    greenlets.wait_until(lambda: inside.has_ended(consumer))
    work.go(1)
    work.go(2)
    with pytest.raises(exceptions.RecoverableConnectionError):
        consumer.join(30)
    # What came without acks exists here only; the rest the broker has requeued.
    assert work.begun == (['1', '2', '3', '4'] if no_ack else ['1', '2'])
    assert budget.messages == 0
    consumer.cancel()


def test_cancelled_by_the_broker(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1)
    consumer = subscribed(peer, channel, work, 2)
    greenlets.wait_until(lambda: work.running)
    peer.send('basic.cancel', consumer_tag=consumer.tag, nowait=True)
    peer.expect('basic.cancel')
    assert peer.expect('basic.nack').delivery_tag == 2
    work.go(1)
    peer.expect('basic.ack')
    with pytest.raises(exceptions.ConsumerCancelled, match=consumer.tag):
        consumer.join(30)
    consumer.cancel()
    peer.expect_nothing_more(client)


def test_a_killed_cancel_has_cancelled_all_the_same(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    consumer = subscribed(peer, channel, work)
    cancelling = greenlets.spawn(consumer.cancel)
    peer.expect('basic.cancel')
    cancelling.kill()
    with pytest.raises(GreenletExit):
        cancelling.get()
    ended(peer, consumer)
    consumer.join(30)


def test_three_ways_of_consuming_on_one_channel_get_their_own_messages(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    subscribed(peer, channel, work, consumer_tag='handler')
    deliveries = started(peer, lambda: channel.consume('q', consumer_tag='loop'))
    got: list[bytes] = []
    consuming = greenlets.spawn(
        lambda: channel.basic_consume('q', 'callback', callback=lambda message: got.append(message.body))
    )
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    peer.raw(frames('basic.qos-ok') + frames('basic.consume-ok', consumer_tag='callback'))
    consuming.get()
    peer.raw(messages('loop', [1]) + messages('handler', [2]) + messages('callback', [3]) + messages('loop', [4]))
    assert [next(deliveries).body, next(deliveries).body] == [b'1', b'4']
    assert peer.expect('basic.ack').delivery_tag == 2
    client.drain_events(timeout=30)
    assert (got, work.begun) == ([b'3'], ['2'])
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
