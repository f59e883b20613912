"""What a test sees of the broker, and how assertions say what is different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conversations import BrokerTalker

from gamqp import testing


@pytest.fixture
def talk(broker: testing.Broker) -> Iterator[BrokerTalker]:
    talk = BrokerTalker(broker, '')
    talk.open(1)
    talk.ask('queue.declare', queue='q', durable=True, arguments={'x-max-priority': 3})
    yield talk
    talk.close()


def test_messages_ready_and_unacked(broker: testing.Broker, talk: BrokerTalker) -> None:
    talk.publish('', 'q', b'1', content_type='text/plain', application_headers={'n': 1})
    talk.publish('', 'q', b'2')
    talk.ask('basic.get', queue='q')
    queue = broker.queue('q')
    assert [message.body for message in queue.messages] == [b'2'] and len(queue) == 1
    (held,) = queue.unacked
    assert (held.text, held.headers, held.properties) == ('1', {'n': 1}, {'content_type': 'text/plain'})
    assert (queue.kind, queue.durable, queue.exclusive, queue.arguments) == (
        'classic',
        True,
        False,
        {'x-max-priority': 3},
    )
    talk.ask('queue.delete', queue='q')
    assert not queue.exists


def test_consumers(broker: testing.Broker, talk: BrokerTalker) -> None:
    talk.ask('basic.qos', prefetch_count=2)
    talk.ask('basic.consume', queue='q', consumer_tag='a', arguments={'x-priority': 7})
    broker.publish('', 'q', b'x')
    (consumer,) = broker.queue('q').consumers
    assert (consumer.tag, consumer.prefetch, consumer.priority, consumer.unacked) == ('a', 2, 7, 1)
    assert consumer.active and not consumer.no_ack


def test_connections(broker: testing.Broker, talk: BrokerTalker) -> None:
    (connection,) = broker.connections
    assert connection.open and connection.user == 'guest' and connection.vhost == '/' and connection.channels == [1]
    assert connection.client_properties['capabilities']['basic.nack'] is True
    assert connection.name.endswith(f'-> 127.0.0.1:{broker.port}')
    talk.ask('connection.close', reply_code=200, reply_text='bye')
    assert connection.close_reason == (200, 'bye') and broker.connections == [] and broker.connections_in_all == 1


def test_assert_published(broker: testing.Broker, talk: BrokerTalker) -> None:
    with pytest.raises(AssertionError, match='nothing was published to it'):
        broker.assert_published('amq.topic')
    talk.publish('amq.topic', 'a.b', b'hello', application_headers={'n': 1}, priority=3)
    talk.settle()
    (message,) = broker.assert_published('amq.topic', 'a.b', 'hello', headers={'n': 1}, priority=3)
    assert message == broker.published('amq.topic', 'a.b')[0] and not broker.published('amq.topic', 'other')
    with pytest.raises(AssertionError) as caught:
        broker.assert_published('amq.topic', 'a.c', headers={'n': 2, 'm': 1}, priority=4)
    for line in (
        "routing_key is 'a.b', not 'a.c'",
        "header 'n' is 1, not 2",
        "header 'm' is None",
        'priority is 3, not 4',
    ):
        assert line in str(caught.value)
    with pytest.raises(AssertionError, match=r'2 messages .* 1 found'):
        broker.assert_published('amq.topic', count=2)
    with pytest.raises(AssertionError, match=r"b'hello' to 'amq.topic'"):
        broker.assert_nothing_published('amq.topic')
    broker.forget_published()
    broker.assert_nothing_published('amq.topic')


def test_assert_messages_and_drained(broker: testing.Broker) -> None:
    with BrokerQueue(broker):
        broker.publish('', 'q', b'1')
        broker.publish('', 'q', b'2')
        broker.assert_messages('q', b'1', '2')
        with pytest.raises(AssertionError, match=r"(?s)  0: expected b'1', found b'1'\n! 1: expected b'3', found b'2'"):
            broker.assert_messages('q', b'1', b'3')
        with pytest.raises(AssertionError, match=r'2 messages ready and 0 unacked'):
            broker.assert_drained('q')


class BrokerQueue:
    """A broker with a queue, without a client."""

    def __init__(self, broker: testing.Broker) -> None:
        self.talk = BrokerTalker(broker, '')
        self.talk.open(1)
        self.talk.ask('queue.declare', queue='q', durable=True)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.talk.close()


def test_history_is_bounded_and_says_so() -> None:
    with testing.Broker(history=10_000) as broker:
        talk = BrokerTalker(broker, '')
        talk.open(1)
        for _ in range(100):
            talk.publish('', 'nowhere', b'x' * 100)
        talk.settle()
        with pytest.raises(LookupError, match=r'75 messages to exchange .* are not kept any more'):
            broker.published('')
        talk.close()


def test_publish_as_somebody_else(broker: testing.Broker, talk: BrokerTalker) -> None:
    assert broker.publish('', 'q', 'text', application_headers={'a': [1]}, correlation_id='c') == 1
    assert broker.publish('amq.fanout', '', b'') == 0
    with pytest.raises(LookupError, match="there is no exchange 'x'"):
        broker.publish('x', 'q')
    with pytest.raises(ValueError, match='priority'):
        broker.publish('', 'q', priority=1000)
    assert broker.published('') == []
    assert broker.queue('q').messages[0].properties == {'correlation_id': 'c'}
