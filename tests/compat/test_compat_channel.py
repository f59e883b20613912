"""A program written for py-amqp, or for librabbitmq, at work on a real broker: the meaning of names, not the names."""

from __future__ import annotations

import copy
import pickle
import queue as queues
import time
import warnings
from typing import Any

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp import exceptions
from gamqp.channel.channel import VDeprecationWarning


@pytest.fixture
def queue(channel: gamqp.Channel) -> str:
    return channel.queue_declare(exclusive=True, auto_delete=False).queue


# -- callbacks and promises -------------------------------------------------------------------


def test_callbacks_may_be_functions_or_promises(rabbit: Any) -> None:
    seen: list[Any] = []
    opened = gamqp.promise(seen.append)
    told = gamqp.promise(lambda connection: seen.append(connection))
    connection = gamqp.Connection(**_arguments(rabbit), on_open=told)
    assert connection.connect(callback=lambda: 'called back') == 'called back'
    assert connection.connect(gamqp.promise(lambda: 'again')) == 'again'
    channel = connection.channel(callback=opened)
    assert seen == [connection, channel]
    following: list[Any] = []
    opened.then(following.append)  # of what append returned
    assert following == [None]
    got = gamqp.promise(seen.append)
    name = channel.queue_declare(exclusive=True).queue
    channel.basic_consume(name, callback=got, no_ack=True)
    channel.basic_publish(gamqp.Message('x'), '', name)
    broker_tools.drain_until(connection, lambda: len(seen) == 3)
    assert seen[2].body == 'x'
    connection.close()


def _arguments(rabbit: Any) -> dict[str, Any]:
    """The shape of librabbitmq and of old programs."""
    return {
        'host': f'127.0.0.1:{rabbit.node.port}',
        'userid': 'guest',
        'password': 'guest',
        'virtual_host': rabbit.vhost,
        'ssl': False,
    }


@pytest.mark.parametrize('verb', ['add', 'append'])
def test_handlers_of_events_are_added_or_appended(connection: Any, channel: Any, queue: str, verb: str) -> None:
    acked: list[Any] = []
    getattr(channel.events['basic_ack'], verb)(lambda tag, multiple: acked.append((tag, multiple)))
    channel.confirm_select()
    channel.basic_publish(gamqp.Message('x'), '', queue)
    broker_tools.drain_until(connection, lambda: acked)
    assert acked == [(1, False)]


# -- returned messages ------------------------------------------------------------------------


def test_a_returned_message_is_kept_and_raised_where_no_handler_takes_it(connection: Any, channel: Any) -> None:
    channel.basic_publish(gamqp.Message('x', message_id='1'), '', 'nowhere', mandatory=True)
    with pytest.raises(exceptions.ChannelError) as caught:
        connection.drain_events(timeout=30)
    assert (caught.value.reply_code, caught.value.reply_text) == (312, 'NO_ROUTE')
    assert channel.returned_messages.qsize() == 1
    returned = channel.returned_messages.get()
    assert (returned.reply_code, returned.exchange, returned.routing_key) == (312, '', 'nowhere')
    assert returned.message.properties['message_id'] == '1'
    assert channel.returned_messages.empty()
    for get in (channel.returned_messages.get, channel.returned_messages.get_nowait):
        with pytest.raises(queues.Empty):
            get()


def test_a_handler_takes_it_and_nothing_is_kept(connection: Any, channel: Any) -> None:
    got: list[Any] = []
    channel.events['basic_return'].add(lambda *args: got.append(args))
    channel.basic_publish(gamqp.Message('x'), '', 'nowhere', mandatory=True)
    broker_tools.drain_until(connection, lambda: got)
    error, exchange, key, message = got[0]
    assert isinstance(error, exceptions.ChannelError) and (exchange, key, message.body) == ('', 'nowhere', 'x')
    assert channel.returned_messages.empty()


def test_only_the_latest_are_kept(connection: Any, channel: Any) -> None:
    for number in range(150):
        channel.basic_publish(gamqp.Message(str(number)), '', 'nowhere', mandatory=True)
    channel.queue_declare(exclusive=True)  # behind them on this channel
    assert channel.returned_messages.qsize() == 100
    assert channel.returned_messages.get().message.body == '50'


# -- consumers --------------------------------------------------------------------------------


