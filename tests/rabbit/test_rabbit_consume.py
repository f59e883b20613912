"""Consuming from a real broker: deliveries, settling them, prefetch, cancelling, transactions."""

from __future__ import annotations

import contextlib
import functools

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp import exceptions


def bodies(messages):
    return [int(bytes(message.body)) for message in messages]


# -- get -------------------------------------------------------------------------------------------------


def test_get_from_an_empty_queue_is_none(channel, queue):
    assert channel.basic_get(queue) is None


def test_get_in_order_then_nothing(channel, queue):
    broker_tools.publish_numbers(channel, queue, 3)
    assert bodies(broker_tools.get_all(channel, queue)) == [0, 1, 2]
    broker_tools.wait_ready(channel, queue, 0)


def test_what_was_got_and_not_acked_comes_back_when_the_channel_closes(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 5)
    with connection.channel() as other:
        held = broker_tools.get_all(other, queue, no_ack=False)
        held[0].ack()
        broker_tools.wait_ready(channel, queue, 0)
    broker_tools.wait_ready(channel, queue, 4)
    assert all(message.redelivered for message in broker_tools.get_all(channel, queue))
    channel.queue_delete(queue)


# -- consume ---------------------------------------------------------------------------------------------


def test_callbacks_run_inside_drain_events_in_order(connection, channel, queue):
    got = []
    tag = channel.basic_consume(queue, callback=got.append)
    broker_tools.publish_numbers(channel, queue, 100)
    assert not got
    assert tag in channel.callbacks
    broker_tools.drain_until(connection, lambda: len(got) == 100)
    assert bodies(got) == list(range(100))
    got[-1].ack(multiple=True)
    channel.basic_cancel(tag)
    broker_tools.wait_ready(channel, queue, 0)


def test_an_idle_drain_is_a_timeout(connection, channel, queue):
    channel.basic_consume(queue, callback=lambda message: None)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)


def test_drain_with_timeout_0_finds_what_has_arrived(connection, channel, queue):
    got = []
    channel.basic_consume(queue, callback=got.append, no_ack=True)
    broker_tools.publish_numbers(channel, queue, 1)

    def drained():
        try:
            connection.drain_events(timeout=0)
        except TimeoutError:
            return False
        return True

    greenlets.wait_until(drained)
    assert len(got) == 1


def test_a_consumer_without_callback_takes_and_drops(connection, channel, queue):
    with pytest.warns(UserWarning, match='without a callback: its messages are dropped, lost'):
        channel.basic_consume(queue, no_ack=True)
    broker_tools.publish_numbers(channel, queue, 3)
    broker_tools.wait_ready(channel, queue, 0)


def test_two_consumers_of_one_channel_each_get_their_own(connection, channel):
    queues = [channel.queue_declare(exclusive=True).queue for _ in range(2)]
    got = {queue: [] for queue in queues}
    for queue in queues:
        channel.basic_consume(queue, callback=got[queue].append, no_ack=True)
        broker_tools.publish_numbers(channel, queue, 10)
    broker_tools.drain_until(connection, lambda: all(len(messages) == 10 for messages in got.values()))
    for queue in queues:
        assert {message.delivery_info['routing_key'] for message in got[queue]} == {queue}


def test_a_consumer_tag_of_ones_own(connection, channel, queue):
    assert channel.basic_consume(queue, 'mine', callback=lambda message: None) == 'mine'
    with pytest.raises(exceptions.NotAllowed, match='mine'):
        channel.basic_consume(queue, 'mine', callback=print)
    channel.basic_cancel('mine')
    assert channel.basic_consume(queue, 'mine', callback=print) == 'mine'


def test_consume_nowait(connection, channel, queue):
    got = []
    tag = channel.basic_consume(queue, nowait=True, callback=got.append, no_ack=True)
    broker_tools.publish_numbers(channel, queue, 1)
    broker_tools.drain_until(connection, lambda: got)
    assert got[0].consumer_tag == tag
    assert tag in channel.no_ack_consumers


def test_an_exclusive_consumer_refuses_a_second(connection, channel, queue):
    channel.basic_consume(queue, exclusive=True, callback=print)
    with pytest.raises(exceptions.AccessRefused, match='exclusive'):
        connection.channel().basic_consume(queue, callback=print)


