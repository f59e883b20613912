"""Acks that come late, from everywhere, in front of a close, or while the connection is cut: none is lost or wrong."""

from __future__ import annotations

import broker_tools
import greenlets
import inside
import pytest
from proxy import Proxy

import gamqp
from gamqp import exceptions


@pytest.mark.limit(60 if not broker_tools.LONG else 600)
def test_an_ack_right_before_the_close_always_counts(connection, channel):
    """Not one redelivery: of the channel, and of the connection."""
    queue = broker_tools.shared_queue(channel)
    rounds = broker_tools.repeats(100, 1000)
    for number in range(rounds):
        channel.basic_publish(gamqp.Message(b'%d' % number), '', queue)
        with connection.channel() as closing:
            message = greenlets.wait_until(lambda closing=closing: closing.basic_get(queue))
            assert (bytes(message.body), message.redelivered) == (b'%d' % number, False)
            message.ack()
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


def test_an_ack_right_before_the_end_of_the_connection_always_counts(rabbit, connection, channel):
    queue = broker_tools.shared_queue(channel)
    for number in range(broker_tools.repeats(20, 1000)):
        channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
        with rabbit.connect() as closing:
            message = closing.channel().basic_get(queue)
            assert (bytes(message.body), message.redelivered) == (b'%d' % number, False)
            message.ack()
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


@pytest.mark.parametrize('kept', [[], [299], [150, 151, 200], [0], [1, 2, 298]], ids=str)
def test_combined_acks_settle_what_was_acked_and_no_more(rabbit, connection, channel, kept):
    """What the broker has left is what was not acked, whatever the acks stand for of which one frame was made."""
    count = 300
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(count)])
    with rabbit.connect(combine_acks=True) as working:
        old = working.channel()
        got = []
        old.basic_consume(queue, callback=got.append)
        broker_tools.drain_until(working, lambda: len(got) == count)
        for number, message in enumerate(got):
            if number not in kept:
                message.ack()
            if number % 100 == 50:
                greenlets.sleep(0)
        assert old.unsettled == len(kept)
        assert working.stats()['acked'] == count - len(kept)
        old.close()
    broker_tools.wait_ready(channel, queue, len(kept))
    left = [channel.basic_get(queue, no_ack=True) for _ in kept]
    assert sorted(int(message.body) for message in left) == kept
    assert all(message.redelivered for message in left)
    assert channel.queue_delete(queue) == 0


