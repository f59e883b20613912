"""The broker cancels a consumer and does not say why: the error says whose it was, and what it can be."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from script import ScriptedBroker
from scripted_consumers import Work, begin, start, started, subscribed

import gamqp
from gamqp import exceptions
from gamqp.state.error_hints import cancelled


def assert_names(error: exceptions.ConsumerCancelled, tag: str) -> None:
    assert (error.consumer_tag, error.queue) == (tag, 'q')
    assert error.reply_text == tag
    assert "queue 'q'" in str(error)
    assert 'deleted' in str(error)


def test_a_callback_consumer(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    peer.send('basic.cancel', consumer_tag='tag', nowait=True)
    with pytest.raises(exceptions.ConsumerCancelled) as caught:
        client.drain_events(timeout=30)
    assert_names(caught.value, 'tag')


def test_an_iterator(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    deliveries = start(peer, channel)
    peer.send('basic.cancel', consumer_tag=deliveries.tag, nowait=True)
    with pytest.raises(exceptions.ConsumerCancelled) as caught:
        next(deliveries)
    assert_names(caught.value, deliveries.tag)


def test_a_subscription(peer: ScriptedBroker, channel: gamqp.Channel, work: Work) -> None:
    consumer = subscribed(peer, channel, work)
    peer.send('basic.cancel', consumer_tag=consumer.tag, nowait=True)
    with pytest.raises(exceptions.ConsumerCancelled) as caught:
        consumer.join(30)
    assert_names(caught.value, consumer.tag)


def test_the_queue_that_was_declared_last(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    declaring = greenlets.spawn(lambda: channel.queue_declare(exclusive=True))
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='q', message_count=0, consumer_count=0)
    declaring.get()
    deliveries: Any = started(peer, lambda: channel.consume(''))
    peer.send('basic.cancel', consumer_tag=deliveries.tag, nowait=True)
    with pytest.raises(exceptions.ConsumerCancelled) as caught:
        next(deliveries)
    assert_names(caught.value, deliveries.tag)


@pytest.mark.parametrize(
    ('version', 'oldest', 'late'),
    [
        ((4, 3), (7, 'tag', 100.0), True),
        ((4, 3), (7, 'other', 100.0), False),
        ((4, 3), None, False),
        ((4, 2), (7, 'tag', 100.0), False),
        ((), (7, 'tag', 100.0), False),
    ],
)
def test_a_delivery_that_was_not_settled_in_time_is_named_where_that_can_be_it(
    version: Any, oldest: Any, late: bool
) -> None:
    error = cancelled('tag', 'q', version, oldest, 160.0)
    assert ('delivery 7 has been unsettled for 60 s' in str(error)) is late
