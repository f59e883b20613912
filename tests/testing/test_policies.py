"""Policies: settings by the names of queues and exchanges, beside those of the declarations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conversations import BrokerTalker

from gamqp import testing


@pytest.fixture
def talk(broker: testing.Broker) -> Iterator[BrokerTalker]:
    talk = BrokerTalker(broker, '')
    talk.open(1)
    yield talk
    talk.close()


def declare(talk: BrokerTalker, name: str, **arguments: object) -> None:
    talk.ask('queue.declare', queue=name, durable=True, arguments=arguments)


def test_it_holds_for_what_is_there_and_for_what_comes(broker: testing.Broker, talk: BrokerTalker) -> None:
    declare(talk, 'dead')
    declare(talk, 'orders.old')
    for body in (b'1', b'2', b'3'):
        broker.publish('', 'orders.old', body)
    definition = {'max-length': 1, 'dead-letter-exchange': '', 'dead-letter-routing-key': 'dead'}
    broker.set_policy('limit', '^orders', definition)
    broker.assert_messages('orders.old', b'3')
    broker.assert_messages('dead', b'1', b'2')
    declare(talk, 'orders.new')
    for body in (b'4', b'5'):
        broker.publish('', 'orders.new', body)
    broker.assert_messages('orders.new', b'5')
    broker.clear_policy('limit')
    broker.publish('', 'orders.new', b'6')
    broker.assert_messages('orders.new', b'5', b'6')


def test_the_lower_number_and_the_argument_hold(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.set_policy('all', '', {'message-ttl': 20000, 'dead-letter-exchange': 'elsewhere'}, 'queues')
    for name in ('dead', 'short', 'long'):
        arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'} if name != 'dead' else {}
        declare(talk, name, **arguments, **{'x-message-ttl': {'short': 10000}.get(name, 30000)})
    broker.publish('', 'short', b'short')
    broker.publish('', 'long', b'long')
    broker.clock.advance(11)
    broker.assert_messages('dead', b'short')
    broker.clock.advance(10)
    broker.assert_messages('long')


def test_the_highest_priority_holds_alone(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.set_policy('few', '', {'max-length': 1}, 'classic_queues')
    broker.set_policy('more', '^q', {'max-length-bytes': 100}, priority=1)
    broker.set_policy('quorum', '', {'max-length': 0}, 'quorum_queues', priority=2)
    declare(talk, 'q')
    for body in (b'1', b'2'):
        broker.publish('', 'q', body)
    broker.assert_messages('q', b'1', b'2')


def test_an_alternate_exchange(broker: testing.Broker, talk: BrokerTalker) -> None:
    declare(talk, 'rest')
    talk.ask('queue.bind', queue='rest', exchange='amq.fanout')
    talk.publish('amq.topic', 'nowhere', b'lost')
    talk.settle()
    broker.set_policy('rest', '^amq.topic$', {'alternate-exchange': 'amq.fanout'}, 'exchanges')
    talk.publish('amq.topic', 'nowhere', b'kept')
    talk.settle()
    broker.assert_messages('rest', b'kept')


def test_a_delivery_limit_and_expiry(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.set_policy('limits', '', {'delivery-limit': 1, 'expires': 60000})
    declare(talk, 'q', **{'x-queue-type': 'quorum'})
    broker.publish('', 'q', b'x')
    for tag in (1, 2):
        talk.ask('basic.get', queue='q')
        talk.ask('basic.reject', delivery_tag=tag, requeue=True)
    broker.assert_messages('q')
    broker.clock.advance(61)
    assert not broker.queues()


def test_what_is_not_known_is_named(broker: testing.Broker) -> None:
    with pytest.raises(ValueError, match="'max_length' is none of alternate-exchange, dead-letter"):
        broker.set_policy('p', '', {'max_length': 1})
    with pytest.raises(ValueError, match='apply_to: one of all, queues'):
        broker.set_policy('p', '', {}, 'nothing')
    with pytest.raises(LookupError, match="no policy 'p'"):
        broker.clear_policy('p')


def test_quorum_queues_retry_late(broker: testing.Broker, talk: BrokerTalker) -> None:
    """Later with each failure, up to a limit, also where a channel ends; a queue that is deleted meanwhile is gone."""
    definition = {'delayed-retry-type': 'failed', 'delayed-retry-min': 1000, 'delayed-retry-max': 2500}
    broker.set_policy('late', '^jobs', definition, 'quorum_queues')
    declare(talk, 'jobs', **{'x-queue-type': 'quorum'})
    broker.publish('', 'jobs', b'1')
    for tag, seconds in enumerate((1.0, 2.0, 2.5), 1):
        assert talk.ask('basic.get', queue='jobs')[0][2]['delivery_tag'] == tag
        talk.ask('basic.reject', delivery_tag=tag, requeue=True)
        broker.clock.advance(seconds - 0.01)
        broker.assert_messages('jobs')
        broker.clock.advance(0.02)
        broker.assert_messages('jobs', b'1')
    talk.ask('basic.get', queue='jobs')
    talk.ask('channel.close')
    broker.assert_messages('jobs')
    talk.ask('channel.open')
    talk.ask('queue.delete', queue='jobs')
    declare(talk, 'jobs', **{'x-queue-type': 'quorum'})
    broker.clock.advance(60)
    broker.assert_messages('jobs')
