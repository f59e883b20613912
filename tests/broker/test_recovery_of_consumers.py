"""What a recovering connection restores of its topology and consumers, and what the program has ended at the loss."""

from __future__ import annotations

import functools
from typing import Any

import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker
from scripted_consumers import begin, messages
from scripted_recovery import AT_ONCE, call, come_back, grant, refuse, rehearse, words

import gamqp
from gamqp import testing


@pytest.fixture
def client(peer: ScriptedBroker) -> gamqp.Connection:
    return peer.open(recover=AT_ONCE)


def test_the_queue_declared_last_has_its_new_name_for_a_call_that_waits(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    call(peer, channel.queue_declare, exclusive=True)
    call(peer, channel.queue_bind, '', 'e')
    begin(peer, lambda: channel.subscribe('', print))
    peer.hang_up()
    greenlets.wait_until(lambda: client.state == 'recovering')
    waiting = greenlets.spawn(channel.queue_bind, '', 'f')
    asked = come_back(peer, client)
    assert words(asked[:4]) == ['queue.declare', 'queue.bind amq.gen-2', 'basic.qos', 'basic.consume amq.gen-2']
    if not asked[4:]:  # the call may have come before the connection was seen to be open
        asked.append(peer.expect('queue.bind'))
        grant(peer, asked[4])
    assert (asked[4].queue, asked[4].exchange) == ('amq.gen-2', 'f')
    waiting.get()
    assert client.queue_name('amq.gen-1') == 'amq.gen-2'


@pytest.mark.parametrize('how', ['waits', 'was killed', 'nowait', 'before consume-ok'])
def test_a_cancel_that_a_loss_overtakes_is_done(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, how: str
) -> None:
    """The consumer is not started again: it would give back each message, and get it again."""
    call(peer, channel.queue_declare, 'q', durable=True, auto_delete=False)
    if how == 'before consume-ok':
        starting = greenlets.spawn(functools.partial(channel.basic_consume, 'q', 't', callback=print))
        peer.expect('basic.consume')
        cancelling = greenlets.spawn(channel.basic_cancel, 't')
        greenlets.sleep(0)
    else:
        begin(peer, lambda: channel.basic_consume('q', 't', callback=print))
        cancelling = greenlets.spawn(channel.basic_cancel, 't', how == 'nowait')
        peer.expect('basic.cancel')
    if how == 'was killed':
        cancelling.kill()
        with pytest.raises(GreenletExit):
            cancelling.get()
    peer.hang_up()
    if how == 'before consume-ok':
        with pytest.raises(gamqp.Lost):
            starting.get()
    if how != 'was killed':
        cancelling.get()
    assert words(come_back(peer, client)) == ['queue.declare q']
    assert channel.consumer_count == 0
    assert [record['kind'] for record in client.topology()] == ['queue']


def test_a_consumer_that_is_not_restored_does_not_take_its_queue_with_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    call(peer, channel.queue_declare, 'q', exclusive=True, auto_delete=True)
    call(peer, channel.queue_bind, 'q', 'e')
    consumer = begin(peer, lambda: channel.subscribe('q', print, recover=False))
    peer.hang_up()
    assert words(come_back(peer, client)) == ['queue.declare q', 'queue.bind q', 'basic.qos']
    with pytest.raises(gamqp.Lost):
        consumer.join()
    again = begin(peer, lambda: channel.subscribe('q', lambda message: None))
    peer.raw(messages(again.tag, [1]))
    peer.expect('basic.ack')


def test_a_consumer_that_is_refused_after_all_takes_no_other_with_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """It could be started on the connection's own channel, and then not on that of the program."""
    begin(peer, lambda: channel.subscribe('steady', print))
    begin(peer, lambda: channel.subscribe('rare', print))
    peer.hang_up()
    come_back(peer, client, missing=('rare',))
    for times in (2, 3):
        rehearse(peer)
        refuse(peer, peer.expect('basic.consume', 1))
        greenlets.wait_until(lambda: client.state == 'recovering')
        peer.hang_up()
        come_back(peer, client, missing=('rare',))
        assert client.stats()['outages'] == times
    assert channel.consumer_count == 2
    rehearse(peer)
    grant(peer, peer.expect('basic.consume', 1))
    peer.expect_nothing_more(client)


def test_a_consumer_whose_late_start_is_not_answered_is_started_anew(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    begin(peer, lambda: channel.subscribe('rare', print))
    peer.hang_up()
    come_back(peer, client, missing=('rare',))
    client.rpc_timeout = 0.05
    rehearse(peer)
    peer.expect('basic.consume', 1)
    greenlets.wait_until(lambda: client.state == 'recovering')
    peer.hang_up()
    client.rpc_timeout = greenlets.PATIENCE
    assert words(come_back(peer, client)) == ['basic.qos', 'basic.consume rare']


@pytest.mark.parametrize(('times', 'skipped'), [(2, [1]), (3, [1, 0]), (6, [1, 1, 1])])
def test_a_consumer_whose_queue_is_broken_for_a_while_starts_when_it_is_not(times: int, skipped: list[int]) -> None:
    """The broker closes the connection over it, as RabbitMQ does for a quorum queue without a leader.

    In the first outage the second time tells that it is this one; then its late start is the next loss, and an attempt
    with it may fail before one goes without it.
    """
    reports: list[Any] = []
    with (
        testing.Broker() as broker,
        gamqp.connect(broker.url, recover=AT_ONCE, on_recovered=reports.append) as client,
    ):
        channel = client.channel()
        for queue in ('leaderless', 'steady'):
            channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.subscribe(queue, print)
        broker.refuse('basic.consume', 541, times=times, queue='leaderless')
        for link in broker.connections:
            broker.cut(link)
        greenlets.wait_until(lambda: len(reports) == len(skipped))
        greenlets.wait_until(lambda: len(broker.queue('leaderless').consumers) == 1)
        greenlets.wait_until(lambda: len(broker.queue('steady').consumers) == 1 and client.state == 'open')
        assert [len(report.skipped) for report in reports] == skipped
        assert channel.consumer_count == 2
