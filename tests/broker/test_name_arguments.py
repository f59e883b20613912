"""Every public argument that is a name: None, bytes, str and what derives from them mean the same everywhere.

The table has each method with each of its names; a method or a name that is added and not entered
fails the last test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions
from gamqp.pool.pool import Lease

NAMES = {'exchange', 'queue', 'routing_key', 'consumer_tag', 'destination', 'source', 'type'}
MESSAGE = gamqp.Message(b'body')

# method -> the name of what goes out first, and the arguments that are none of the names
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    'exchange_declare': ('exchange.declare', {'auto_delete': False, 'nowait': True}),
    'exchange_delete': ('exchange.delete', {'nowait': True}),
    'exchange_bind': ('exchange.bind', {'nowait': True}),
    'exchange_unbind': ('exchange.unbind', {'nowait': True}),
    'queue_declare': ('queue.declare', {'durable': True, 'auto_delete': False, 'nowait': True}),
    'queue_bind': ('queue.bind', {'nowait': True}),
    'queue_unbind': ('queue.unbind', {}),
    'queue_purge': ('queue.purge', {'nowait': True}),
    'queue_delete': ('queue.delete', {'nowait': True}),
    'basic_consume': ('basic.consume', {'nowait': True, 'callback': print}),
    'basic_cancel': ('basic.cancel', {'nowait': True}),
    'basic_get': ('basic.get', {'no_ack': True}),
    'consume': ('basic.consume', {'no_ack': True}),
    'subscribe': ('basic.consume', {'no_ack': True, 'handler': print}),
    'publish': ('basic.publish', {'message': MESSAGE}),
    'basic_publish': ('basic.publish', {'msg': MESSAGE}),
    '_basic_publish': ('basic.publish', {'msg': MESSAGE}),
    'basic_publish_confirm': ('basic.publish', {'msg': MESSAGE}),
}
REQUIRED = {'exchange': 'ex', 'queue': 'q', 'type': 'direct', 'destination': 'to', 'consumer_tag': 'tag'}


class Text(str):
    __slots__ = ()


class Octets(bytes):
    pass


VARIANTS: dict[str, Callable[[str], Any]] = {
    'bytes': str.encode,
    'of str': Text,
    'of bytes': lambda text: Octets(text.encode()),
    'bytearray': lambda text: bytearray(text.encode()),
}


def names_of(function: Any) -> list[str]:
    return [parameter for parameter in inspect.signature(function).parameters if parameter in NAMES]


CASES = [(method, argument) for method in METHODS for argument in names_of(getattr(gamqp.Channel, method))]
each_name = pytest.mark.parametrize(('method', 'argument'), CASES, ids=[' '.join(case) for case in CASES])


def said(peer: ScriptedBroker, channel: gamqp.Channel, method: str, argument: str, value: Any) -> dict[str, Any]:
    """What goes out by the method that matters, and what the channel knows afterwards."""
    first, arguments = METHODS[method]
    names = {one: REQUIRED[one] for one in names_of(getattr(gamqp.Channel, method)) if one in REQUIRED}
    calling = greenlets.spawn(lambda: getattr(channel, method)(**{**arguments, **names, argument: value}))
    while (event := peer.next()).name != first:
        pass
    known = {'consumers': list(channel.callbacks), 'declared': inside.last_declared(channel)}
    known['mandatory'] = inside.mandatory_publishes(channel)
    calling.kill()
    return {**vars(event), **known}


@each_name
@pytest.mark.parametrize('variant', VARIANTS.values(), ids=VARIANTS)
def test_whatever_a_name_is_made_of(
    peer: ScriptedBroker, client: gamqp.Connection, method: str, argument: str, variant: Callable[[str], Any]
) -> None:
    plain = said(peer, peer.open_channel(client, 1), method, argument, 'näme')
    other = said(peer, peer.open_channel(client, 2), method, argument, variant('näme'))
    assert plain.pop('channel') == 1
    assert other.pop('channel') == 2
    assert other == plain
    assert 'näme' in plain.values()


@each_name
@pytest.mark.parametrize('nothing', [None, b'', Text(), Octets()], ids=['None', 'bytes', 'of str', 'of bytes'])
def test_whatever_no_name_is(
    peer: ScriptedBroker, client: gamqp.Connection, method: str, argument: str, nothing: Any
) -> None:
    plain = said(peer, peer.open_channel(client, 1), method, argument, '')
    other = said(peer, peer.open_channel(client, 2), method, argument, nothing)
    for one in (plain, other):  # a tag that was made up has the number of its channel
        number = one.pop('channel')
        for key, value in one.items():
            one[key] = repr(value).replace(f'gamqp.{number}.', 'gamqp.N.')
    assert other == plain


@each_name
@pytest.mark.parametrize('wrong', [b'n\xffme', 5], ids=['no UTF-8', 'no text'])
def test_what_is_no_name_is_refused_before_a_byte_is_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, method: str, argument: str, wrong: Any
) -> None:
    _, arguments = METHODS[method]
    names = {one: REQUIRED[one] for one in names_of(getattr(gamqp.Channel, method)) if one in REQUIRED}
    with pytest.raises(exceptions.EncodeError, match=f'{argument}: '):
        getattr(channel, method)(**{**arguments, **names, argument: wrong})
    assert channel.callbacks == {}
    assert channel.unconfirmed == 0
    peer.expect_nothing_more(client)


def test_a_message_that_came_back_is_known_by_whatever_name_it_was_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    receipts = [channel.publish(b'1', exchange, key, mandatory=True) for exchange, key in ((None, b'k'), (b'', 'k'))]
    waiting = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'2'), None, b'k', True)
    peer.expect('confirm.select')
    for _ in range(3):
        peer.expect('basic.publish')
    back = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'k'}
    peer.raw(b''.join(frames('basic.return', body=body, **back) for body in (b'1', b'1', b'2')))
    peer.raw(frames('confirm.select-ok') + frames('basic.ack', delivery_tag=3, multiple=True))
    for receipt in receipts:
        with pytest.raises(exceptions.Returned):
            receipt.wait(30)
        assert (receipt.exchange, receipt.routing_key) == ('', 'k')
    with pytest.raises(exceptions.Returned):
        waiting.get()


def test_a_consumer_is_cancelled_and_found_by_whatever_its_tag_is(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    starting = greenlets.spawn(lambda: channel.basic_consume('q', b'tag', callback=got.append))
    assert peer.expect('basic.consume').consumer_tag == 'tag'
    peer.raw(
        frames('basic.consume-ok', consumer_tag='tag') + frames('basic.deliver', consumer_tag='tag', delivery_tag=1)
    )
    assert starting.get() == 'tag'
    client.drain_events(timeout=30)
    assert len(got) == 1
    assert inside.queue_of(channel, b'tag') == 'q'
    with pytest.raises(exceptions.NotAllowed):
        channel.basic_consume('q', Text('tag'), callback=print)
    cancelling = greenlets.spawn(channel.basic_cancel, Octets(b'tag'))
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    assert channel.callbacks == {}


@pytest.mark.parametrize('queue', [b'many', Text('many'), 'many'], ids=['bytes', 'of str', 'str'])
def test_what_is_known_of_a_queue_is_known_by_whatever_its_name_is(peer: ScriptedBroker, queue: Any) -> None:
    client = peer.client()
    connecting = greenlets.spawn(client.connect)
    peer.handshake(properties={'product': 'RabbitMQ', 'version': '4.3.0'})
    connecting.get()
    channel = peer.open_channel(client)
    declaring = greenlets.spawn(
        lambda: channel.queue_declare(b'many', durable=True, auto_delete=False, arguments={'x-queue-type': 'stream'})
    )
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='many')
    declaring.get()
    for call in (lambda: channel.basic_get(queue), lambda: channel.queue_purge(queue)):
        with pytest.raises(exceptions.AMQPNotImplementedError):
            call()


# -- RPC and pools -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', [b'rpc', Text('rpc'), 'rpc'], ids=['bytes', 'of str', 'str'])
def test_rpc_calls(peer: ScriptedBroker, channel: gamqp.Channel, name: Any) -> None:
    client = gamqp.RPCClient(channel)
    calling = greenlets.spawn(lambda: client.call(b'', name, None))
    peer.expect('basic.consume')
    request = peer.expect('basic.publish')
    assert (request.exchange, request.routing_key) == ('', 'rpc')
    back = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'rpc'}
    peer.send('basic.return', properties=request.properties, **back)
    with pytest.raises(exceptions.Returned):
        calling.get()
    for wrong in ({'routing_key': b'\xff'}, {'routing_key': 'k', 'exchange': b'\xff'}):
        with pytest.raises(exceptions.EncodeError, match=f'{list(wrong)[-1]}: bytes that are not UTF-8'):
            client.call(b'', **wrong)
    assert client.calls == 1


def test_rpc_servers(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """And a reply that is wanted where no name can be is no reason to handle a request for ever."""
    for wrong in ({'queue': b'\xff'}, {'queue': 'q', 'consumer_tag': b'\xff'}):
        with pytest.raises(exceptions.EncodeError, match=f'{list(wrong)[-1]}: bytes that are not UTF-8'):
            gamqp.RPCServer(channel, handler=print, **wrong)
    starting = greenlets.spawn(lambda: gamqp.RPCServer(channel, b'q', lambda request: b'', consumer_tag=b'tag'))
    peer.expect('basic.qos')
    asked = peer.expect('basic.consume')
    assert (asked.queue, asked.consumer_tag) == ('q', 'tag')
    peer.raw(frames('basic.qos-ok') + frames('basic.consume-ok', consumer_tag='tag'))
    server = starting.get()
    assert server.queue == 'q'
    peer.send('basic.deliver', consumer_tag='tag', delivery_tag=1, properties={'reply_to': b'\xff'})
    refused = peer.expect('basic.reject')
    assert (refused.delivery_tag, refused.requeue) == (1, False)


def test_pools_refuse_before_they_connect() -> None:
    with gamqp.Pool(lambda: pytest.fail('connected')) as pool:
        for wrong in ({'exchange': b'\xff'}, {'routing_key': b'\xff'}):
            with pytest.raises(exceptions.EncodeError, match=f'{next(iter(wrong))}: bytes that are not UTF-8'):
                pool.publish(b'', **wrong)


def test_no_method_and_no_name_is_left_out() -> None:
    public = {
        name
        for name, function in inspect.getmembers(gamqp.Channel, inspect.isfunction)
        if names_of(function) and (not name.startswith('_') or name in METHODS)
    }
    assert public == set(METHODS)
    others = {
        (cls.__name__, name, argument)
        for cls in (gamqp.Pool, Lease, gamqp.RPCClient, gamqp.RPCServer, gamqp.Connection)
        for name, function in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith('_') or name == '__init__'
        for argument in names_of(function)
    }
    assert others == {
        ('Pool', 'publish', 'exchange'),
        ('Pool', 'publish', 'routing_key'),
        ('RPCClient', 'call', 'exchange'),
        ('RPCClient', 'call', 'routing_key'),
        ('RPCServer', '__init__', 'queue'),
        ('RPCServer', '__init__', 'consumer_tag'),
    }