def test_what_a_channel_tells_of_its_consumers(channel: Any, queue: str) -> None:
    callback, on_cancel = print, repr
    tag = channel.basic_consume(queue, callback=callback, on_cancel=on_cancel, no_ack=True)
    assert isinstance(tag, str)
    assert channel.basic_consume(queue, 'mine', callback=callback) == 'mine'
    assert channel.callbacks == {tag: callback, 'mine': callback}
    assert channel.cancel_callbacks == {tag: on_cancel}
    assert channel.no_ack_consumers == {tag} and len(channel.no_ack_consumers) == 1
    assert tag in channel.no_ack_consumers and 'mine' not in channel.no_ack_consumers
    assert channel.no_ack_consumers | {'other'} == {tag, 'other'}
    with pytest.raises(TypeError):
        channel.callbacks['mine'] = repr
    with pytest.raises(TypeError):
        channel.cancel_callbacks['mine'] = repr
    with pytest.raises(AttributeError):
        channel.no_ack_consumers.add('mine')
    channel.basic_cancel(tag)
    channel.basic_cancel('mine')
    assert channel.callbacks == channel.cancel_callbacks == {}
    assert channel.no_ack_consumers == set()


def test_messages_of_a_cancelled_no_ack_consumer_are_known_to_need_no_ack(
    connection: Any, channel: Any, queue: str
) -> None:
    """kombu looks there before it acks, and the broker closes the channel over an ack it did not expect."""
    got: list[Any] = []
    tag = channel.basic_consume(queue, callback=got.append, no_ack=True)
    broker_tools.publish_all(channel, queue, [b'1', b'2', b'3'])
    channel.basic_cancel(tag)
    broker_tools.drain_until(connection, lambda: len(got) == 3)
    assert all(message.delivery_info['consumer_tag'] in channel.no_ack_consumers for message in got)
    channel.basic_consume(queue, tag, callback=got.append)
    assert tag not in channel.no_ack_consumers, 'the same tag again, and now it is to ack'


def test_few_tags_of_cancelled_consumers_are_remembered(channel: Any, queue: str) -> None:
    tags = [channel.basic_consume(queue, no_ack=True, callback=print) for _ in range(120)]
    for tag in tags:
        channel.basic_cancel(tag)
    assert tags[-1] in channel.no_ack_consumers and tags[0] not in channel.no_ack_consumers


# -- text -------------------------------------------------------------------------------------


def test_auto_decode(connection: Any, queue: str) -> None:
    on, off = connection.channel(), gamqp.Channel(connection, auto_decode=False)
    off.open()
    on.basic_publish(gamqp.Message('straße'), '', queue)
    on.basic_publish(gamqp.Message('straße', content_encoding='latin-1'), '', queue)
    on.basic_publish(gamqp.Message(b'\xff\xfe', content_encoding='utf-8'), '', queue)
    on.basic_publish(gamqp.Message(b'\x1f\x8b', content_encoding='gzip'), '', queue)
    on.basic_publish(gamqp.Message(b'no encoding'), '', queue)
    got = [broker_tools.get_all(on, queue, no_ack=False)]
    assert [m.body for m in got[0]] == ['straße', 'straße', b'\xff\xfe', b'\x1f\x8b', b'no encoding']
    on.basic_recover(requeue=True)
    raw = ['straße'.encode(), 'straße'.encode('latin-1'), b'\xff\xfe', b'\x1f\x8b', b'no encoding']
    broker_tools.wait_ready(off, queue, 5)
    assert [m.body for m in broker_tools.get_all(off, queue)] == raw


# -- declaring --------------------------------------------------------------------------------


def test_auto_delete_of_an_exchange_warns_at_the_callers_line(channel: Any) -> None:
    name = broker_tools.fresh_name('ex')
    with pytest.warns(VDeprecationWarning, match='auto_delete=False') as seen:
        channel.exchange_declare(name, 'direct')
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        channel.exchange_declare(name, 'direct', passive=True)
        channel.exchange_declare(broker_tools.fresh_name('ex'), 'direct', auto_delete=False, durable=True)
    channel.exchange_delete(name)


@pytest.mark.parametrize('call', ['queue_bind', 'queue_unbind'])
def test_the_default_exchange_takes_no_bindings(connection: Any, channel: Any, queue: str, call: str) -> None:
    """Every queue is bound to it by its name, and the broker allows no other."""
    with pytest.raises(exceptions.AccessRefused, match='operation not permitted on the default exchange'):
        getattr(channel, call)(queue, '', 'key')
    assert connection.connected
    assert channel.queue_declare(queue, passive=True).queue == queue


