"""What the pages by task say of brokers is so: the broker's words, and what becomes of messages."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from broker_tools import fresh_name, shared_queue, wait_ready

import gamqp
from gamqp import exceptions

PAGE = (Path(__file__).parents[2] / 'docs' / 'troubleshooting.rst').read_text(encoding='utf-8')
WORDS = PAGE.partition("\nThe broker's words\n")[2].partition('\nWhat you see\n')[0]

#: Each text of the page's list of the broker's words.
TEXTS = re.findall(r'^   \* - ``(.+)``$', WORDS, re.M)

#: Not made here: it takes 16 MiB, or another limit of the broker's.
NOT_TRIED = {'PRECONDITION_FAILED - message size … is larger than configured max size …'}


@pytest.fixture
def other(rabbit: Any) -> Iterator[gamqp.Connection]:
    """Another program."""
    with rabbit.connect() as connection:
        yield connection


def like(text: str, said: str) -> bool:
    return re.fullmatch('.*'.join(re.escape(part) for part in text.split('…')) + '.*', said, re.S) is not None


def test_the_brokers_words_are_these(rabbit: Any, other: gamqp.Connection) -> None:
    said: list[str] = []
    with rabbit.connect() as connection:
        channel = connection.channel()

        def refused(error: type[gamqp.AMQPError], call: Any, *args: Any, **more: Any) -> None:
            with pytest.raises(error) as caught:
                call(*args, **more)
            said.append(str(caught.value.reply_text))

        mine = channel.queue_declare(exclusive=True, auto_delete=False).queue
        name = shared_queue(channel)
        elsewhere = other.channel()
        refused(gamqp.NotFound, channel.basic_get, fresh_name())
        refused(gamqp.NotFound, channel.publish('', fresh_name()).wait)
        refused(gamqp.PreconditionFailed, channel.queue_declare, name, durable=True, auto_delete=True)
        channel.basic_ack(1)
        refused(gamqp.PreconditionFailed, channel.queue_declare, name, passive=True)
        elsewhere.basic_consume(name, callback=print, exclusive=True)
        refused(gamqp.AccessRefused, channel.basic_consume, name, callback=print)
        refused(gamqp.ResourceLocked, elsewhere.basic_get, mine)
        channel.queue_delete(name)
        refused(gamqp.AccessRefused, rabbit.connect, password='wrong')
        refused(gamqp.NotAllowed, rabbit.connect, virtual_host='nowhere')
        if rabbit.managed:
            rabbit.node.close_connections(rabbit.vhost)
            refused(gamqp.ConnectionForced, channel.queue_declare, name, passive=True)
            with pytest.raises(gamqp.ConnectionForced):
                other.drain_events()
    for text in set(TEXTS) - NOT_TRIED - (set() if rabbit.managed else {'CONNECTION_FORCED - …'}):
        assert any(like(text, one) for one in said), f'{text} is not among {said}'


# -- docs/publishing.rst ---------------------------------------------------------------------


def test_what_nobody_takes_is_acked_unless_it_is_mandatory(channel: gamqp.Channel) -> None:
    nowhere = fresh_name()
    receipt = channel.publish('', routing_key=nowhere)
    receipt.wait()
    assert receipt.state == 'acked'
    receipt = channel.publish('', routing_key=nowhere, mandatory=True)
    with pytest.raises(gamqp.Returned):
        receipt.wait()
    assert receipt.state == 'returned'


def test_an_exchange_that_does_not_exist_ends_the_channel(channel: gamqp.Channel) -> None:
    receipt = channel.publish('', exchange=fresh_name())
    with pytest.raises(gamqp.NotFound):
        receipt.wait()
    assert receipt.state == 'lost'
    assert channel.queue_declare(exclusive=True).queue  # it is open again


@pytest.mark.parametrize(
    ('overflow', 'states'), [('reject-publish', ['acked', 'nacked']), ('drop-head', ['acked'] * 2)]
)
def test_a_full_queue(channel: gamqp.Channel, overflow: str, states: list[str]) -> None:
    arguments = {'x-max-length': 1, 'x-overflow': overflow}
    queue = channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments).queue
    receipts = [channel.publish(str(number), routing_key=queue) for number in range(2)]
    channel.wait_for_confirms()
    assert [receipt.state for receipt in receipts] == states
    left = channel.basic_get(queue, no_ack=True)
    assert left is not None
    assert left.body == ('1' if overflow == 'drop-head' else '0')


# -- docs/connection_loss.rst ----------------------------------------------------------------


def test_what_a_timeout_of_an_iterator_leaves_is_the_consumer(channel: gamqp.Channel, queue: str) -> None:
    with channel.consume(queue, timeout=0.01) as messages:
        with pytest.raises(TimeoutError):
            next(messages)
        channel.publish('late', routing_key=queue).wait()
        message = None
        while message is None:
            try:
                message = next(messages)
            except TimeoutError:
                pass
        assert message.body == 'late'
        message.ack()


@pytest.mark.parametrize(('way', 'gets'), [('callback', []), ('iterator', ['x']), ('handler', ['x'])])
def test_who_still_gets_what_came_without_acks_before_the_loss(
    rabbit: Any, proxy: Any, channel: gamqp.Channel, way: str, gets: list[str]
) -> None:
    queue = shared_queue(channel)
    channel.publish('x', routing_key=queue).wait()
    got: list[Any] = []
    lost = gamqp.connect(proxy.url(rabbit))
    theirs = lost.channel()

    def cut() -> None:
        greenlets.wait_until(lambda: lost.stats()['delivered'] == 1)
        proxy.cut()
        greenlets.wait_until(lambda: not lost.is_open)

    if way == 'callback':
        theirs.basic_consume(queue, no_ack=True, callback=lambda message: got.append(message.body))
        cut()
        with pytest.raises(exceptions.RecoverableConnectionError):
            while True:
                lost.drain_events()
    elif way == 'iterator':
        messages = theirs.consume(queue, no_ack=True)
        cut()
        with pytest.raises(exceptions.RecoverableConnectionError):
            for message in messages:
                got.append(message.body)
    else:
        consumer = theirs.subscribe(queue, lambda message: got.append(message.body), no_ack=True)
        cut()
        with pytest.raises(exceptions.RecoverableConnectionError):
            consumer.join()
    assert got == gets
    channel.queue_delete(queue)


# -- docs/guide.rst --------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['classic', 'quorum'])
def test_exclusive_consumers_are_for_classic_queues(channel: gamqp.Channel, other: gamqp.Connection, kind: str) -> None:
    queue = shared_queue(channel, arguments={'x-queue-type': kind})
    channel.subscribe(queue, print, exclusive=True)
    if kind == 'classic':
        with pytest.raises(gamqp.AccessRefused):
            other.channel().subscribe(queue, print)
    else:
        other.channel().subscribe(queue, print)
        other.channel().subscribe(queue, print, exclusive=True)
    channel.queue_delete(queue)


@pytest.mark.parametrize('kind', ['classic', 'quorum'])
def test_one_consumer_at_a_time(channel: gamqp.Channel, other: gamqp.Connection, kind: str) -> None:
    queue = shared_queue(channel, arguments={'x-queue-type': kind, 'x-single-active-consumer': True})
    got: list[str] = []
    first = channel.subscribe(queue, lambda message: got.append('first'))
    other.channel().subscribe(queue, lambda message: got.append('second'))
    for number in range(4):
        channel.publish(str(number), routing_key=queue).wait()
    greenlets.wait_until(lambda: len(got) == 4)
    first.cancel()
    first.join()
    channel.publish('more', routing_key=queue).wait()
    greenlets.wait_until(lambda: len(got) == 5)
    assert got == ['first'] * 4 + ['second']
    channel.queue_delete(queue)


def test_a_quorum_queue_counts_what_is_rejected_into_it_again(channel: gamqp.Channel) -> None:
    failed = shared_queue(channel)
    arguments = {'x-queue-type': 'quorum', 'x-delivery-limit': 2}
    arguments |= {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': failed}
    queue = shared_queue(channel, arguments=arguments)
    counts: list[int | None] = []

    def fail(message: gamqp.Message) -> None:
        counts.append(message.headers.get('x-delivery-count'))
        raise ValueError('always')

    channel.subscribe(queue, fail, on_error=lambda message, error: message.reject(requeue=True))
    channel.publish('', routing_key=queue).wait()
    wait_ready(channel, failed, 1)
    assert counts == [None, 1, 2]
    channel.queue_delete(queue)
    channel.queue_delete(failed)


@pytest.mark.parametrize(('kind', 'way', 'pauses'), [('returned', 'nack', [1, 1]), ('failed', 'reject', [1, 2])])
def test_delayed_retry(rabbit: Any, channel: gamqp.Channel, kind: str, way: str, pauses: list[int]) -> None:
    if tuple(int(part) for part in rabbit.version.split('.')[:2]) < (4, 3):
        pytest.skip('RabbitMQ 4.3 and newer')
    least = 0.2  # seconds
    arguments = {
        'x-queue-type': 'quorum',
        'x-delayed-retry-type': kind,
        'x-delayed-retry-min': int(least * 1000),
        'x-delayed-retry-max': 10_000,
    }
    queue = shared_queue(channel, arguments=arguments)
    channel.publish('', routing_key=queue).wait()
    with channel.consume(queue) as messages:
        message = next(messages)
        for pause in pauses:
            before = time.monotonic()
            getattr(message, way)(requeue=True)
            message = next(messages)
            assert time.monotonic() - before > 0.9 * pause * least
        message.ack()
    channel.queue_delete(queue)


def test_failed_messages_that_expire_into_their_queue_again(channel: gamqp.Channel) -> None:
    jobs, later = fresh_name(), fresh_name()
    shared_queue(channel, jobs, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': later})
    arguments = {'x-message-ttl': 1, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': jobs}
    shared_queue(channel, later, arguments=arguments)
    attempts: list[int] = []

    def fail_twice(message: gamqp.Message) -> None:
        deaths = [one['count'] for one in message.headers.get('x-death', ()) if one['queue'] == jobs]
        attempts.append(sum(deaths))
        if len(attempts) < 3:
            raise ValueError('not yet')

    consumer = channel.subscribe(jobs, fail_twice, on_error='reject')
    channel.publish('', routing_key=jobs).wait()
    greenlets.wait_until(lambda: consumer.acked == 1)
    assert attempts == [0, 1, 2]
    channel.queue_delete(jobs)
    channel.queue_delete(later)
