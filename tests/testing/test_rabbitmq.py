"""A virtual host of a real RabbitMQ, seen as a broker for tests is; and the same test with both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import gamqp
from gamqp import testing
from gamqp.testing.rabbitmq import RabbitMQ


@pytest.fixture(params=['testing', 'rabbitmq'])
def broker(request: Any) -> Iterator[Any]:
    if request.param == 'testing':
        with testing.Broker() as broker:
            yield broker
        return
    rabbit = request.getfixturevalue('rabbit')
    with RabbitMQ(rabbit.node.url(), rabbit.node.management) as broker:
        yield broker


@pytest.mark.any_broker
def test_what_a_test_sees(broker: Any, rabbit: Any) -> None:
    with gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        channel.exchange_declare('x', 'topic', auto_delete=False)
        channel.queue_declare('q', durable=True, auto_delete=False)
        channel.queue_bind('q', 'x', '#')
        channel.confirm_select()
        message = gamqp.Message('hello', application_headers={'h': 1}, content_type='text/plain')
        channel.publish(message, exchange='x', routing_key='a.b').wait()
        assert broker.publish('x', 'k', 'other') == 1
        assert broker.publish('', 'nowhere') == 0
        broker.wait_until(lambda: broker.published('x'))
        broker.assert_published('x', 'a.b', body='hello', headers={'h': 1}, content_type='text/plain', count=1)
        broker.assert_published('x', count=1)
        broker.assert_nothing_published()
        broker.assert_messages('q', 'hello', 'other')
        assert len(broker.queue('q')) == 2 and broker.queue('q').exists
        assert broker.like.startswith('rabbitmq-')
        for call in (lambda: broker.queue('missing'), lambda: broker.publish('missing', 'k')):
            with pytest.raises(LookupError, match='missing'):
                call()
        with pytest.raises(AssertionError, match='not within 0 s'):
            broker.wait_until(lambda: broker.queue('missing'), timeout=0)
        channel.queue_purge('q')
        broker.assert_messages('q')
        queue = broker.queue('q')
        channel.queue_delete('q')
        assert not queue.exists


@pytest.mark.slow
@pytest.mark.any_broker
def test_what_the_management_knows(broker: Any, rabbit: Any) -> None:
    """It is seconds late."""
    connection = gamqp.connect(broker.url)
    channel = connection.channel()
    channel.queue_declare('q', durable=True, auto_delete=False)
    broker.publish('', 'q', 'x')
    message = channel.basic_get('q')
    broker.wait_until(lambda: len(broker.queue('q').unacked) == 1)
    message.ack()
    broker.wait_until(lambda: not broker.queue('q').unacked)
    broker.assert_drained('q')
    broker.wait_until(lambda: len(broker.connections) == 1)
    broker.close(broker.connections[0])
    broker.wait_until(lambda: not broker.connections)
    with pytest.raises(gamqp.ConnectionForced):
        channel.queue_declare('q', passive=True)
    connection.close()
