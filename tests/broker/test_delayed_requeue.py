"""on_error='requeue': a message that comes back and fails again is kept for longer each time, and is never lost."""

from __future__ import annotations

import logging
import time
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import Work, ended, fail, messages, subscribed

import gamqp
from gamqp import exceptions


def deliver(peer: ScriptedBroker, tag: str, number: int, body: bytes = b'bad', redelivered: bool = True) -> None:
    peer.send('basic.deliver', consumer_tag=tag, delivery_tag=number, redelivered=redelivered, body=body)


class Clock:
    """Time for what is to be kept long, without waiting for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[float] = []
        self._later = greenlets.backend.call_later
        monkeypatch.setattr(greenlets.backend, 'call_later', self.call_later)

    def call_later(self, seconds: float, fn: Any) -> Any:
        if getattr(fn, '__name__', '') == '_look' and 'DelayedRequeue' in type(fn.__self__).__name__:
            self.asked.append(seconds)
        return self._later(seconds, fn)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_message_that_comes_back_is_kept_for_twice_as_long_each_time(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, clock: Clock
) -> None:
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    for number in range(1, 6):
        deliver(peer, consumer.tag, number, redelivered=number > 1)
        assert peer.expect('basic.nack').delivery_tag == number
    assert clock.asked == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16], abs=0.005)


def test_one_that_was_not_delivered_before_begins_anew(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, clock: Clock
) -> None:
    """The same text, and not the same message."""
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    for number in range(1, 4):
        deliver(peer, consumer.tag, number, redelivered=False)
        assert peer.expect('basic.nack').delivery_tag == number
    assert clock.asked == pytest.approx([0.01] * 3, abs=0.005)


def test_the_worker_handles_others_meanwhile(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    number = 0
    for number in range(1, 5):
        deliver(peer, consumer.tag, number)
        peer.expect('basic.nack')
    deliver(peer, consumer.tag, number + 1)  # kept for 160 ms
    deliver(peer, consumer.tag, number + 2, b'good')
    assert peer.expect('basic.ack').delivery_tag == number + 2
    assert peer.expect('basic.nack').delivery_tag == number + 1


def keeping(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> Any:
    """A consumer that keeps deliveries 11 to 13 for seconds."""
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    failures = gamqp.consuming.subscription.HandlerFailures()
    inside.use_failures(consumer, failures)
    for body in (b'bad', b'bad ', b'bad  '):
        work.does[body.decode()] = fail
    for number, body in ((11, b'bad'), (12, b'bad '), (13, b'bad  ')):
        look = ('', 'q', len(body), hash(body))
        for _ in range(15):
            failures.note(look, True, None)
        peer.send(
            'basic.deliver',
            consumer_tag=consumer.tag,
            delivery_tag=number,
            redelivered=True,
            routing_key='q',
            body=body,
        )
    greenlets.wait_until(lambda: consumer.failed == 3)
    return consumer


def test_what_is_kept_goes_back_when_the_consumer_is_cancelled(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    consumer = keeping(peer, channel, work)
    cancelling = greenlets.spawn(consumer.cancel)
    peer.expect('basic.cancel')
    assert [peer.expect('basic.nack').delivery_tag for _ in range(3)] == [11, 12, 13]
    ended(peer, consumer)
    cancelling.get()
    assert channel.unsettled == 0


def test_what_is_kept_goes_back_when_the_connection_is_drained(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    consumer = keeping(peer, channel, work)
    draining = greenlets.spawn(client.drain, 30)
    peer.expect('basic.cancel')
    assert [peer.expect('basic.nack').delivery_tag for _ in range(3)] == [11, 12, 13]
    peer.send('basic.cancel-ok', consumer_tag=consumer.tag)
    peer.agree_to_close()
    assert draining.get() is True


def test_what_is_kept_goes_back_when_the_broker_cancels(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work
) -> None:
    consumer = keeping(peer, channel, work)
    peer.send('basic.cancel', consumer_tag=consumer.tag, nowait=True)
    greenlets.wait_until(lambda: inside.has_ended(consumer))
    nacked = []
    while len(nacked) < 3:
        said = peer.next()
        if said.name == 'basic.nack':
            nacked.append(said.delivery_tag)
    assert nacked == [11, 12, 13]


@pytest.mark.parametrize('how', ['close', 'loss', 'channel error'])
def test_nothing_is_sent_for_what_is_kept_when_the_broker_takes_it_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, how: str
) -> None:
    consumer = keeping(peer, channel, work)
    if how == 'close':
        closing = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
        closing.get()
    elif how == 'loss':
        peer.hang_up()
    else:
        peer.send('channel.close', reply_code=406, reply_text='x')
        peer.reopen()
    greenlets.wait_until(lambda: inside.has_ended(consumer))
    assert inside.kept_for_requeue(consumer) == []
    if how != 'loss':
        peer.expect_nothing_more(client)
    else:
        with pytest.raises(exceptions.RecoverableConnectionError):
            consumer.join()


def test_what_was_settled_meanwhile_is_left_alone(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work
) -> None:
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    deliver(peer, consumer.tag, 1)
    greenlets.wait_until(lambda: consumer.failed == 1)
    channel.basic_ack(1)
    assert peer.expect('basic.ack').delivery_tag == 1
    greenlets.sleep(0.05)
    peer.expect_nothing_more(client)


def test_a_worker_that_fails_when_its_consumer_was_cancelled_gives_back_at_once(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, clock: Clock
) -> None:
    work.hold(1)
    work.does['1'] = fail
    consumer = subscribed(peer, channel, work, 1)
    greenlets.wait_until(lambda: work.running)
    consumer.cancel(wait=False)
    peer.expect('basic.cancel')
    work.go(1)
    assert peer.expect('basic.nack').delivery_tag == 1
    assert clock.asked == []
    ended(peer, consumer)


def test_no_more_than_so_many_are_kept(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gamqp.consuming.subscription.MOST_DELAYED', 3)
    consumer = subscribed(peer, channel, work, 0, prefetch=0)
    for number in range(1, 11):
        work.does[str(number)] = fail
    peer.raw(messages(consumer.tag, range(1, 11)))
    assert sorted(peer.expect('basic.nack').delivery_tag for _ in range(10)) == list(range(1, 11))


# -- the log -------------------------------------------------------------------------------------------------


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == 'gamqp.consumer']


def test_a_failure_is_logged_in_full_and_then_in_one_line_with_a_count(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    for number in range(1, 4):
        deliver(peer, consumer.tag, number)
        peer.expect('basic.nack')
    first, second, third = records(caplog)
    assert first.exc_info
    assert not second.exc_info and not third.exc_info
    assert '2 times in a row' in second.getMessage()
    assert '3 times in a row' in third.getMessage()
    assert '\n' not in third.getMessage()


def test_another_failure_of_the_same_message_is_logged_in_full(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def other(message: Any) -> None:
        raise LookupError('another\none')

    consumer = subscribed(peer, channel, work)
    for number, does in enumerate((fail, other, other), 1):
        work.does['bad'] = does
        deliver(peer, consumer.tag, number)
        peer.expect('basic.nack')
    assert [bool(record.exc_info) for record in records(caplog)] == [True, True, False]
    assert 'LookupError: another one' in records(caplog)[-1].getMessage()


def test_a_handler_that_always_fails_is_called_a_few_times_a_second(
    peer: ScriptedBroker, channel: gamqp.Channel, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer gives back at once what it gets back."""
    work.does['bad'] = fail
    consumer = subscribed(peer, channel, work)
    number = 1
    deliver(peer, consumer.tag, number, redelivered=False)
    begun = time.monotonic()
    while number < 6:
        assert peer.expect('basic.nack').requeue
        number += 1
        peer.raw(frames('basic.deliver', consumer_tag=consumer.tag, delivery_tag=number, redelivered=True, body=b'bad'))
    assert time.monotonic() - begun >= 0.3  # 10 + 20 + 40 + 80 + 160 ms
    assert sum(1 for record in records(caplog) if record.exc_info) == 1
