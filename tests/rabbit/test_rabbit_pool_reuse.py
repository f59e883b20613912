"""Pool: what one user leaves behind on a channel does not reach the next."""

from __future__ import annotations

import broker_tools
import greenlets
import inside
import pytest
from pool_tools import end, held, publish, publish_unawaited, publish_without_receipt

import gamqp
from gamqp.channel.reuse import has_unanswered


def consume(channel, queue):
    channel.basic_consume(queue, callback=print)


def fetch(channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'])
    assert channel.basic_get(queue) is not None


def set_prefetch(channel, queue):
    channel.basic_qos(0, 5, False)


def set_global_prefetch(channel, queue):
    channel.basic_qos(0, 5, True)


def transact(channel, queue):
    channel.tx_select()


def fail(channel, queue):
    with pytest.raises(gamqp.NotFound):
        channel.queue_declare('not there', passive=True)


def fail_and_go_on(channel, queue):
    fail(channel, queue)
    channel.queue_declare(queue, passive=True)


def fail_unseen(channel, queue):
    channel.queue_bind(queue, 'no such exchange', nowait=True)
    channel.connection.channel().queue_declare(exclusive=True)  # the broker's answer is in


def close(channel, queue):
    channel.close()


def leave_a_return(channel, queue):
    channel.basic_publish(gamqp.Message(b'x'), '', 'no such queue', mandatory=True)
    channel.queue_declare(queue, passive=True)


def listen(channel, queue):
    channel.events['basic_ack'].add(print)


def take_bodies_as_they_come(channel, queue):
    channel.auto_decode = False


def allow_few_outstanding(channel, queue):
    channel.outstanding_limit = 1


USED = [
    consume,
    fetch,
    set_prefetch,
    set_global_prefetch,
    transact,
    fail,
    fail_and_go_on,
    fail_unseen,
    close,
    leave_a_return,
    listen,
    take_bodies_as_they_come,
    allow_few_outstanding,
]


@pytest.mark.parametrize('use', USED)
def test_a_channel_that_is_not_as_new_is_replaced(make, stock, use):
    pool = make(1, 1, confirm=use is not transact)
    with pool.channel() as used:
        others = greenlets.spawn(lambda: None)
        connection = used.connection
        use(used, stock)
        others.get()
        others = greenlets.spawn(lambda: None)
    assert not others.done  # whatever there is to do, the end of the block does not wait for it
    others.get()
    with pool.channel() as fresh:
        assert fresh is not used
        assert not used.is_open
        assert fresh.connection is connection
        assert fresh.queue_declare(stock, passive=True).consumer_count == 0
    stats = pool.stats()
    assert (stats['replaced'], stats['channels'], stats['leased'], stats['lost_connections']) == (1, 1, 0, 0)
    if use is fetch:  # and what was fetched is there again
        with pool.channel() as channel:
            broker_tools.wait_ready(channel, stock, 1)


def test_a_channel_that_still_owes_an_answer_is_replaced(make, proxy, stock):
    pool = make(1, 1)
    with pool.channel() as used:
        proxy.down.pause()
        task = greenlets.spawn(used.queue_declare, stock, True)
        greenlets.sleep(0)
        task.kill()
        greenlets.wait_until(lambda: task.done)
    proxy.down.resume()
    with pool.channel() as fresh:
        assert fresh is not used


def learn_of_a_return(channel, queue):
    with pytest.raises(gamqp.Returned):
        channel.publish(b'x', routing_key='no such queue', mandatory=True).wait()


def declare(channel, queue):
    channel.queue_declare(queue, passive=True)


def settle(channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'])
    channel.basic_get(queue).ack()


def consume_and_cancel(channel, queue):
    channel.basic_cancel(channel.basic_consume(queue, callback=print))


@pytest.mark.parametrize(
    'use',
    [
        publish,
        publish_unawaited,
        publish_without_receipt,
        learn_of_a_return,
        declare,
        settle,
        consume_and_cancel,
    ],
)
def test_a_channel_that_is_as_new_is_used_again(make, stock, use):
    pool = make(1, 1)
    with pool.channel() as used:
        use(used, stock)
    with pool.channel() as again:
        assert again is used
        use(again, stock)
    assert pool.stats()['replaced'] == 0


def test_nobody_hears_what_became_of_earlier_publishes(make, stock):
    pool = make(1, 1)
    with pool.channel() as used:
        learn_of_a_return(used, stock)
    with pool.channel() as again:
        assert again is used
        again.publish(b'x', routing_key=stock)
        assert again.wait_for_confirms()


def test_publish_waits_for_the_confirm(make, stock):
    pool = make(1, 1)
    pool.publish(b'one', routing_key=stock, message_id='m1')
    with pytest.raises(gamqp.Returned):
        pool.publish(b'two', routing_key='no such queue', mandatory=True)
    with pool.channel() as channel:
        message = channel.basic_get(stock, no_ack=True)
        assert (bytes(message.body), message.properties['message_id']) == (b'one', 'm1')
    assert pool.stats()['replaced'] == 0
    tasks = held(pool)
    with pytest.raises(TimeoutError, match='no channel was free within'):
        pool.publish(b'three', routing_key=stock, timeout=0.05)
    end(tasks)


# -- what nobody has waited for ------------------------------------------------------------------------


def publish_astray(channel, queue):
    channel.publish(b'x', 'no such exchange', queue)


def basic_publish_astray(channel, queue):
    channel.basic_publish(gamqp.Message(b'x'), 'no such exchange', queue)


def bind_astray(channel, queue):
    channel.queue_bind(queue, 'no such exchange', nowait=True)


def ack_astray(channel, queue):
    channel.basic_ack(77)


def ack_much_astray(channel, queue):
    channel.basic_ack(77, multiple=True)


ASTRAY = [publish_astray, basic_publish_astray, bind_astray, ack_astray, ack_much_astray]


@pytest.mark.parametrize('confirm', [True, False])
@pytest.mark.parametrize('use', ASTRAY)
def test_an_error_that_the_user_has_not_waited_for_does_not_strike_the_next_one(
    make, proxy, stock, caplog, use, confirm
):
    pool = make(1, 1, confirm=confirm)
    with pool.channel() as used:
        pass
    proxy.down.pause()  # the broker's answer is late
    with pool.channel() as used:
        use(used, stock)
    assert pool.stats()['idle'] == 0
    waiter = greenlets.spawn(asking(pool, stock))
    greenlets.wait_until(lambda: pool.stats()['waiting'] == 1)
    proxy.down.resume()
    assert waiter.get() is not used
    stats = pool.stats()
    assert (stats['replaced'], stats['leased'], stats['channels'], stats['lost_connections']) == (1, 0, 1, 0)


def asking(pool, queue):
    def ask():
        with pool.channel() as channel:
            channel.publish(b'x', routing_key=queue).wait()
            return channel

    return ask


@pytest.mark.parametrize('use', [publish_astray, basic_publish_astray, bind_astray, ack_astray])
def test_an_error_that_nobody_gets_is_told_in_the_log(make, stock, caplog, use):
    pool = make(1, 1)
    with pool.channel() as channel:
        use(channel, stock)
    asking(pool, stock)()
    (record,) = caplog.records
    assert 'was closed by the broker' in record.getMessage()


@pytest.mark.parametrize('confirm', [True, False])
def test_nobody_gets_a_channel_before_its_publishes_are_settled(make, proxy, stock, confirm):
    pool = make(1, 1, confirm=confirm)
    with pool.channel() as used:
        pass
    proxy.down.pause()
    with pool.channel() as used:
        used.basic_publish(gamqp.Message(b'x'), '', stock)
    with pytest.raises(TimeoutError, match='1 of 1 channels leased'):
        pool.channel(0.05).__enter__()
    proxy.down.resume()
    with pool.channel() as again:
        assert again is used
        assert not has_unanswered(again)
        broker_tools.wait_ready(again, stock, 1)
    assert pool.stats()['replaced'] == 0


def test_a_channel_whose_confirm_does_not_come_is_replaced(make, rabbit, proxy, stock):
    pool = make(1, 1, confirm_timeout=0.2, rpc_timeout=20)
    with pool.channel() as used:
        pass
    proxy.down.pause()
    with pool.channel() as used:
        receipt = used.publish(b'x', routing_key=stock)
    greenlets.wait_until(lambda: pool.stats()['replaced'] == 1)
    proxy.down.resume()
    with pool.channel() as fresh:
        assert fresh is not used
    assert receipt.done


def test_close_waits_for_what_was_sent_and_not_waited_for(make, stock):
    pool = make(1, 5)
    receipts = []
    for _ in range(5):
        with pool.channel() as channel:
            receipts += [channel.publish(b'x', routing_key=stock) for _ in range(20)]
    pool.close()
    assert all(receipt.acked for receipt in receipts)


def test_a_connection_that_is_lost_meanwhile_is_replaced(make, proxy, stock):
    pool = make(1, 2)
    with pool.channel():
        pass
    proxy.down.pause()
    with pool.channel() as used:
        receipt = used.publish(b'x', routing_key=stock)
    proxy.cut()
    proxy.down.resume()
    assert asking(pool, stock)() is not used
    greenlets.wait_until(lambda: pool.stats()['leased'] == 0)
    assert receipt.state == 'lost'
    assert inside.channels_being_settled(pool) == 0
