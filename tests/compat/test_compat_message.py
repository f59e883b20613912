"""Messages, and calls on what is closed, as programs and cleanup code written for py-amqp use them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import broker_tools
import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp import exceptions, serialization

#: What celery gives to kombu's publish, and kombu to Message, beside true properties.
CELERYS = {'origin': 'gen1@host', 'argsrepr': "('a',)", 'periodic_task_name': 'every minute', 'headers': {'x': 1}}


@pytest.fixture
def queue(channel: gamqp.Channel) -> str:
    return channel.queue_declare(exclusive=True, auto_delete=False).queue


# -- names that are no property ---------------------------------------------------------------


@pytest.mark.parametrize('how', ['basic_publish', 'basic_publish_confirm', 'publish'])
def test_unknown_properties_of_a_message_are_ignored(channel: Any, queue: str, how: str) -> None:
    message = gamqp.Message('x', priority=3, **CELERYS)
    getattr(channel, how)(message, exchange='', routing_key=queue)
    channel.wait_for_confirms()
    broker_tools.wait_ready(channel, queue, 1)
    got = channel.basic_get(queue, no_ack=True)
    assert got.properties == {'priority': 3, 'content_encoding': 'utf-8'}
    assert got.body == 'x'


def test_unknown_keywords_of_publish_are_refused(channel: Any, queue: str) -> None:
    with pytest.raises(exceptions.EncodeError, match=r"no such message property: 'priorty'.*content_type.*cluster_id"):
        channel.publish(gamqp.Message('x', origin='y'), routing_key=queue, priorty=3)
    with pytest.raises(exceptions.EncodeError, match='origin'):
        channel.publish(b'x', routing_key=queue, origin=None)
    channel.publish(b'x', routing_key=queue, headers={'a': 1}, type='t').wait()
    assert channel.basic_get(queue, no_ack=True).properties == {'application_headers': {'a': 1}, 'type': 't'}


# -- properties as attributes -----------------------------------------------------------------


def test_properties_that_are_present_are_attributes() -> None:
    amqp = pytest.importorskip('amqp', reason='py-amqp is not installed')
    given = {'reply_to': 'q', 'correlation_id': '7', 'priority': None, 'type': 't', 'timestamp': 5}
    ours, theirs = gamqp.Message('x', **given), amqp.Message('x', **given)
    for name, _ in amqp.Message.PROPERTIES:
        assert hasattr(ours, name) == hasattr(theirs, name) == (name in given), name
        assert getattr(ours, name, 'absent') == getattr(theirs, name, 'absent'), name
    ours.properties['message_id'] = 'later'
    assert ours.message_id == 'later'
    ours.reply_to = 'mine'  # an attribute like any other; what is sent does not change, as in py-amqp
    assert (ours.reply_to, ours.properties['reply_to']) == ('mine', 'q')


def test_an_attribute_that_is_none_is_an_error_with_the_usual_words() -> None:
    message = gamqp.Message('x', origin='gen1')
    for name in ('reply_to', 'no_such', 'origin', '_private', '__setstate__x'):
        with pytest.raises(AttributeError, match=f"^'Message' object has no attribute '{name}'$"):
            getattr(message, name)
        assert not hasattr(message, name)


def test_properties_of_a_delivery_are_attributes(channel: Any, queue: str) -> None:
    sent = gamqp.Message(b'x', reply_to='answers', correlation_id='7', content_type='text/plain')
    channel.basic_publish_confirm(sent, '', queue)
    message = channel.basic_get(queue, no_ack=True)
    assert (message.reply_to, message.correlation_id, message.content_type) == ('answers', '7', 'text/plain')
    assert not hasattr(message, 'content_encoding')
    assert (message.body, inside.size_of(message), message.headers, message.consumer_tag) == (b'x', 1, {}, None)
    assert message.delivery_info['routing_key'] == queue
    for again in (copy.copy(message), copy.deepcopy(message.properties) and pickle.loads(pickle.dumps(message))):
        assert (type(again), again.reply_to, again.body) == (gamqp.Message, 'answers', b'x')


def test_what_a_message_tells_of_its_frames(channel: Any, queue: str) -> None:
    local = gamqp.Message('local')
    assert (local.body_size, local.body_received, local.ready, local.frame_method, local.frame_args) == (
        *(0, 0, False),
        *(None, None),
    )
    for body in (b'', b'x' * 300_000):
        channel.basic_publish_confirm(gamqp.Message(body), '', queue)
        message = channel.basic_get(queue, no_ack=True)
        assert (message.body_size, message.body_received, message.ready) == (len(body), len(body), True)
        assert message.frame_method == (60, 71)
        (*numbers, tag, redelivered, exchange, key, count), _ = serialization.loads('BBLbssl', message.frame_args)
        assert (numbers, tag, redelivered, exchange, key, count) == ([60, 71], *message.delivery_info.values())


def test_the_tag_of_a_message_is_that_of_an_assigned_delivery_info(channel: Any, queue: str) -> None:
    """Programs make messages of their own from parts of others."""
    channel.basic_publish_confirm(gamqp.Message('x'), '', queue)
    got = channel.basic_get(queue)
    mine = gamqp.Message(got.body, channel=got.channel)
    assert mine.delivery_tag is None
    mine.delivery_info = got.delivery_info
    assert mine.delivery_tag == got.delivery_tag
    assert mine.delivery_info is got.delivery_info
    mine.ack()
    assert channel.connection.stats()['unsettled'] == 0
    got.delivery_info = {'exchange': 'e'}
    assert got.delivery_tag == mine.delivery_tag
    got.delivery_info = None
    assert got.delivery_info == {'delivery_tag': 1, **got.delivery_info}


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy])
def test_a_copy_of_a_message_can_be_acked(channel: Any, queue: str, copied: Callable[[Any], Any]) -> None:
    channel.basic_publish_confirm(gamqp.Message('x', application_headers={'a': [1]}), '', queue)
    message = channel.basic_get(queue)
    message.mine = {'kept': 1}
    assert message.headers == {'a': [1]}  # decoded at first access, in each on its own
    again = copied(message)
    assert type(again) is gamqp.Message and again is not message
    assert (again.channel, again.delivery_tag, inside.incarnation(again)) == (channel, 1, inside.incarnation(message))
    assert (again.body, again.headers, again.delivery_info) == ('x', {'a': [1]}, message.delivery_info)
    assert (inside.size_of(again), inside.weight_of(again), again.redelivered, again.mine) == (
        1,
        inside.weight_of(message),
        False,
        {'kept': 1},
    )
    assert (again.headers is message.headers) is (again.mine is message.mine) is (copied is copy.copy)
    again.headers['b'] = 1
    assert ('b' in message.headers) is (copied is copy.copy)
    again.ack()
    assert channel.connection.stats()['unsettled'] == 0
    assert pickle.loads(pickle.dumps(message)).channel is None


# -- bodies that cannot be sent ---------------------------------------------------------------


@pytest.mark.parametrize('body', [None, 1])
def test_a_body_that_cannot_be_sent_is_refused_when_it_is_published(channel: Any, queue: str, body: Any) -> None:
    message = gamqp.Message(body, priority=3)
    assert (message.body, message.properties, inside.size_of(message)) == (body, {'priority': 3}, 0)
    for publish in (channel.basic_publish, channel.basic_publish_confirm, channel.publish):
        with pytest.raises(exceptions.EncodeError, match=f'body: expected bytes or str, got {type(body).__name__}'):
            publish(message, '', queue)
    channel.basic_publish_confirm(gamqp.Message('x'), '', queue)
    assert channel.queue_declare(queue, passive=True).message_count == 1


# -- cancel on what is closed -----------------------------------------------------------------


def _closed_channel(peer: ScriptedBroker, connection: gamqp.Connection, channel: Any) -> None:
    task = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    task.get()


def _closed_connection(peer: ScriptedBroker, connection: gamqp.Connection, channel: Any) -> None:
    task = greenlets.spawn(connection.close)
    peer.agree_to_close()
    task.get()


def _closed_by_the_peer(peer: ScriptedBroker, connection: gamqp.Connection, channel: Any) -> None:
    peer.send('connection.close', reply_code=320, reply_text='going down')
    greenlets.wait_until(lambda: not channel.is_open)  # connected stays until drain_events has said it


def _lost(peer: ScriptedBroker, connection: gamqp.Connection, channel: Any) -> None:
    peer.cut(reset=True)
    greenlets.wait_until(lambda: not channel.is_open)  # connected stays until drain_events has said it


def _collected(peer: ScriptedBroker, connection: gamqp.Connection, channel: Any) -> None:
    connection.collect()


@pytest.mark.parametrize('end', [_closed_channel, _closed_connection, _closed_by_the_peer, _lost, _collected])
def test_a_channel_that_has_ended_has_no_number(peer: ScriptedBroker, end: Callable[..., None]) -> None:
    connection = peer.open(heartbeat=0)
    channel = peer.open_channel(connection)
    assert channel.channel_id == 1
    end(peer, connection, channel)
    assert channel.channel_id is None
    assert channel.connection is None
    assert repr(channel).startswith('<Channel 1 closed of')
    message = gamqp.Message('x')
    message.channel, message.delivery_tag = channel, 1
    for call in (
        message.ack,
        message.nack,
        message.reject,
        lambda: channel.basic_publish(message, '', 'q'),
        lambda: channel.publish('x', routing_key='q'),
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_consume('q', callback=print),
        lambda: channel.consume('q'),
        channel.open,
    ):
        with pytest.raises(gamqp.RecoverableConnectionError) as caught:
            call()
        assert 'None' not in str(caught.value)
    connection.collect()


@pytest.mark.parametrize('end', [_closed_channel, _closed_connection, _closed_by_the_peer, _lost, _collected])
def test_cancel_on_a_closed_channel_does_nothing(peer: ScriptedBroker, end: Callable[..., None]) -> None:
    connection = peer.open(heartbeat=0)
    channel = peer.open_channel(connection)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    end(peer, connection, channel)
    assert not channel.is_open
    assert channel.basic_cancel('tag') is None
    assert channel.basic_cancel('never was', nowait=True) is None
    with pytest.raises(gamqp.WrongThread):
        broker_tools.in_thread(channel.basic_cancel, 'tag')
    connection.collect()


# -- one event --------------------------------------------------------------------------------


def test_blocking_read_takes_one_event(connection: Any, channel: Any, queue: str) -> None:
    got: list[Any] = []
    channel.basic_consume(queue, callback=got.append, no_ack=True)
    with pytest.raises(TimeoutError):
        connection.blocking_read(timeout=0)
    for body in ('a', 'b'):
        channel.basic_publish(gamqp.Message(body), '', queue)
    broker_tools.wait_ready(channel, queue, 0)
    for number in (1, 2):
        assert connection.blocking_read(timeout=10), 'py-amqp reads on until it is true'
        assert len(got) == number
