"""What a connection notes of its channels' declarations and consumers, when the broker has answered."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp.state.topology_registry import TopologyRegistry

OKS = {
    'exchange.declare': {},
    'exchange.delete': {},
    'exchange.bind': {},
    'exchange.unbind': {},
    'queue.bind': {},
    'queue.unbind': {},
    'queue.delete': {},
    'queue.declare': {'queue': 'amq.gen-1'},
}


@pytest.fixture
def registry(client: gamqp.Connection) -> TopologyRegistry:
    """What ``client`` records from now on."""
    return inside.record_topology(client)


def call(peer: ScriptedBroker, method: Callable[..., Any], *args: Any, **how: Any) -> Any:
    """Make a call that the peer grants. Returns what came to the peer."""
    calling = greenlets.spawn(functools.partial(method, *args, **how))
    asked = peer.next()
    if not how.get('nowait') or asked.name == 'queue.unbind':
        ok = dict(OKS[asked.name])
        if getattr(asked, 'queue', ''):
            ok = dict.fromkeys(ok, asked.queue)
        peer.send(f'{asked.name}-ok', **ok)
    calling.get()
    return asked


def kinds(registry: TopologyRegistry) -> list[str]:
    return [record['kind'] for record in registry.topology()]


def test_each_call_is_recorded_as_it_was_made(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    call(peer, channel.exchange_declare, 'e', 'topic', durable=True, auto_delete=False, arguments={'x': 1})
    call(peer, channel.exchange_declare, 'f', 'fanout', auto_delete=False)
    call(peer, channel.exchange_bind, 'f', 'e', 'k', arguments={'y': 2})
    call(peer, channel.queue_declare, 'q', durable=True, auto_delete=False, arguments={'z': 3})
    call(peer, channel.queue_bind, 'q', 'f', 'l')
    begin(peer, lambda: channel.subscribe('q', print, prefetch=7, exclusive=True, consumer_tag='t'))
    assert [{name: value for name, value in record.items() if value} for record in registry.topology()] == [
        {'kind': 'exchange', 'exchange': 'e', 'type': 'topic', 'durable': True, 'arguments': {'x': 1}},
        {'kind': 'exchange', 'exchange': 'f', 'type': 'fanout'},
        {
            'kind': 'binding',
            'source': 'e',
            'destination': 'f',
            'destination_type': 'exchange',
            'routing_key': 'k',
            'arguments': {'y': 2},
        },
        {'kind': 'queue', 'queue': 'q', 'durable': True, 'arguments': {'z': 3}},
        {'kind': 'binding', 'source': 'f', 'destination': 'q', 'destination_type': 'queue', 'routing_key': 'l'},
        {'kind': 'consumer', 'channel': 1, 'queue': 'q', 'consumer_tag': 't', 'exclusive': True, 'prefetch': 7},
    ]
    call(peer, channel.exchange_unbind, 'f', 'e', 'k', arguments={'y': 2})
    call(peer, channel.queue_unbind, 'q', 'f', 'l')
    call(peer, channel.exchange_delete, 'e')
    assert kinds(registry) == ['exchange', 'queue', 'consumer']
    call(peer, channel.queue_delete, 'q')
    call(peer, channel.exchange_delete, 'f', nowait=True)
    assert kinds(registry) == ['consumer']


def test_each_consumer_keeps_the_prefetch_with_which_it_began(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    for prefetch in (10, 20, 30):
        begin(peer, functools.partial(channel.subscribe, 'q', print, prefetch=prefetch))
    qos = greenlets.spawn(channel.basic_qos, 0, 5, False)
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    qos.get()
    begin(peer, lambda: channel.basic_consume('q', callback=print))
    begin(peer, lambda: channel.subscribe('q', print, no_ack=True, prefetch=9))
    assert [consumer.prefetch for consumer in registry.consumers(1)] == [10, 20, 30, 5, 5]


def test_a_declaration_counts_although_its_caller_was_killed(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    """The broker has done it. And a binding of the queue declared last is one of this queue."""
    declaring = greenlets.spawn(functools.partial(channel.queue_declare, 'q', durable=True, auto_delete=False))
    peer.expect('queue.declare')
    declaring.kill()
    with pytest.raises(GreenletExit):
        declaring.get()
    assert registry.topology() == []
    peer.send('queue.declare-ok', queue='q')
    greenlets.wait_until(lambda: registry.topology())
    assert inside.last_declared(channel) == 'q'
    assert call(peer, channel.queue_bind, '', 'e').queue == 'q'
    assert kinds(registry) == ['queue', 'binding']


def test_what_the_broker_refuses_is_not_recorded(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    begin(peer, lambda: channel.subscribe('q', print))
    declaring = greenlets.spawn(functools.partial(channel.queue_declare, 'q', durable=True, auto_delete=False))
    peer.expect('queue.declare')
    assert kinds(registry) == ['consumer']
    peer.send('channel.close', reply_code=406, reply_text='no', class_id=50, method_id=10)
    with pytest.raises(gamqp.PreconditionFailed):
        declaring.get()
    peer.reopen()
    assert registry.topology() == []  # the channel's consumers have ended with it


def test_what_need_not_be_recorded(peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry) -> None:
    call(peer, channel.exchange_declare, 'amq.topic', 'topic', durable=True, auto_delete=False)
    call(peer, channel.exchange_declare, 'e', 'topic', passive=True)
    call(peer, channel.queue_declare, 'q', passive=True)
    call(peer, channel.exchange_declare, 'e', 'topic', auto_delete=False, recover=False)
    call(peer, channel.exchange_bind, 'e', 'f', recover=False)
    call(peer, channel.queue_declare, 'q', durable=True, auto_delete=False, recover=False)
    call(peer, channel.queue_bind, 'q', 'e', recover=False)
    deliveries = begin(peer, lambda: channel.consume('q', recover=False))
    begin(peer, lambda: channel.subscribe('q', print, recover=False))
    begin(peer, lambda: channel.basic_consume('q', callback=print, recover=False))
    begin(peer, lambda: channel.basic_consume('amq.rabbitmq.reply-to', no_ack=True, callback=print, recover=False))
    assert registry.topology() == []
    del deliveries  # which would have ended its consumer


def test_nowait_counts_when_it_is_sent(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    channel.exchange_declare('e', 'topic', auto_delete=False, nowait=True)
    channel.queue_declare('q', durable=True, auto_delete=False, nowait=True)
    channel.queue_bind('', 'e', nowait=True)
    assert kinds(registry) == ['exchange', 'queue', 'binding']
    channel.queue_delete('q', nowait=True)
    assert kinds(registry) == ['exchange']
    said = [peer.next() for _ in range(4)]
    # Where the queue is '', the broker takes '' for its name in the routing key, too.
    assert (said[2].queue, said[2].routing_key) == ('q', 'q')


def test_a_queue_that_the_broker_has_named_is_recorded_by_its_name(
    peer: ScriptedBroker, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    assert call(peer, channel.queue_declare, '', exclusive=True).queue == ''
    assert call(peer, channel.queue_bind, '', 'e', 'k').queue == 'amq.gen-1'
    begin(peer, lambda: channel.basic_consume(callback=print))
    queue, binding, consumer = registry.topology()
    assert (queue['queue'], queue['server_named']) == ('amq.gen-1', True)
    assert (binding['destination'], binding['routing_key'], consumer['queue']) == ('amq.gen-1', 'k', 'amq.gen-1')
    purging = greenlets.spawn(channel.queue_purge)
    assert peer.expect('queue.purge').queue == 'amq.gen-1'
    peer.send('queue.purge-ok', message_count=0)
    purging.get()
    getting = greenlets.spawn(channel.basic_get)
    assert peer.expect('basic.get').queue == 'amq.gen-1'
    peer.send('basic.get-empty')
    assert getting.get() is None


def test_without_a_registry_the_broker_resolves_the_queue_declared_last(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    call(peer, channel.queue_declare, '', exclusive=True)
    asked = call(peer, channel.queue_bind, '', 'e')
    assert (asked.queue, asked.routing_key) == ('', '')
    assert call(peer, channel.queue_delete).queue == ''


def test_a_consumer_is_forgotten_however_it_ends(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    by_program = begin(peer, lambda: channel.subscribe('q', print))
    by_broker = begin(peer, lambda: channel.subscribe('q', print))
    begin(peer, lambda: channel.subscribe('q', print))
    assert len(registry.topology()) == 3
    cancelling = greenlets.spawn(by_program.cancel)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag=by_program.tag)
    cancelling.get()
    assert len(registry.topology()) == 2
    peer.send('basic.cancel', consumer_tag=by_broker.tag, nowait=True)
    peer.expect('basic.cancel')
    assert len(registry.topology()) == 1
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    closing.get()
    assert registry.topology() == []


def test_the_end_of_the_connection_leaves_what_was_declared(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    call(peer, channel.queue_declare, 'q', exclusive=True, auto_delete=True)
    begin(peer, lambda: channel.subscribe('q', print))
    assert kinds(registry) == ['queue', 'consumer']
    peer.cut()
    greenlets.wait_until(lambda: not client.is_open)
    assert kinds(registry) == ['queue']


def test_a_consumer_that_is_being_started_is_known_by_its_expected_reply(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, registry: TopologyRegistry
) -> None:
    """A loss before consume-ok leaves it to whoever restores it."""
    starting = greenlets.spawn(functools.partial(channel.basic_consume, 'q', 't', callback=print))
    peer.expect('basic.consume')
    record = inside.consumer_being_started(channel, 't')
    assert (record.queue, record.tag, registry.holds(record)) == ('q', 't', False)
    peer.send('basic.consume-ok', consumer_tag='t')
    starting.get()
    assert registry.holds(record)
