"""kombu on ``gamqp.testing.Broker``: what its users do every day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from kombu.pidbox import Mailbox

from gamqp import testing


@pytest.fixture
def kombu_connection(broker: testing.Broker) -> Iterator[Any]:
    with kombu.Connection(broker.url) as connection:
        yield connection


def test_kombu_simple_queue(broker: testing.Broker, kombu_connection: Any) -> None:
    with contextlib.closing(kombu_connection.SimpleQueue('simple')) as queue:
        queue.put({'hello': [1, 2]}, compression='zlib')
        message = queue.get(timeout=5)
        assert message.payload == {'hello': [1, 2]}
        message.ack()
    broker.assert_published('simple', routing_key='simple', count=1, content_type='application/json')


def test_kombu_consumer_and_producer(broker: testing.Broker, kombu_connection: Any) -> None:
    exchange = kombu.Exchange('media', 'direct', durable=True)
    queue = kombu.Queue('video', exchange=exchange, routing_key='video')
    got: list[Any] = []

    def take(body: Any, message: Any) -> None:
        got.append(body)
        message.ack()

    producer = kombu_connection.Producer(serializer='json')
    producer.publish({'name': 'a'}, exchange=exchange, routing_key='video', declare=[queue], retry=True)
    with kombu_connection.Consumer(queue, callbacks=[take]):
        kombu_connection.drain_events(timeout=5)
    assert got == [{'name': 'a'}]
    assert broker.queue('video').bindings == [('', 'video'), ('media', 'video')] or broker.queue('video').bindings


@pytest.mark.parametrize('kind', ['fanout', 'topic', 'headers'])
def test_kombu_declares_each_type(broker: testing.Broker, kombu_connection: Any, kind: str) -> None:
    channel = kombu_connection.channel()
    exchange = kombu.Exchange(f'x-{kind}', kind)(channel)
    queue = kombu.Queue(f'q-{kind}', exchange, routing_key='#', binding_arguments={'a': 1})(channel)
    queue.declare()
    kombu.Producer(channel, exchange).publish('x', routing_key='k', headers={'a': 1})
    assert queue.get().payload == 'x'


def test_kombu_rejects_and_requeues(kombu_connection: Any) -> None:
    with contextlib.closing(kombu_connection.SimpleQueue('again')) as queue:
        queue.put('x')
        queue.get(timeout=5).requeue()
        message = queue.get(timeout=5)
        assert message.delivery_info['redelivered']
        message.reject()


def test_kombu_purges_and_counts(kombu_connection: Any) -> None:
    with contextlib.closing(kombu_connection.SimpleQueue('many')) as queue:
        for number in range(5):
            queue.put(number)
        assert queue.qsize() == 5
        assert queue.clear() == 5


def test_kombu_priorities(kombu_connection: Any) -> None:
    queue = kombu.Queue('prio', kombu.Exchange('prio'), routing_key='prio', max_priority=10)
    with contextlib.closing(kombu_connection.SimpleQueue(queue)) as simple:
        for priority in (1, 9, 5):
            simple.put(priority, priority=priority)
        assert [simple.get(timeout=5).payload for _ in range(3)] == [9, 5, 1]


def test_kombu_recovers_from_a_cut(broker: testing.Broker, kombu_connection: Any) -> None:
    producer = kombu_connection.Producer()
    queue = kombu.Queue('cut', durable=True)
    producer.publish('1', routing_key='cut', declare=[queue])
    broker.cut()
    broker.wait_until(lambda: not broker.connections)
    policy = {'max_retries': 10, 'interval_start': 0, 'interval_step': 0.01}
    for number in range(3):  # the first may be written into the dead socket without an error
        producer.publish(str(number), routing_key='cut', declare=[queue], retry=True, retry_policy=policy)
    broker.wait_until(lambda: len(broker.published('')) >= 3)
    assert broker.connections_in_all == 2


def test_kombu_survives_a_restart(broker: testing.Broker) -> None:
    with kombu.Connection(broker.url) as connection, contextlib.closing(connection.SimpleQueue('kept')) as queue:
        queue.put('durable')  # without a confirm: it may still be on its way
        broker.wait_until(lambda: len(broker.queue('kept')) == 1)
        broker.restart()
    with kombu.Connection(broker.url) as connection, contextlib.closing(connection.SimpleQueue('kept')) as queue:
        assert queue.get(timeout=5).payload == 'durable'


def test_kombu_mailbox(broker: testing.Broker, kombu_connection: Any) -> None:
    mailbox = Mailbox('test', type='fanout')
    got: list[Any] = []
    node = mailbox(kombu_connection).Node('worker', handlers={'note': lambda state, what: got.append(what)}, state=None)
    node.channel = kombu_connection.channel()
    with contextlib.closing(node.listen(channel=node.channel)):
        mailbox(kombu_connection)._broadcast('note', {'what': 'this'}, destination=['worker'])
        while not got:
            kombu_connection.drain_events(timeout=5)
    assert got == ['this']
    broker.assert_published('test.pidbox', count=1)
