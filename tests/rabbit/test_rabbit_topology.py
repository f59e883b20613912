"""Exchanges, queues and bindings on a real broker."""

from __future__ import annotations

import broker_tools
import pytest

import gamqp
from gamqp import exceptions


@pytest.fixture
def exchange(channel):
    name = broker_tools.fresh_name('ex')
    channel.exchange_declare(name, 'direct', auto_delete=False, durable=True)
    yield name
    if channel.is_open:
        channel.exchange_delete(name)


def arrives(channel, queue, exchange, key):
    channel.basic_publish(gamqp.Message('x'), exchange, key)
    return len(broker_tools.get_all(channel, queue)) == 1


def test_declare_returns_name_and_counts(channel):
    result = channel.queue_declare('', exclusive=True)
    assert result.queue.startswith('amq.gen-')
    assert (result.message_count, result.consumer_count) == (0, 0)
    broker_tools.publish_all(channel, result.queue, [b'1', b'2', b'3'])
    channel.basic_consume(result.queue, no_ack=False, callback=print)
    assert channel.queue_declare(result.queue, passive=True).consumer_count == 1


def test_the_queue_declared_last_is_meant_by_an_empty_name(channel, exchange):
    queue = channel.queue_declare(exclusive=True).queue
    channel.queue_bind('', exchange, 'key')
    assert arrives(channel, queue, exchange, 'key')


@pytest.mark.parametrize('kind', ['direct', 'fanout', 'topic', 'headers'])
def test_exchange_types(channel, queue, kind):
    name = broker_tools.fresh_name('ex')
    channel.exchange_declare(name, kind, auto_delete=False, durable=True)
    channel.queue_bind(queue, name, 'a.b', arguments={'x-match': 'all'} if kind == 'headers' else None)
    assert arrives(channel, queue, name, 'a.b')


def test_passive_declares_find_what_is_there_and_refuse_what_is_not(channel, queue, exchange):
    channel.exchange_declare(exchange, 'direct', passive=True)
    assert channel.queue_declare(queue, passive=True).queue == queue
    with pytest.raises(exceptions.NotFound):
        channel.exchange_declare('nowhere', 'direct', passive=True)
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare('nowhere', passive=True)


def test_bind_and_unbind_a_queue(channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'key', arguments={'note': 1})
    assert arrives(channel, queue, exchange, 'key')
    channel.queue_unbind(queue, exchange, 'key', arguments={'note': 1})
    assert not arrives(channel, queue, exchange, 'key')


def test_bind_and_unbind_an_exchange(channel, queue, exchange):
    second = broker_tools.fresh_name('ex')
    channel.exchange_declare(second, 'fanout', auto_delete=False, durable=True)
    channel.queue_bind(queue, second)
    channel.exchange_bind(second, exchange, 'key')
    assert arrives(channel, queue, exchange, 'key')
    channel.exchange_unbind(second, exchange, 'key')
    assert not arrives(channel, queue, exchange, 'key')
    channel.exchange_delete(second)


def test_purge_and_delete_say_how_many_messages_went(channel):
    queue = channel.queue_declare(exclusive=True).queue
    broker_tools.publish_all(channel, queue, [b'x'] * 7)
    assert channel.queue_purge(queue) == 7
    broker_tools.publish_all(channel, queue, [b'x'] * 3)
    assert channel.queue_delete(queue) == 3


def test_delete_if_empty_refuses_a_queue_with_messages(channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'x'])
    with pytest.raises(exceptions.PreconditionFailed, match='not empty'):
        channel.queue_delete(queue, if_empty=True)
    channel.queue_purge(queue)
    assert channel.queue_delete(queue, if_empty=True) == 0