def test_consumer_arguments_reach_the_broker(connection, channel, queue):
    """The consumer of higher priority gets everything, though it came second."""
    got = {0: [], 5: []}
    for priority in got:
        channel.basic_consume(queue, callback=got[priority].append, no_ack=True, arguments={'x-priority': priority})
    broker_tools.publish_numbers(channel, queue, 20)
    broker_tools.drain_until(connection, lambda: sum(map(len, got.values())) == 20)
    assert len(got[5]) == 20


def test_several_greenlets_may_drain_one_connection(connection, channel, queue):
    got = []

    def callback(message):
        greenlets.sleep(0.001)
        got.append(message)

    channel.basic_consume(queue, callback=callback, no_ack=True)
    tasks = [greenlets.spawn(drain, connection, got, 200) for _ in range(4)]
    broker_tools.publish_numbers(channel, queue, 200)
    for task in tasks:
        task.get()
    assert sorted(bodies(got)) == list(range(200))


def drain(connection, got, count):
    while len(got) < count:
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            pass


# -- prefetch --------------------------------------------------------------------------------------------


def test_prefetch_limits_what_is_unacked(connection, channel, queue):
    got = []
    channel.basic_qos(0, 3, False)
    channel.basic_consume(queue, callback=got.append)
    broker_tools.publish_numbers(channel, queue, 10)
    broker_tools.drain_until(connection, lambda: len(got) == 3)
    broker_tools.wait_ready(channel, queue, 7)
    got[0].ack()
    broker_tools.drain_until(connection, lambda: len(got) == 4)
    broker_tools.wait_ready(channel, queue, 6)


def test_a_limit_in_bytes_is_refused_by_us(connection, channel):
    with pytest.raises(exceptions.AMQPNotImplementedError, match='prefetch_size'):
        channel.basic_qos(1000, 3, False)
    assert channel.is_open


@pytest.mark.parametrize('kind', ['quorum', 'stream'])
def test_a_global_prefetch_is_refused_where_the_broker_ends_the_connection_over_it(rabbit, connection, channel, kind):
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': kind})
    channel.basic_qos(0, 3, True)
    for consume in (functools.partial(channel.basic_consume, callback=print), channel.consume):
        if rabbit.major < 4:
            with pytest.raises(exceptions.AMQPNotImplementedError, match='a_global=False'):
                consume(queue)
        else:
            consume(queue)  # RabbitMQ 4.3 takes it for a limit of each consumer
    assert connection.connected
    channel.basic_qos(0, 0, True)
    channel.basic_qos(0, 3, False)
    channel.basic_consume(queue, callback=print)
    channel.queue_delete(queue)


@pytest.mark.parametrize('how', ['deleted', 'declared'])
def test_a_global_prefetch_is_not_refused_for_a_queue_that_was_made_anew(rabbit, connection, channel, how):
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum'})
    if how == 'deleted':
        channel.queue_delete(queue)
        with rabbit.connect() as other:
            other.channel().queue_declare(queue, durable=True, auto_delete=False)
        channel.queue_declare(queue, passive=True, arguments={'x-queue-type': 'quorum'})
    else:
        with rabbit.connect() as other:
            other.channel().queue_delete(queue)
        channel.queue_declare(queue, durable=True, auto_delete=False)
    channel.basic_qos(0, 3, True)
    channel.basic_consume(queue, callback=print)
    assert connection.connected
    channel.queue_delete(queue)


def test_a_global_prefetch_on_a_quorum_queue_of_others_has_a_clear_error_or_works(rabbit):
    with rabbit.connect() as connection:
        queue = broker_tools.shared_queue(connection.channel(), arguments={'x-queue-type': 'quorum'})
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 3, True)
        if rabbit.major < 4:
            with pytest.raises(exceptions.AMQPNotImplementedError, match='global qos') as caught:
                channel.basic_consume(queue, callback=print)
            assert caught.value.reply_code == 540
            assert not connection.is_open  # this broker ends the whole connection over it
        else:  # newer ones have dropped the global limit and take it for one per consumer
            got = []
            channel.basic_consume(queue, callback=got.append)
            broker_tools.publish_numbers(channel, queue, 10)
            broker_tools.drain_until(connection, lambda: len(got) == 3)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.1)
    with rabbit.connect() as connection:
        connection.channel().queue_delete(queue)


# -- settling --------------------------------------------------------------------------------------------


