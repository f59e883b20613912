"""Pool: the next user of a channel on which one has published with receipts."""

from __future__ import annotations

import contextlib

import broker_tools
import greenlets
import pytest
from pool_tools import publish, publish_unawaited, publish_without_receipt

import gamqp


def publish_confirmed(channel, queue):
    channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)


def select_and_publish(channel, queue):
    channel.confirm_select()
    publish_without_receipt(channel, queue)


WAYS = [publish, publish_unawaited, publish_confirmed, select_and_publish]


@pytest.fixture
def pool(make):
    return make(1, 1, confirm=False)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def used(request, pool, stock):
    """The pool's only channel, on which a lease has had confirms."""
    with pool.channel() as used:
        request.param(used, stock)
    return used


def test_without_confirm_it_is_as_on_a_new_channel(pool, stock, used):
    heard = []
    with pool.channel() as again:
        assert again is used
        for _ in range(50):
            again.basic_publish(gamqp.Message(b'y'), '', stock)
            assert again.unconfirmed == 0
        assert again.wait_for_confirms(0) is True
        again.queue_declare(stock, passive=True)  # the broker's confirms are in
        again.events['basic_ack'].add(lambda *args: heard.append(args))
        again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.queue_declare(stock, passive=True)
        with pytest.raises(TimeoutError):
            again.connection.drain_events(timeout=0.05)
        again.events.clear()
    assert not heard
    with pool.channel() as again:
        broker_tools.wait_ready(again, stock, 52)
    assert pool.stats()['replaced'] == 0


def test_receipts_of_a_later_lease_have_their_own_numbers(pool, stock, used):
    heard = []
    with pool.channel() as again:
        again.basic_publish(gamqp.Message(b'y'), '', stock)
    with pool.channel() as again:
        assert again is used
        again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.events['basic_ack'].add(lambda tag, multiple: heard.append(tag))
        receipts = [again.publish(b'z', routing_key=stock) for _ in range(3)]
        assert [receipt.delivery_tag for receipt in receipts] == [1, 2, 3]
        astray = again.publish(b'z', routing_key='no such queue', mandatory=True)
        assert again.wait_for_confirms() is False
        assert ([receipt.state for receipt in receipts], astray.state) == (['acked'] * 3, 'returned')
        with contextlib.suppress(TimeoutError):
            while True:
                again.connection.drain_events(timeout=0)
        assert max(heard) in (3, 4) and min(heard) >= 1


def test_a_later_lease_may_have_a_transaction(pool, stock, used):
    with pool.channel() as again:
        assert again is used
        again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.tx_select()
        again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.tx_rollback()
        again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.tx_commit()
        broker_tools.wait_ready(again, stock, 3)
    with pool.channel() as fresh:
        assert fresh is not used
        publish(fresh, stock)


def test_a_transaction_keeps_the_prefetch_and_gets_what_is_delivered_in_it(pool, stock, used):
    got = []
    with pool.channel() as again:
        tag = again.basic_consume(stock, callback=got.append)
        greenlets.wait_until(lambda: again.unsettled == 1)
        again.basic_ack(1, multiple=True)  # in place of the callback
        again.basic_cancel(tag)
        again.basic_qos(0, 1, False)
        again.tx_select()
        for _ in range(2):
            again.basic_publish(gamqp.Message(b'y'), '', stock)
        again.tx_commit()
        again.basic_consume(stock, callback=got.append)
        again.connection.drain_events(timeout=30)
        broker_tools.wait_ready(again, stock, 1)
        got[0].ack()
        again.tx_commit()
        again.connection.drain_events(timeout=30)
        assert [message.delivery_tag for message in got] == [1, 2]


def test_a_transaction_hears_first_of_what_was_refused_before(pool, stock, used):
    with pool.channel() as again:
        again.basic_publish(gamqp.Message(b'y'), 'no such exchange', stock)
        with pytest.raises(gamqp.NotFound):
            again.tx_select()
        again.tx_select()
        again.tx_commit()


def test_a_transaction_after_a_message_is_refused_once(pool, stock, used):
    """The message would be lost with the channel. From then on the pool has only channels without confirms."""
    with pool.channel() as again:
        assert again is used
        assert again.basic_get(stock) is not None
        with pytest.raises(gamqp.PreconditionFailed, match='call tx_select before the lease gets messages'):
            again.tx_select()
    for _ in range(2):
        with pool.channel() as fresh:
            broker_tools.wait_ready(fresh, stock, 1)
            publish(fresh, stock)
            fresh.basic_get(stock, no_ack=True)
        with pool.channel() as fresh:
            message = fresh.basic_get(stock)
            fresh.tx_select()
            message.reject(requeue=True)
            fresh.tx_commit()


@pytest.mark.parametrize('confirm', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_who_publishes_with_receipts_in_each_lease_needs_no_other_channel(make, stock, way, confirm):
    pool = make(1, 3, confirm=confirm)

    def work():
        for _ in range(10):
            with pool.channel() as channel:
                way(channel, stock)

    tasks = [greenlets.spawn(work) for _ in range(3)]
    for task in tasks:
        task.get()
    stats = pool.stats()
    assert (stats['leases'], stats['replaced'], stats['channels']) == (30, 0, 3)


@pytest.mark.parametrize('way', WAYS)
def test_with_confirm_each_lease_counts_from_1(make, stock, way):
    pool = make(1, 1)
    for _ in range(3):
        with pool.channel() as channel:
            way(channel, stock)
            assert channel.publish(b'x', routing_key=stock).delivery_tag == 2
            assert channel.wait_for_confirms() is True


def test_a_transaction_in_a_pool_with_confirms_is_refused(make, stock):
    pool = make(1, 1)
    for _ in range(2):
        with pool.channel() as channel:
            with pytest.raises(gamqp.PreconditionFailed) as caught:
                channel.tx_select()
            assert 'lease' not in str(caught.value)
    assert pool.stats()['replaced'] == 2
