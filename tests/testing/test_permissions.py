"""Users, virtual hosts and permissions, in RabbitMQ's words."""

from __future__ import annotations

from typing import Any

import pytest
from conversations import BrokerTalker

from gamqp import testing

#: method, arguments, and what is refused: the permission and the resource
REFUSED: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ('queue.declare', {'queue': 'q1', 'exclusive': True}, ('configure', "queue 'q1'")),
    ('exchange.declare', {'exchange': 'x', 'type': 'direct'}, ('configure', "exchange 'x'")),
    ('basic.get', {'queue': 'c1'}, ('read', "queue 'c1'")),
    ('queue.bind', {'queue': 'c1', 'exchange': 'amq.direct'}, ('write', "queue 'c1'")),
    ('queue.bind', {'queue': 'w1', 'exchange': 'amq.direct'}, ('read', "exchange 'amq.direct'")),
    ('queue.delete', {'queue': 'x'}, ('configure', "queue 'x'")),
    ('queue.purge', {'queue': 'x'}, ('read', "queue 'x'")),
    ('basic.consume', {'queue': 'x'}, ('read', "queue 'x'")),
    (
        'queue.declare',
        {'queue': 'c2', 'exclusive': True, 'arguments': {'x-dead-letter-exchange': 'z'}},
        ('read', "queue 'c2'"),
    ),
    (
        'exchange.declare',
        {'exchange': 'cx', 'type': 'direct', 'arguments': {'alternate-exchange': 'z'}},
        ('read', "exchange 'cx'"),
    ),
]


def bob(broker: testing.Broker) -> BrokerTalker:
    talk = BrokerTalker(broker, '')
    talk.user, talk.password = 'bob', 'pw'
    talk.open(1)
    return talk


@pytest.mark.parametrize(('method', 'arguments', 'refused'), REFUSED)
def test_refused(like: str, method: str, arguments: dict[str, Any], refused: tuple[str, str]) -> None:
    with testing.Broker(like) as broker:
        broker.add_user('bob', 'pw')
        broker.set_permissions('bob', '^c', '^w', '^r')
        talk = bob(broker)
        came = talk.ask(method, **arguments)
        permission = f'{refused[0]} ' if like == '4.3' else ''
        text = f"ACCESS_REFUSED - {permission}access to {refused[1]} in vhost '/' refused for user 'bob'"
        assert (came[0][1], came[0][2]['reply_text']) == ('channel.close', text)
        talk.close()


def test_publish_and_passive_declare(like: str) -> None:
    with testing.Broker(like) as broker:
        broker.add_user('bob', 'pw')
        broker.set_permissions('bob', '^c', '^w', '^r')
        talk = bob(broker)
        talk.publish('', 'q')
        assert "access to exchange 'amq.default'" in talk.settle()[0][2]['reply_text']
        came = talk.ask('queue.declare', queue='x', passive=True)
        assert came[0][2]['reply_code'] == (403 if like == '4.3' else 404)
        talk.close()


def test_changed_permissions_hold_at_once(broker: testing.Broker) -> None:
    broker.add_user('bob', 'pw')
    talk = bob(broker)
    talk.publish('', 'nowhere', mandatory=True)
    assert talk.settle()[0][1] == 'basic.return'
    broker.set_permissions('bob', write='')
    talk.publish('', 'nowhere', mandatory=True)
    assert talk.settle()[0][1] == 'channel.close'
    talk.close()


def test_virtual_hosts_are_apart() -> None:
    with testing.Broker(vhosts=('one', 'two'), users={'bob': 'pw'}) as broker:
        assert broker.url.startswith('amqp://bob:pw@') and broker.url.endswith('/one')
        talk = BrokerTalker(broker, '')
        talk.open(1)
        talk.ask('queue.declare', queue='q', durable=True)
        assert set(broker.queues('one')) == {'q'} and not broker.queues('two')
        broker.add_vhost('three')
        talk.close()
        talk = BrokerTalker(broker, '')
        talk.open(1, vhost='three')
        assert broker.connections[-1].vhost == 'three'
        talk.close()


def test_user_id_must_be_the_user(broker: testing.Broker) -> None:
    broker.add_user('bob', 'pw')
    talk = bob(broker)
    talk.publish('', 'nowhere', mandatory=True, user_id='bob')
    assert talk.settle()[0][1] == 'basic.return'
    talk.publish('', 'nowhere', mandatory=True, user_id='guest')
    expected = "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'bob'"
    assert talk.settle()[0][2]['reply_text'] == expected
    talk.close()


def test_what_is_not_there_is_named(broker: testing.Broker) -> None:
    with pytest.raises(LookupError, match="there is no user 'bob'"):
        broker.set_permissions('bob')
    for call in (
        lambda: broker.set_permissions('guest', vhost='x'),
        lambda: broker.queue('q', vhost='x'),
        lambda: broker.queues('x'),
        lambda: broker.published('', vhost='x'),
        lambda: broker.publish('', 'q', vhost='x'),
    ):
        with pytest.raises(LookupError, match="there is no virtual host 'x'; there are: '/'"):
            call()