def test_delete_if_unused_refuses_what_is_in_use(connection, channel, exchange):
    queue = broker_tools.shared_queue(channel)
    other = connection.channel()
    tag = other.basic_consume(queue, callback=print)
    with pytest.raises(exceptions.PreconditionFailed, match='in use'):
        channel.queue_delete(queue, if_unused=True)
    other.basic_cancel(tag)
    channel.queue_bind(queue, exchange)
    with pytest.raises(exceptions.PreconditionFailed, match='in use'):
        channel.exchange_delete(exchange, if_unused=True)
    assert channel.queue_delete(queue, if_unused=True) == 0


def test_nowait_variants_do_the_same(channel):
    queue, exchange, second = broker_tools.fresh_name(), broker_tools.fresh_name('ex'), broker_tools.fresh_name('ex')
    assert channel.queue_declare(queue, exclusive=True, nowait=True) is None
    channel.exchange_declare(exchange, 'fanout', nowait=True, auto_delete=False, durable=True)
    channel.exchange_declare(second, 'fanout', nowait=True, auto_delete=False, durable=True)
    channel.exchange_bind(second, exchange, nowait=True)
    channel.queue_bind(queue, second, nowait=True)
    assert arrives(channel, queue, exchange, '')
    channel.exchange_unbind(second, exchange, nowait=True)
    assert not arrives(channel, queue, exchange, '')
    broker_tools.publish_all(channel, queue, [b'x'])
    assert channel.queue_purge(queue, nowait=True) is None
    broker_tools.wait_ready(channel, queue, 0)
    channel.exchange_delete(exchange, nowait=True)
    channel.exchange_delete(second, nowait=True)
    assert channel.queue_delete(queue, nowait=True) is None
    for name in (exchange, second):
        with pytest.raises(exceptions.NotFound):
            channel.exchange_declare(name, 'fanout', passive=True)
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare(queue, passive=True)


def test_arguments_reach_the_broker(channel):
    queue = channel.queue_declare(exclusive=True, arguments={'x-max-length': 2}).queue
    broker_tools.publish_all(channel, queue, [b'1', b'2', b'3'])
    assert [message.body for message in broker_tools.get_all(channel, queue)] == [b'2', b'3']


def test_message_ttl_and_dead_letters(channel, queue):
    arguments = {'x-message-ttl': 1, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue}
    source = channel.queue_declare(exclusive=True, arguments=arguments).queue
    channel.basic_publish(gamqp.Message('late'), '', source)
    broker_tools.wait_ready(channel, queue, 1)
    death = channel.basic_get(queue, no_ack=True).headers['x-death'][0]
    assert death['queue'] == source
    assert death['reason'] == 'expired'


def test_a_quorum_queue(channel):
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum'})
    broker_tools.publish_all(channel, queue, [b'x'])
    broker_tools.wait_ready(channel, queue, 1)
    channel.basic_get(queue).ack()
    assert channel.queue_delete(queue) == 0


def test_declaring_otherwise_is_a_precondition_failed_that_names_the_argument(channel):
    queue = broker_tools.shared_queue(channel)
    with pytest.raises(exceptions.PreconditionFailed, match='x-max-length'):
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments={'x-max-length': 5})
    channel.queue_delete(queue)


def test_an_exclusive_queue_is_locked_for_others(rabbit, channel, queue):
    with rabbit.connect() as stranger, pytest.raises(exceptions.ResourceLocked):
        stranger.channel().queue_declare(queue, passive=True)


def test_a_reserved_name_is_refused(channel):
    with pytest.raises(exceptions.AccessRefused, match=r'amq\.'):
        channel.queue_declare('amq.mine', exclusive=True)


def test_names_are_unicode(channel):
    name = broker_tools.fresh_name('schlänge-队列')
    assert channel.queue_declare(name, exclusive=True).queue == name
    broker_tools.publish_all(channel, name, [b'x'])
    assert channel.basic_get(name, no_ack=True).delivery_info['routing_key'] == name


def test_a_name_too_long_is_refused_before_anything_is_sent(channel, queue):
    with pytest.raises(exceptions.EncodeError):
        channel.queue_declare('x' * 256, exclusive=True)
    assert channel.queue_declare('x' * 255, exclusive=True).queue == 'x' * 255
