"""Users, virtual hosts and permissions, in RabbitMQ's words."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from conversations import BrokerTalker, Talker

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
    with pytest.raises(LookupError, match="there is no user 'bob'"):
        broker.set_topic_permissions('bob', 'amq.topic')
    for call in (
        lambda: broker.set_permissions('guest', vhost='x'),
        lambda: broker.set_topic_permissions('guest', 'amq.topic', vhost='x'),
        lambda: broker.queue('q', vhost='x'),
        lambda: broker.queues('x'),
        lambda: broker.published('', vhost='x'),
        lambda: broker.publish('', 'q', vhost='x'),
    ):
        with pytest.raises(LookupError, match="there is no virtual host 'x'; there are: '/'"):
            call()


def talk_of_topics(talk: Talker) -> Any:
    """What bob may do with routing keys: in amq.topic write with 'w.bob…', read by 'r…'. Returns what is answered."""
    talk.user, talk.password = 'bob.of.topics', 'pw'
    talk.open(*range(1, 11))
    talk.ask('queue.declare', queue='~q', exclusive=True)
    talk.ask('queue.bind', queue='~q', exchange='amq.topic', routing_key='r.#')
    talk.ask('queue.bind', 2, queue='~q', exchange='amq.topic', routing_key='other')
    talk.ask('exchange.bind', 3, destination='amq.fanout', source='amq.topic', routing_key='other')
    talk.ask('queue.unbind', 4, queue='~q', exchange='amq.topic', routing_key='other')
    for ch, exchange, key in (
        (5, 'amq.topic', 'w.bob.of.topics'),
        (5, 'amq.topic', 'other'),
        (6, 'amq.direct', 'other'),
    ):
        talk.publish(exchange, key, ch=ch, mandatory=True)
        talk.settle()
    talk.publish('amq.topic', 'w.bob.of.topics', ch=7, mandatory=True, application_headers={'CC': ['other']})
    talk.settle()
    talk.ask('exchange.declare', 8, exchange='~x', type='topic', auto_delete=True)
    talk.publish(f'{talk.prefix}x', 'other', ch=8, mandatory=True)
    talk.settle()
    talk.ask('exchange.bind', 9, destination='amq.topic', source='amq.headers', routing_key='other')
    talk.ask('exchange.unbind', 9, destination='amq.topic', source='amq.headers', routing_key='other')
    talk.ask('queue.unbind', 10, queue='~q', exchange='amq.topic', routing_key='r.#')
    talk.close()
    return talk.by_channel()


def here(like: str) -> Any:
    with testing.Broker(like) as broker:
        broker.add_user('bob.of.topics', 'pw')
        broker.set_permissions('bob.of.topics')
        broker.set_topic_permissions('bob.of.topics', 'amq.topic', r'^w\.{username}', r'^r\.')
        return talk_of_topics(BrokerTalker(broker, 'topics-'))


def test_topics(like: str) -> None:
    found = here(like)
    for channels, permission in (((2, 3, 4), 'read'), ((5, 7) if like == '4.3' else (5,), 'write')):
        for channel in channels:
            (text,) = (values['reply_text'] for name, values in found[channel] if name == 'channel.close')
            what = f'{permission} access' if like == '4.3' else 'access'
            where = "topic 'other' in exchange 'amq.topic' in vhost '/'"
            assert text == f"ACCESS_REFUSED - {what} to {where} refused for user 'bob.of.topics'"
    closed = {channel for channel, record in found.items() if 'channel.close' in dict(record)}
    assert closed == ({2, 3, 4, 5, 7} if like == '4.3' else {2, 3, 4, 5})


@pytest.mark.slow
def test_topics_as_with_rabbitmq(rabbit: Any) -> None:
    user, vhost = 'bob.of.topics', quote(rabbit.vhost, '')
    rabbit.node.api(f'users/{user}', 'PUT', {'password': 'pw', 'tags': ''})
    try:
        rabbit.node.api(f'permissions/{vhost}/{user}', 'PUT', dict.fromkeys(('configure', 'write', 'read'), '.*'))
        topics = {'exchange': 'amq.topic', 'write': r'^w\.{username}', 'read': r'^r\.'}
        rabbit.node.api(f'topic-permissions/{vhost}/{user}', 'PUT', topics)
        for quiet in (0.3, 1.0, 4.0):  # on a busy machine an answer may come late
            there = talk_of_topics(Talker(rabbit.url, 'topics-', quiet))
            if there == here(rabbit.label):
                return
        assert there == here(rabbit.label)
    finally:
        rabbit.node.api(f'users/{user}', 'DELETE')
