"""Publisher confirms and returns of a real broker: each publish learns its own fate."""

from __future__ import annotations

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp import exceptions


@pytest.fixture
def full_queue(channel):
    """A queue for ten messages that refuses the eleventh."""
    arguments = {'x-max-length': 10, 'x-overflow': 'reject-publish'}
    return channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments).queue


def test_a_confirmed_message_is_in_the_queue(connection, queue):
    other = connection.channel()
    for number in range(20):
        other.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
        broker_tools.wait_ready(connection.channel(1), queue, number + 1)


def test_confirm_publish_makes_every_publish_wait(rabbit):
    with rabbit.connect(confirm_publish=True) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.basic_publish(gamqp.Message(b'x'), '', queue)
        with rabbit.connect() as other:  # not even the order of the channel is needed
            assert isinstance(broker_tools.raised(other.channel().basic_get, queue), exceptions.ResourceLocked)
        broker_tools.wait_ready(channel, queue, 1)


def test_confirm_select_twice_is_harmless(channel, queue):
    channel.confirm_select()
    channel.confirm_select(nowait=True)
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)


def test_two_hundred_greenlets_on_one_channel_each_get_their_own(connection, channel, queue):
    tasks = [
        greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'%d' % number), '', queue)
        for number in range(200)
    ]
    for task in tasks:
        task.get()
    messages = broker_tools.get_all(connection.channel(), queue)
    assert sorted(int(bytes(message.body)) for message in messages) == list(range(200))


def test_a_refused_message_is_nacked_to_exactly_its_publisher(connection, channel, full_queue, queue):
    """Among publishes to another queue, on one channel, from many greenlets."""

    def publish(number):
        target = full_queue if number % 2 else queue
        try:
            channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', target)
        except exceptions.MessageNacked:
            return False
        return True

    tasks = [greenlets.spawn(publish, number) for number in range(100)]
    confirmed = {number for number, task in enumerate(tasks) if task.get()}
    other = connection.channel()
    held = {int(bytes(m.body)) for name in (full_queue, queue) for m in broker_tools.get_all(other, name)}
    assert confirmed == held
    assert len(confirmed) == 60
    assert connection.connected


def test_handlers_of_acks_and_nacks(connection, channel, full_queue):
    acked, nacked = [], []
    channel.confirm_select()
    channel.events['basic_ack'].add(lambda tag, multiple: acked.append((tag, multiple)))
    channel.events['basic_nack'].add(lambda tag, multiple: nacked.append((tag, multiple)))
    for _ in range(12):
        channel.basic_publish(gamqp.Message(b'x'), '', full_queue)

    def settled(events):
        tags = set()
        for tag, multiple in events:
            tags |= set(range(1, tag + 1)) if multiple else {tag}
        return tags

    broker_tools.drain_until(connection, lambda: len(settled(acked) | settled(nacked)) == 12)
    assert {11, 12} <= settled(nacked)


def test_confirms_are_counted_from_the_select_not_from_the_first_publish(channel, queue):
    for _ in range(3):
        channel.basic_publish(gamqp.Message(b'before'), '', queue)
    channel.confirm_select()
    for _ in range(2):
        channel.basic_publish(gamqp.Message(b'nobody waits'), '', queue)
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue, timeout=5)
    broker_tools.wait_ready(channel, queue, 6)


def test_publish_confirm_to_no_exchange_fails_with_the_exchanges_name(channel, queue):
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
    with pytest.raises(exceptions.NotFound, match=r'no exchange .*nowhere'):
        channel.basic_publish_confirm(gamqp.Message(b'x'), 'nowhere', 'key')
    # The channel is open again, counting from 1.
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
    broker_tools.wait_ready(channel, queue, 2)


def test_all_who_wait_for_confirms_hear_of_the_channels_end(channel, queue):
    tasks = [greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), 'nowhere', 'key') for _ in range(20)]
    errors = [broker_tools.raised(task) for task in tasks]
    assert all(isinstance(error, exceptions.NotFound) for error in errors), errors
    assert len(set(map(id, errors))) == 20


# -- returns ---------------------------------------------------------------------------------------------


def test_an_unroutable_message_goes_to_the_handler_in_drain_events(connection, channel):
    returned = []
    channel.events['basic_return'].add(lambda *args: returned.append(args))
    channel.basic_publish(gamqp.Message(b'x', message_id='m'), '', 'no such queue', mandatory=True)
    broker_tools.drain_until(connection, lambda: returned)
    [(error, exchange, key, message)] = returned
    assert (error.reply_code, error.reply_text) == (312, 'NO_ROUTE')
    assert (exchange, key, message.body, message.properties['message_id']) == ('', 'no such queue', b'x', 'm')


def test_with_a_confirm_the_handler_has_run_before_publish_returns(channel):
    returned = []
    channel.events['basic_return'].add(lambda *args: returned.append(args[3].body))
    for number in range(10):
        channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', 'no such queue', mandatory=True)
        assert returned[-1] == b'%d' % number
    assert len(returned) == 10


def test_without_a_handler_drain_events_raises_it(connection, channel, queue):
    channel.basic_publish(gamqp.Message(b'x'), '', 'no such queue', mandatory=True)
    channel.basic_publish(gamqp.Message(b'x'), '', queue, mandatory=True)
    with pytest.raises(exceptions.ChannelError, match='NO_ROUTE'):
        connection.drain_events(timeout=30)
    broker_tools.wait_ready(channel, queue, 1)


def test_many_returns_with_large_bodies_are_told_in_order(connection, channel):
    returned = []
    channel.events['basic_return'].add(lambda error, exchange, key, message: returned.append((key, message.body_size)))
    for number in range(50):
        channel.basic_publish(gamqp.Message(b'x' * number * 5000), '', f'nowhere.{number}', mandatory=True)
    broker_tools.drain_until(connection, lambda: len(returned) == 50)
    assert returned == [(f'nowhere.{number}', number * 5000) for number in range(50)]


def test_immediate_is_refused_by_us(connection, channel, queue):
    with pytest.raises(exceptions.AMQPNotImplementedError, match='immediate'):
        channel.basic_publish(gamqp.Message(b'x'), '', queue, immediate=True)
    assert connection.connected
