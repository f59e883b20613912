"""``gamqp move``: to a queue, to an exchange, back to where they died; killed in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import broker_tools
import greenlets
import pytest
from commands import PATIENCE, gamqp, started

from gamqp import Channel, Message

Take = Callable[[str], list[Message]]


@pytest.fixture
def broker(rabbit: Any) -> Iterator[Channel]:
    """A channel of another connection."""
    with rabbit.connect() as connection:
        yield connection.channel()


@pytest.fixture
def target(broker: Channel) -> Iterator[str]:
    queue = broker_tools.shared_queue(broker)
    yield queue
    broker.queue_delete(queue)


@pytest.mark.any_broker
def test_to_a_queue_as_they_were(rabbit: Any, stock: str, target: str, broker: Channel, messages: Take) -> None:
    elsewhere = broker_tools.shared_queue(broker)
    properties = {'headers': {'a': b'\xff', 'deep': [1]}, 'delivery_mode': 2, 'user_id': 'guest', 'priority': 1}
    broker.publish(b'\x00\xff', routing_key=stock, **properties).wait()
    broker.publish(b'', routing_key=stock, headers={'CC': [elsewhere]}).wait()
    assert [one.body for one in messages(elsewhere)] == [b'']
    for number in range(100):
        broker.publish(b'%d' % number, routing_key=stock).wait()
    done = gamqp('move', stock, target, '--limit', '50', url=rabbit.url)
    assert (done.code, done.out, done.err) == (0, '', '50 messages moved\n')
    assert gamqp('move', stock, target, '-q', url=rabbit.url) == (0, '', '')
    first, second, *others = messages(target)
    assert (first.body, first.headers, first.user_id) == (b'\x00\xff', properties['headers'], 'guest')
    assert (first.priority, first.delivery_mode) == (1, 2)
    assert second.headers == {}
    assert messages(elsewhere) == []  # the message was moved to one queue, and its copy header did not count again
    assert [int(one.body) for one in others] == list(range(100))
    assert gamqp('move', stock, target, url=rabbit.url).code == 2  # nothing there
    broker.queue_delete(elsewhere)


@pytest.mark.any_broker
def test_dead_letters_go_back_to_where_they_died(rabbit: Any, broker: Channel, messages: Take, stock: str) -> None:
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': stock}
    one, two = (broker_tools.shared_queue(broker, arguments=arguments) for _ in range(2))
    for queue in (one, two, one):
        broker.publish(queue.encode(), routing_key=queue).wait()
        message = broker.basic_get(queue)
        assert message is not None
        message.reject(requeue=False)
    broker_tools.wait_ready(broker, stock, 3)
    assert gamqp('move', stock, '--back', '--limit', '2', url=rabbit.url).code == 0
    assert [bytes(one.body).decode() for one in messages(one)] == [one]
    (message,) = messages(two)
    assert message.headers['x-death'][0]['queue'] == two  # its history is kept
    assert gamqp('move', stock, '--back', '--strip-deaths', url=rabbit.url).code == 0
    (message,) = messages(one)
    assert message.headers == {}
    broker.publish(b'alive', routing_key=stock).wait()
    done = gamqp('move', stock, '--back', url=rabbit.url)
    assert done.code == 1 and 'no dead letter' in done.err
    assert [one.body for one in messages(stock)] == [b'alive']
    for queue in (one, two):
        broker.queue_delete(queue)


@pytest.mark.any_broker
@pytest.mark.slow
def test_where_they_cannot_go_they_stay(rabbit: Any, stock: str, broker: Channel, messages: Take) -> None:
    full = broker_tools.shared_queue(broker, arguments={'x-max-length': 3, 'x-overflow': 'reject-publish'})
    broker_tools.publish_numbers(broker, stock, 10)
    done = gamqp('move', stock, full, url=rabbit.url)
    assert done.code == 1 and 'is full' in done.err
    moved = len(messages(full))
    assert moved >= 3
    broker_tools.wait_ready(broker, stock, 10 - moved)
    for where, text, code in (
        (('no.such.queue',), 'no queue takes', 1),
        (('-e', 'no.such.exchange'), 'NOT_FOUND', 2),
        (('-e', 'amq.topic'), 'no queue takes', 1),
        ((stock,), 'the queue itself', 64),
        ((full, '--back'), 'say where to', 64),
    ):
        done = gamqp('move', stock, *where, url=rabbit.url)
        assert done.code == code and text in done.err, done
    assert len(messages(stock)) == 10 - moved
    assert gamqp('move', 'no.such.queue', full, url=rabbit.url).code == 2
    broker.queue_delete(full)


@pytest.mark.any_broker
def test_by_an_exchange_and_to_another_broker(
    rabbit: Any, stock: str, target: str, broker: Channel, messages: Take
) -> None:
    """The other broker is the same one here."""
    broker_tools.publish_numbers(broker, stock, 3)
    broker.queue_bind(target, 'amq.topic', 'jobs.*')
    assert gamqp('move', stock, '-e', 'amq.topic', '-k', 'jobs.old', url=rabbit.url).code == 0
    assert [one.delivery_info['routing_key'] for one in messages(target)] == ['jobs.old'] * 3
    broker_tools.publish_numbers(broker, target, 3)
    assert gamqp('move', target, stock, '--to-url', rabbit.url, url=rabbit.url).code == 0
    assert len(messages(stock)) == 3


def test_a_stream_cannot_be_moved(rabbit: Any, target: str, broker: Channel, messages: Take) -> None:
    stream = broker_tools.shared_queue(broker, arguments={'x-queue-type': 'stream', 'x-max-age': '1h'})
    broker_tools.publish_numbers(broker, stream, 3)
    done = gamqp('move', stream, target, url=rabbit.url)
    assert done.code == 64 and 'is a stream: its messages stay' in done.err, done
    copied = gamqp('consume', stream, '--offset', 'first', '--limit', '3', '--json', url=rabbit.url).out
    assert gamqp('publish', target, '--json', url=rabbit.url, stdin=copied).code == 0
    assert [bytes(one.body) for one in messages(target)] == [b'0', b'1', b'2']
    broker.queue_delete(stream)


def test_a_kill_in_the_middle_loses_none(rabbit: Any, stock: str, target: str, broker: Channel, messages: Take) -> None:
    count = 3000
    broker_tools.publish_numbers(broker, stock, count)
    with started('move', stock, target, '--rate', '3000', url=rabbit.url) as process:
        greenlets.wait_until(lambda: broker_tools.ready(broker, target) > 200, PATIENCE)
        process.kill()
        process.wait()
    # What the dead process held goes back when the broker has noticed.
    greenlets.wait_until(
        lambda: broker_tools.ready(broker, stock) + broker_tools.ready(broker, target) >= count, PATIENCE
    )
    assert broker_tools.ready(broker, stock) > 0
    assert gamqp('move', stock, target, url=rabbit.url).code == 0
    found = Counter(int(one.body) for one in messages(target))
    assert sorted(found) == list(range(count))
    assert sum(found.values()) - count <= 500  # the window of those that may be doubled