def test_acks_in_batches(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 100)
    with connection.channel() as other:
        held = broker_tools.get_all(other, queue, no_ack=False)
        held[49].ack(multiple=True)
        other.basic_ack(held[60].delivery_tag)
    broker_tools.wait_ready(channel, queue, 49)
    assert bodies(broker_tools.get_all(channel, queue)) == [*range(50, 60), *range(61, 100)]
    channel.queue_delete(queue)


def test_ack_of_tag_0_settles_everything(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 10)
    with connection.channel() as other:
        broker_tools.get_all(other, queue, no_ack=False)
        other.basic_ack(0, multiple=True)
    broker_tools.wait_ready(channel, queue, 0)
    channel.queue_delete(queue)


@pytest.mark.parametrize('how', ['reject', 'nack'])
def test_refuse_and_requeue_or_not(channel, queue, how):
    broker_tools.publish_numbers(channel, queue, 2)
    first, second = broker_tools.get_all(channel, queue, no_ack=False)
    getattr(first, how)(requeue=True)
    getattr(second, how)(requeue=False)
    broker_tools.wait_ready(channel, queue, 1)
    again = channel.basic_get(queue, no_ack=True)
    assert (bodies([again]), again.redelivered) == ([0], True)


def test_nack_multiple(channel, queue):
    broker_tools.publish_numbers(channel, queue, 5)
    held = broker_tools.get_all(channel, queue, no_ack=False)
    held[3].nack(multiple=True, requeue=True)
    broker_tools.wait_ready(channel, queue, 4)
    assert bodies(broker_tools.get_all(channel, queue)) == [0, 1, 2, 3]


def test_a_refused_message_is_dead_lettered(channel, queue):
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue}
    source = channel.queue_declare(exclusive=True, arguments=arguments).queue
    broker_tools.publish_numbers(channel, source, 1)
    channel.basic_get(source).reject()
    broker_tools.wait_ready(channel, queue, 1)
    assert channel.basic_get(queue).headers['x-death'][0]['reason'] == 'rejected'


def test_recover_delivers_again(connection, channel, queue):
    got = []
    channel.basic_consume(queue, callback=got.append)
    broker_tools.publish_numbers(channel, queue, 3)
    broker_tools.drain_until(connection, lambda: len(got) == 3)
    channel.basic_recover(requeue=True)
    broker_tools.drain_until(connection, lambda: len(got) == 6)
    assert [message.redelivered for message in got] == [False] * 3 + [True] * 3
    channel.basic_recover_async(requeue=True)
    broker_tools.drain_until(connection, lambda: len(got) == 9)


def test_recover_without_requeue_is_refused_by_us(connection, channel):
    with pytest.raises(exceptions.AMQPNotImplementedError):
        channel.basic_recover()
    assert connection.connected


def test_acks_from_a_hundred_greenlets_then_close_are_all_kept(rabbit, connection, channel):
    """The close goes out behind the acks, whoever sent them."""
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 100)
    other = connection.channel()
    held = broker_tools.get_all(other, queue, no_ack=False)
    tasks = [greenlets.spawn(message.ack) for message in held]
    for task in tasks:
        task.get()
    other.close()
    broker_tools.wait_ready(channel, queue, 0)
    channel.queue_delete(queue)


# -- cancel ----------------------------------------------------------------------------------------------


def test_cancel_hands_out_what_has_arrived(connection, channel):
    queue = broker_tools.shared_queue(channel)
    other = connection.channel()
    got = []
    tag = other.basic_consume(queue, callback=got.append)
    broker_tools.publish_numbers(channel, queue, 50)
    broker_tools.drain_until(connection, lambda: len(got) == 5)
    other.basic_cancel(tag)
    assert tag not in other.callbacks
    assert [int(message.body) for message in got] == list(range(50))
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    for message in got[:5]:
        message.ack()
    other.close()
    broker_tools.wait_ready(channel, queue, 45)
    channel.queue_delete(queue)


def test_cancel_of_a_no_ack_consumer_hands_out_what_the_broker_has_forgotten(connection, channel, queue):
    got = []
    tag = channel.basic_consume(queue, callback=got.append, no_ack=True)
    broker_tools.publish_numbers(channel, queue, 20)
    broker_tools.wait_ready(channel, queue, 0)
    channel.basic_cancel(tag)
    assert len(got) == 20