def test_no_global_qos_on_a_quorum_queue_has_a_hint(rabbit: Any) -> None:
    if rabbit.major >= 4:
        pytest.skip('this broker takes it for a limit per consumer')
    with rabbit.connect() as connection:
        name = broker_tools.shared_queue(connection.channel(), arguments={'x-queue-type': 'quorum'})
    connection = rabbit.connect()  # one that does not know what the queue is
    channel = connection.channel()
    channel.basic_qos(0, 3, True)
    with pytest.raises(exceptions.AMQPNotImplementedError, match='a_global=False') as caught:
        channel.basic_consume(name, callback=print)
    assert 'a_global' not in caught.value.reply_text, "the broker's own words stay as they are"
    assert caught.value.hint in str(copy.copy(caught.value)) and caught.value.hint in str(
        pickle.loads(pickle.dumps(caught.value))
    )
    with rabbit.connect() as connection:
        connection.channel().queue_delete(name)


def test_a_transient_queue_that_the_broker_refuses_has_a_hint(rabbit: Any, own_node: Any) -> None:
    if rabbit.major < 4:
        pytest.skip('this broker takes them')
    connection = gamqp.connect(own_node.url())
    channel = connection.channel()
    with (
        pytest.warns(exceptions.AMQPDeprecationWarning, match='durable=True') as seen,
        pytest.raises(exceptions.InternalError, match='durable=True') as caught,
    ):
        channel.queue_declare(broker_tools.fresh_name())
    assert seen[0].filename == __file__
    assert 'transient_nonexcl_queues' in caught.value.reply_text
    assert caught.value.code == 541


# -- errors -----------------------------------------------------------------------------------


def test_each_raise_is_an_object_of_its_own(rabbit: Any) -> None:
    connection = rabbit.connect()
    channel = connection.channel()
    rabbit.node.close_connections(rabbit.vhost, reason='for a test') if rabbit.managed else pytest.skip('')
    greenlets.wait_until(lambda: not connection.connected)
    errors = [
        broker_tools.raised(call) for call in (connection.channel, channel.queue_declare, connection.drain_events)
    ]
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert type(error) is exceptions.ConnectionForced and error.code == error.reply_code == 320
        assert 'for a test' in error.reply_text


# -- secrets and passwords --------------------------------------------------------------------


def test_update_secret(connection: Any, channel: Any, queue: str) -> None:
    connection.update_secret('guest', 'it was time')
    connection.update_secret(b'guest', 'as bytes')
    connection.update_secret(new_secret='guest', reason='by name')
    assert channel.queue_declare(queue, passive=True).queue == queue


# -- librabbitmq's shape ----------------------------------------------------------------------


def test_a_program_for_librabbitmq(rabbit: Any) -> None:
    connection = gamqp.Connection(**_arguments(rabbit))
    connection.connect()
    channel = connection.channel()
    name = channel.queue_declare(exclusive=True, auto_delete=False).queue
    channel.basic_qos(0, 2, False)
    got: list[Any] = []
    channel.basic_consume(queue=name, no_ack=False, callback=got.append)
    for number in range(3):
        channel.basic_publish(gamqp.Message(str(number), delivery_mode=2), exchange='', routing_key=name)
    broker_tools.drain_until(connection, lambda: len(got) == 2)
    got[0].ack()
    got[1].reject()
    broker_tools.drain_until(connection, lambda: len(got) == 3)
    got[2].reject(requeue=True)
    broker_tools.drain_until(connection, lambda: len(got) == 4)
    assert got[3].redelivered
    got[3].ack()
    assert channel.queue_declare(name, passive=True).message_count == 0
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    assert time.monotonic() - began >= 0.09
    connection.close()


def test_the_prefetch_of_a_queue_is_resized_by_a_second_consumer(connection: Any, channel: Any, queue: str) -> None:
    got: list[Any] = []
    channel.basic_qos(0, 2, False)
    first = channel.basic_consume(queue, callback=got.append)
    broker_tools.publish_all(channel, queue, [str(number) for number in range(20)])
    broker_tools.drain_until(connection, lambda: len(got) == 2)
    channel.basic_qos(0, 10, False)
    channel.basic_consume(queue, callback=got.append)
    channel.basic_cancel(first)
    broker_tools.drain_until(connection, lambda: len(got) == 12)
    for message in got:
        message.ack()
    broker_tools.drain_until(connection, lambda: len(got) == 20)
    assert sorted(int(message.body) for message in got) == list(range(20))


def test_a_callable_password_is_asked_at_each_connect(rabbit: Any) -> None:
    asked: list[int] = []

    def password() -> str:
        asked.append(1)
        return 'guest'

    connection = gamqp.Connection(**{**_arguments(rabbit), 'password': password, 'login_method': 'PLAIN'})
    assert asked == []
    for count in (1, 2):
        connection.connect()
        assert len(asked) == count
        connection.close()
