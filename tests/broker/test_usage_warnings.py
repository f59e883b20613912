"""Warnings at calls that do what hardly anybody wants, and none at those that say what they mean."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions
from gamqp.channel.reuse import is_as_new


def declared(peer: ScriptedBroker, channel: gamqp.Channel, **arguments: Any) -> tuple[Any, list[Any]]:
    """What the peer was asked for, and the warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        task = greenlets.spawn(lambda: channel.queue_declare('q', **arguments))
        asked = peer.expect('queue.declare')
        peer.send('queue.declare-ok', queue='q', message_count=0, consumer_count=0)
        task.get()
    return asked, seen


def test_a_durable_queue_that_goes_with_its_consumer_unless_that_is_said(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    asked, [seen] = declared(peer, channel, durable=True)
    assert asked.auto_delete is True
    assert seen.category is UserWarning
    assert seen.filename == __file__
    assert 'auto_delete=False' in str(seen.message)


@pytest.mark.parametrize(
    ('arguments', 'auto_delete'),
    [
        ({'durable': True, 'auto_delete': False}, False),
        ({'durable': True, 'auto_delete': True}, True),
        ({'durable': True, 'exclusive': True}, True),
        ({'durable': True, 'passive': True}, True),
        ({'exclusive': True}, True),
        ({}, True),
    ],
    ids=str,
)
def test_any_other_queue(peer: ScriptedBroker, channel: gamqp.Channel, arguments: Any, auto_delete: bool) -> None:
    asked, seen = declared(peer, channel, **arguments)
    assert asked.auto_delete is auto_delete
    assert seen == []


def test_the_default_is_py_amqps() -> None:
    default = inspect.signature(gamqp.Channel.queue_declare).parameters['auto_delete'].default
    assert default == True  # noqa: E712
    assert repr(default) == 'True'


def test_nothing_is_advised_where_nothing_can_be_sent(channel: gamqp.Channel) -> None:
    connection = channel.connection
    connection.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        with pytest.raises(exceptions.RecoverableConnectionError):
            channel.queue_declare('q', durable=True)
        with pytest.raises(exceptions.RecoverableConnectionError):
            channel.basic_consume('q')
    assert seen == []


@pytest.mark.parametrize(('no_ack', 'what'), [(False, 'unsettled'), (True, 'lost')])
def test_a_consumer_without_a_callback(peer: ScriptedBroker, channel: gamqp.Channel, no_ack: bool, what: str) -> None:
    with pytest.warns(UserWarning, match=f'without a callback: its messages are dropped, {what}') as seen:
        channel.basic_consume('q', 'tag', no_ack=no_ack, nowait=True)
    assert seen[0].filename == __file__
    peer.expect('basic.consume')


def test_a_warning_that_is_made_an_error_leaves_nothing_behind(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(UserWarning):
            channel.basic_consume('q', 'tag')
        with pytest.raises(UserWarning):
            channel.queue_declare('q', durable=True)
    peer.expect_nothing_more(client)
    assert channel.consumer_count == 0
    assert is_as_new(channel)
