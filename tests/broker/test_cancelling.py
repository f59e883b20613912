"""When basic.cancel goes out: never before consume-ok has come, and in answer to a cancel by the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import fail, messages, started

import gamqp
from gamqp import exceptions

STARTS: dict[str, Callable[[gamqp.Channel], Any]] = {
    'basic_consume': lambda channel: channel.basic_consume('q', 'tag', callback=print),
    'basic_consume without acks': lambda channel: channel.basic_consume('q', 'tag', no_ack=True, callback=print),
    'consume': lambda channel: channel.consume('q', prefetch=0, consumer_tag='tag'),
    'subscribe': lambda channel: channel.subscribe('q', fail, prefetch=0, consumer_tag='tag'),
}
every_start = pytest.mark.parametrize('start', STARTS.values(), ids=STARTS)


def consume_ok(tag: str = 'tag') -> bytes:
    return frames('basic.consume-ok', consumer_tag=tag)


@every_start
def test_drain_while_a_consumer_is_being_started(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, start: Any
) -> None:
    starting = greenlets.spawn(start, channel)
    peer.expect('basic.consume')
    draining = greenlets.spawn(client.drain, 20)
    greenlets.wait_until(lambda: inside.unfinished_handlers(client).draining)
    peer.expect_nothing_more(client)
    peer.raw(consume_ok())
    assert peer.expect('basic.cancel').consumer_tag == 'tag'
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.agree_to_close()
    assert draining.get() is True
    starting.get()


@every_start
def test_a_killed_start_is_cancelled_after_consume_ok(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, start: Any
) -> None:
    starting = greenlets.spawn(start, channel)
    peer.expect('basic.consume')
    starting.kill()
    with pytest.raises(GreenletExit):
        starting.get()
    peer.expect_nothing_more(client)
    peer.raw(consume_ok() + messages('tag', [1]))
    assert peer.expect('basic.cancel').consumer_tag == 'tag'
    if not channel.no_ack_consumers:
        assert peer.expect('basic.nack').delivery_tag == 1
    peer.send('basic.cancel-ok', consumer_tag='tag')
    greenlets.wait_until(lambda: not channel.consumer_count)
    peer.expect_nothing_more(client)


@every_start
def test_one_cancel_for_a_start_that_is_killed_during_drain(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, start: Any
) -> None:
    starting = greenlets.spawn(start, channel)
    peer.expect('basic.consume')
    draining = greenlets.spawn(client.drain, 20)
    greenlets.wait_until(lambda: inside.unfinished_handlers(client).draining)
    starting.kill()
    with pytest.raises(GreenletExit):
        starting.get()
    peer.raw(consume_ok())
    peer.expect('basic.cancel')
    peer.expect_nothing_more(client)
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.agree_to_close()
    assert draining.get() is True


def test_another_greenlet_cancels_by_the_tag(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    starting = greenlets.spawn(STARTS['consume'], channel)
    peer.expect('basic.consume')
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect_nothing_more(client)
    peer.raw(consume_ok())
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    cancelling.get()
    with pytest.raises(StopIteration):
        next(starting.get())


def test_a_consumer_whose_consent_was_not_waited_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    channel.basic_consume('q', 'tag', nowait=True, callback=print)
    peer.expect('basic.consume')
    channel.basic_cancel('tag', nowait=True)
    peer.expect_nothing_more(client)
    peer.raw(consume_ok())
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag='tag')
    greenlets.wait_until(lambda: not channel.consumer_count)


def test_a_start_that_the_broker_refuses_tells_those_who_cancel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    starting = greenlets.spawn(STARTS['consume'], channel)
    peer.expect('basic.consume')
    cancelling = greenlets.spawn(channel.basic_cancel, 'tag')
    peer.expect_nothing_more(client)
    peer.send('channel.close', 1, reply_code=404, reply_text='no queue', class_id=60, method_id=20)
    peer.reopen()
    for task in (starting, cancelling):
        with pytest.raises(exceptions.NotFound):
            task.get()
    peer.expect_nothing_more(client)


# -- cancels of the broker -------------------------------------------------------------------


@pytest.mark.parametrize('nowait', [True, False])
@every_start
def test_a_cancel_by_the_broker_is_answered_by_one_of_ours(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, start: Any, nowait: bool
) -> None:
    starting = greenlets.spawn(start, channel)
    peer.expect('basic.consume')
    peer.raw(consume_ok())
    consumer = starting.get()
    peer.send('basic.cancel', consumer_tag='tag', nowait=nowait)
    said = peer.expect('basic.cancel')
    assert (said.consumer_tag, said.nowait) == ('tag', True)
    peer.expect_nothing_more(client)
    assert not channel.consumer_count
    del consumer
    peer.expect_nothing_more(client)


def test_no_answer_on_a_channel_that_is_being_closed(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """RabbitMQ would end the connection over it."""
    starting = greenlets.spawn(STARTS['basic_consume'], channel)
    peer.expect('basic.consume')
    peer.raw(consume_ok())
    starting.get()
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('basic.cancel', consumer_tag='tag', nowait=True)
    peer.expect_nothing_more(client)
    peer.send('channel.close-ok')
    closing.get()


def test_deliveries_that_go_on_after_the_end_are_told_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    loop = started(peer, lambda: channel.consume('q', prefetch=0))
    peer.send('basic.cancel', consumer_tag=loop.tag, nowait=True)
    peer.expect('basic.cancel')
    caplog.set_level(logging.WARNING, 'gamqp')
    for tag in range(1, 101):
        peer.raw(messages(loop.tag, [tag]))
        assert peer.expect('basic.nack').delivery_tag == tag
    greenlets.wait_until(lambda: caplog.records)
    peer.raw(messages('another', range(101, 103)))
    assert [peer.expect('basic.nack').delivery_tag for _ in range(2)] == [101, 102]
    greenlets.backend.sleep(0)
    (record,) = caplog.records
    assert loop.tag in record.getMessage() and 'channel 1' in record.getMessage().lower()