def test_acks_of_a_connection_that_is_cut_do_no_harm_to_the_next(rabbit, connection, channel):
    """A hundred greenlets settle while it breaks and is made anew: at the end each message is settled once."""
    count = 100
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(count)])
    with Proxy(rabbit.node.port) as proxy:
        working = gamqp.connect(proxy.url(rabbit))
        old = working.channel()
        got = []
        old.basic_consume(queue, callback=got.append)
        broker_tools.drain_until(working, lambda: len(got) == count)
        # An ack waits for nothing, so half of them come when the loss is known, however late the proxy gets its turn.
        settling = [greenlets.spawn(settle_later, message, number) for number, message in enumerate(got[: count // 2])]
        settling += [greenlets.spawn(settle_after_loss, message, old) for message in got[count // 2 :]]
        proxy.up.cut_after(700)  # after some of them, in the middle of a frame
        outcomes = [task.get() for task in settling]
        assert not working.is_alive()
        with pytest.raises(exceptions.RecoverableConnectionError):
            working.drain_events(timeout=30)  # a connection with consumers is told of its loss there
        assert not working.connected
        assert outcomes[0] == 'sent'
        assert outcomes[count // 2 :] == ['lost'] * (count // 2)
        working.connect()
        new = working.channel()
        # What was delivered by the old connection must not be settled on the new one.
        for message in got:
            with pytest.raises(exceptions.RecoverableConnectionError):
                message.ack()
        again = []
        new.basic_consume(queue, callback=again.append)
        while True:
            try:
                working.drain_events(timeout=0.5)
            except TimeoutError:
                break
        assert all(message.redelivered for message in again)
        for task in [greenlets.spawn(message.ack) for message in again]:
            task.get()
        assert new.queue_declare(queue, passive=True).message_count == 0
        assert new.is_open and inside.incarnation(new) == 0, 'the broker has closed the channel'
        sent = outcomes.count('sent')
        assert count - sent <= len(again) <= count
        working.close()
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


def settle_later(message, number):
    greenlets.sleep(number % 10 * 0.002)
    return settle(message)


def settle_after_loss(message, channel):
    greenlets.wait_until(lambda: not channel.is_open)
    return settle(message)


def settle(message):
    try:
        message.ack()
    except exceptions.RecoverableConnectionError:
        return 'lost'
    return 'sent'


def test_acks_from_before_a_channel_error_are_dropped_and_counted(connection, channel):
    """Their tags mean other messages now."""
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(10)])
    other = connection.channel()
    old = broker_tools.get_all(other, queue, no_ack=False)
    with pytest.raises(exceptions.NotFound):
        other.queue_declare('no such queue', passive=True)
    broker_tools.wait_ready(channel, queue, 10)
    new = broker_tools.get_all(other, queue, no_ack=False)
    assert [message.delivery_tag for message in old] == [message.delivery_tag for message in new]
    old[0].ack()
    old[1].nack()
    old[2].reject()
    assert connection.stats()['stale_settlements'] == 3
    new[9].ack(multiple=True)
    other.close()
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


@pytest.mark.parametrize('how', ['callback', 'loop', 'subscribe'])
def test_after_recover_each_message_comes_again_and_nothing_dead_is_settled(connection, channel, how):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'%d' % number for number in range(5)])
    other = connection.channel()
    got = []

    def handle(message):
        got.append(message)
        if len(got) == 1:
            other.basic_recover(True)
        if how != 'subscribe':
            message.ack()

    if how == 'callback':
        other.basic_consume(queue, callback=handle)
        greenlets.wait_until(lambda: other.unsettled == 5)
        broker_tools.drain_until(connection, lambda: len(got) == 6)
    elif how == 'loop':
        for message in other.consume(queue, timeout=5):
            handle(message)
            if len(got) == 6:
                break
    else:
        other.subscribe(queue, handle, prefetch=5)
        greenlets.wait_until(lambda: len(got) == 6)
    assert sorted(bytes(message.body) for message in got[1:]) == [b'0', b'1', b'2', b'3', b'4']
    other.basic_qos(0, 1, False)  # behind all acks
    assert connection.stats()['stale_settlements'] == (how != 'subscribe')  # which looks first
    other.close()
    broker_tools.wait_ready(channel, queue, 0)
    assert channel.queue_delete(queue) == 0


@pytest.mark.limit(60)
def test_deliveries_behind_a_close_reach_no_consumer_of_the_reopened_channel(connection, channel):
    """It is started again under its tag at once. Wrong ones would have tags that the new channel has not given."""
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_all(channel, queue, [b'x' * 200] * 3000)
    broker_tools.wait_ready(channel, queue, 3000)
    consuming = connection.channel()
    for _ in range(broker_tools.repeats(10, 100)):
        got: list = []
        consuming.basic_consume(queue, 'tag', callback=got.append)
        broker_tools.drain_until(connection, lambda got=got: len(got) > 50)
        consuming.basic_ack(10**9)  # which closes the channel
        greenlets.wait_until(lambda consuming=consuming: inside.incarnation(consuming))
        with pytest.raises(exceptions.PreconditionFailed):
            consuming.basic_ack(1)
        again: list = []
        consuming.basic_consume(queue, 'tag', callback=again.append)  # goes out behind channel.open
        broker_tools.drain_until(connection, lambda again=again: len(again) > 50)
        tags = [message.delivery_tag for message in again]
        assert tags == list(range(1, len(tags) + 1))
        again[0].ack()
        consuming.close()
        consuming = connection.channel()
    broker_tools.wait_ready(channel, queue, 3000 - broker_tools.repeats(10, 100))
    channel.queue_delete(queue)
