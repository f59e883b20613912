"""Channel.subscribe: handlers in worker greenlets, in which order, and what is settled by whom."""

from __future__ import annotations

import logging
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import Work, ended, fail, messages, subscribed

import gamqp

# -- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        ({'handler': 'print'}, TypeError),
        ({'concurrency': 0}, ValueError),
        ({'on_error': 'retry'}, ValueError),
        ({'on_error': None}, ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, arguments: Any, error: Any
) -> None:
    with pytest.raises(error):
        channel.subscribe('q', **{'handler': print, **arguments})
    peer.expect_nothing_more(client)


def test_an_idle_consumer_has_no_greenlet(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    census = greenlets.Census()
    consumer = subscribed(peer, channel, work, 3)
    for _ in range(3):
        peer.expect('basic.ack')
    assert census.leaked() == ''
    assert inside.inbox(consumer).messages is None
    peer.raw(messages(consumer.tag, [4]))
    peer.expect('basic.ack')
    assert (consumer.delivered, consumer.acked, consumer.failed, consumer.in_flight) == (4, 4, 0, 0)


# -- order and concurrency -----------------------------------------------------------------------------------


def test_one_at_a_time_in_order_by_one_greenlet(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    work.does = {str(number): lambda message: greenlets.sleep(0) for number in range(20)}
    consumer = subscribed(peer, channel, work, 20)
    assert [peer.expect('basic.ack').delivery_tag for _ in range(20)] == list(range(1, 21))
    assert work.begun == [str(number) for number in range(1, 21)]
    assert work.most == 1
    assert len(set(work.workers)) == 1
    assert consumer.acked == 20


def test_as_many_at_a_time_as_asked_for_and_no_more(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    work.hold(*range(1, 11))
    consumer = subscribed(peer, channel, work, 10, concurrency=4)
    greenlets.wait_until(lambda: work.running == 4)
    work.go(3)
    assert peer.expect('basic.ack').delivery_tag == 3
    greenlets.wait_until(lambda: work.begun == ['1', '2', '3', '4', '5'])
    assert (consumer.in_flight, work.running) == (4, 4)
    for body in (5, 6, 7, 8, 9, 10, 1, 2, 4):
        work.go(body)
        assert peer.expect('basic.ack').delivery_tag == body
    assert work.most == 4


def test_a_message_is_handled_before_the_caller_of_subscribe_has_its_consumer(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    starting = greenlets.spawn(lambda: channel.subscribe('q', work, consumer_tag='t'))
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    peer.raw(messages('t', [1]))
    assert peer.expect('basic.ack').delivery_tag == 1
    assert not starting.done
    peer.send('basic.qos-ok')
    peer.send('basic.consume-ok', consumer_tag='t')
    assert starting.get().acked == 1


def test_a_killed_subscribe_gives_back_what_no_handler_has_begun(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1)
    starting = greenlets.spawn(lambda: channel.subscribe('q', work, consumer_tag='t'))
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    peer.raw(messages('t', [1, 2, 3]))
    greenlets.wait_until(lambda: work.running)
    starting.kill()
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [2, 3]
    peer.send('basic.qos-ok')
    peer.send('basic.consume-ok', consumer_tag='t')
    peer.expect('basic.cancel')
    work.go(1)
    assert peer.expect('basic.ack').delivery_tag == 1
    peer.send('basic.cancel-ok', consumer_tag='t')
    greenlets.wait_until(lambda: channel.consumer_count == 0)
    assert client.stats()['undelivered_messages'] == 0


# -- settling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('how', ['ack', 'nack', 'reject', 'multiple'])
def test_what_a_handler_settles_itself_is_not_settled_again(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, how: str
) -> None:
    settle = {
        'ack': lambda message: message.ack(),
        'nack': lambda message: message.nack(requeue=False),
        'reject': lambda message: message.reject(),
        'multiple': lambda message: message.ack(multiple=True),
    }[how]
    work.does['1'] = settle
    consumer = subscribed(peer, channel, work, 1)
    peer.expect('basic.ack' if how == 'multiple' else f'basic.{how}')
    peer.expect_nothing_more(client)
    assert (consumer.acked, consumer.failed) == (0, 0)


def test_an_ack_of_many_settles_those_whose_handlers_still_run(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1, 2)
    work.does['2'] = lambda message: message.ack(multiple=True)
    subscribed(peer, channel, work, 2, concurrency=2)
    work.go(2)
    assert peer.expect('basic.ack').multiple
    work.go(1)
    greenlets.wait_until(lambda: not work.running)
    peer.expect_nothing_more(client)


def test_a_handler_that_settles_and_then_fails_has_settled(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    def settle_and_fail(message: Any) -> None:
        message.ack()
        raise LookupError

    work.does['1'] = settle_and_fail
    consumer = subscribed(peer, channel, work, 1)
    peer.expect('basic.ack')
    greenlets.wait_until(lambda: consumer.failed == 1)
    peer.expect_nothing_more(client)


def test_without_acks_nothing_is_settled(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = fail
    consumer = subscribed(peer, channel, work, 2, no_ack=True)
    greenlets.wait_until(lambda: work.begun == ['1', '2'])
    peer.expect_nothing_more(client)
    assert (consumer.acked, consumer.failed) == (0, 1)


# -- errors of the handler -----------------------------------------------------------------------------------


def interrupt(message: Any) -> None:
    class Timeout(BaseException):
        """Like gevent's: no Exception."""

    raise Timeout


@pytest.mark.parametrize('failure', [fail, interrupt])
@pytest.mark.parametrize(('policy', 'method'), [('requeue', 'basic.nack'), ('reject', 'basic.reject')])
def test_a_failure_is_logged_and_settled_by_the_policy_and_the_worker_goes_on(
    peer: ScriptedBroker,
    channel: gamqp.Channel,
    work: Work,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    method: str,
    failure: Any,
) -> None:
    work.does['1'] = failure
    consumer = subscribed(peer, channel, work, 2, on_error=policy)
    said = {one.name: one for one in (peer.next(), peer.next())}  # a message is requeued after a while
    assert said.keys() == {method, 'basic.ack'}
    assert (said[method].delivery_tag, said[method].requeue) == (1, policy == 'requeue')
    assert said['basic.ack'].delivery_tag == 2
    assert len(set(work.workers)) == 1
    assert (consumer.failed, consumer.acked) == (1, 1)
    [record] = [record for record in caplog.records if record.name == 'gamqp.consumer']
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert consumer.tag in record.getMessage()


def test_stop_cancels_in_front_of_the_requeue_and_join_raises_the_error(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = fail
    consumer = subscribed(peer, channel, work, 3, on_error='stop')
    joining = greenlets.spawn(consumer.join)
    peer.expect('basic.cancel')  # first, or the broker sends the message here again
    assert {peer.expect('basic.nack').delivery_tag for _ in range(3)} == {1, 2, 3}
    peer.raw(messages(consumer.tag, [4]))
    assert peer.expect('basic.nack').delivery_tag == 4
    assert not joining.done
    ended(peer, consumer)
    with pytest.raises(LookupError):
        joining.get()
    assert work.begun == ['1']


def test_stop_waits_in_join_for_the_others_and_the_first_error_counts(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.hold(1, 2, 3)
    work.does['1'] = work.does['2'] = fail
    consumer = subscribed(peer, channel, work, 3, on_error='stop', concurrency=3)
    joining = greenlets.spawn(consumer.join)
    work.go(1)
    peer.expect('basic.cancel')
    peer.expect('basic.nack')
    ended(peer, consumer)
    work.go(2)
    peer.expect('basic.nack')
    assert not joining.done
    work.go(3)
    peer.expect('basic.ack')
    with pytest.raises(LookupError, match="b'1'"):
        joining.get()
    peer.expect_nothing_more(client)


@pytest.mark.parametrize(
    ('answer', 'sent'),
    [
        ('requeue', ['basic.nack']),
        ('reject', ['basic.reject']),
        ('stop', ['basic.cancel', 'basic.nack']),
        (None, []),
        ('drop', ['basic.nack']),
        (True, ['basic.nack']),
    ],
)
def test_a_callable_decides_each_time(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    work: Work,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
    sent: list[str],
) -> None:
    asked: list[Any] = []

    def decide(message: Any, error: BaseException) -> Any:
        asked.append((bytes(message.body), type(error)))
        return answer

    work.does['1'] = fail
    consumer = subscribed(peer, channel, work, 1, on_error=decide)
    for name in sent:
        peer.expect(name)
    greenlets.wait_until(lambda: consumer.failed == 1 and not inside.inbox(consumer).busy)
    peer.expect_nothing_more(client)
    assert asked == [(b'1', LookupError)]
    assert ('on_error returned' in caplog.text) == (answer in ('drop', True))


def test_a_callable_may_settle_the_message_itself(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = fail
    subscribed(peer, channel, work, 1, on_error=lambda message, error: message.ack())
    peer.expect('basic.ack')
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('failure', [LookupError, KeyError, BaseException])
def test_a_callable_that_fails_requeues_and_the_worker_goes_on(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, caplog: pytest.LogCaptureFixture, failure: Any
) -> None:
    def decide(message: Any, error: BaseException) -> Any:
        raise failure

    work.does['1'] = fail
    subscribed(peer, channel, work, 2, on_error=decide)
    assert {(one.name, one.delivery_tag) for one in (peer.next(), peer.next())} == {('basic.nack', 1), ('basic.ack', 2)}
    assert len(set(work.workers)) == 1
    assert 'on_error failed itself' in caplog.text


def test_killed_inside_the_callable_the_message_is_requeued_and_the_rest_handled(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    work.does['1'] = fail
    subscribed(peer, channel, work, 2, on_error=lambda message, error: greenlets.sleep(60))
    greenlets.wait_until(lambda: work.begun == ['1'] and not work.running)
    greenlets.backend.kill(work.workers[0])
    assert peer.expect('basic.nack').delivery_tag == 1
    assert peer.expect('basic.ack').delivery_tag == 2