def test_cancel_nowait_and_cancel_of_an_unknown_tag(connection, channel, queue):
    tag = channel.basic_consume(queue, callback=lambda message: None)
    channel.basic_cancel(tag, nowait=True)
    channel.basic_cancel('never was')
    assert channel.queue_declare(queue, passive=True).consumer_count == 0


def test_a_consumer_can_cancel_itself(connection, channel, queue):
    got = []

    def callback(message):
        got.append(message)
        message.ack()
        if message.consumer_tag in channel.callbacks:
            channel.basic_cancel(message.consumer_tag)

    channel.basic_consume(queue, callback=callback)
    broker_tools.publish_numbers(channel, queue, 10)
    connection.drain_events(timeout=30)
    assert len(got) == 1 and not channel.callbacks
    broker_tools.drain_until(connection, lambda: len(got) == 10)
    assert bodies(got) == list(range(10))
    broker_tools.wait_ready(channel, queue, 0)


def test_the_death_of_the_queue_is_told_to_on_cancel(connection, channel, queue):
    cancelled = []
    tag = channel.basic_consume(queue, callback=lambda message: None, on_cancel=cancelled.append)
    connection.channel().queue_delete(queue)
    broker_tools.drain_until(connection, lambda: cancelled)
    assert cancelled == [tag]
    assert tag not in channel.callbacks
    assert channel.queue_declare(exclusive=True).queue


def test_the_death_of_the_queue_is_consumer_cancelled_without_on_cancel(connection, channel, queue):
    tag = channel.basic_consume(queue, callback=lambda message: None)
    connection.channel().queue_delete(queue)
    with pytest.raises(exceptions.ConsumerCancelled, match=tag):
        connection.drain_events(timeout=30)
    assert channel.queue_declare(exclusive=True).queue


def test_replies_to_consume_and_cancel_may_be_overtaken(connection, channel, queue):
    """They come from the queue's process: the broker answers what other greenlets ask behind them first."""
    for _ in range(30):
        consuming = greenlets.spawn(lambda: channel.basic_consume(queue, callback=print))
        others = [greenlets.spawn(channel.queue_declare, queue, True) for _ in range(3)]
        tag = consuming.get()
        cancelling = greenlets.spawn(channel.basic_cancel, tag)
        others += [greenlets.spawn(channel.queue_declare, queue, True) for _ in range(3)]
        cancelling.get()
        for task in others:
            assert task.get().queue == queue
        assert not channel.callbacks


# -- transactions, flow ------------------------------------------------------------------------------------


def test_transactions(channel, queue):
    channel.tx_select()
    channel.basic_publish(gamqp.Message(b'0'), '', queue)
    assert channel.basic_get(queue) is None
    channel.tx_rollback()
    channel.basic_publish(gamqp.Message(b'1'), '', queue)
    channel.tx_commit()
    broker_tools.wait_ready(channel, queue, 1)
    message = channel.basic_get(queue)
    assert bodies([message]) == [1]
    message.ack()
    channel.tx_commit()
    broker_tools.wait_ready(channel, queue, 0)


def test_a_commit_that_is_given_up_ends_its_channel_at_the_most(connection, channel):
    """RabbitMQ ends the whole connection over anything but a close that comes while it commits."""
    queue = broker_tools.shared_queue(channel)
    for _ in range(10):
        transacting = connection.channel()
        transacting.tx_select()
        transacting.basic_publish(gamqp.Message(b'x', delivery_mode=2), '', queue)  # to disk: takes its time
        committing = greenlets.spawn(transacting.tx_commit)
        greenlets.sleep(0)
        committing.kill()
        while not committing.greenlet.dead:
            greenlets.sleep(0)
        with contextlib.suppress(*connection.recoverable_connection_errors):
            transacting.tx_rollback()  # the commit may have been faster than the kill
        assert channel.queue_declare(queue, passive=True).queue == queue
    assert connection.connected
    channel.queue_delete(queue)


def test_a_transactional_channel_has_no_confirms(channel):
    channel.tx_select()
    with pytest.raises(exceptions.PreconditionFailed, match='tx'):
        channel.confirm_select()


def test_flow_on_is_answered_and_flow_off_refused(rabbit):
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.flow(True)
        with pytest.raises(exceptions.AMQPNotImplementedError):
            channel.flow(False)
