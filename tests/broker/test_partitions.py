"""What partitions refuse before a byte is sent."""

from __future__ import annotations

import pytest

import gamqp


def handle(message):
    raise AssertionError('nothing was sent')


@pytest.mark.parametrize(
    ('arguments', 'error', 'text'),
    [
        ({'channel': 'amqp://'}, TypeError, 'channel: a Channel or a Connection is wanted'),
        ({'name': b'orders'}, TypeError, 'name: a str is wanted'),
        ({'name': ''}, ValueError, 'name: '),
        ({'count': 0}, ValueError, 'count: a whole number from 1 to 1000'),
        ({'count': 1001}, ValueError, 'count: a whole number from 1 to 1000'),
        ({'count': True}, TypeError, 'count: a whole number'),
        ({'count': '16'}, TypeError, 'count: a whole number'),
        ({'exchange_type': 5}, TypeError, 'exchange_type: a str is wanted'),
        ({'arguments': [1]}, TypeError, 'arguments: a dict is wanted'),
        ({'declare': 'no'}, TypeError, 'declare: True or False is wanted'),
    ],
)
def test_arguments_that_make_no_sense(arguments, error, text):
    # It was never opened: whatever is sent raises something else.
    given = {'channel': gamqp.Connection(), 'name': 'orders', 'count': 16, **arguments}
    with pytest.raises(error, match=text):
        gamqp.partitions(**given)


@pytest.mark.parametrize(
    ('arguments', 'error', 'text'),
    [
        ({'handler': None}, TypeError, 'handler None cannot be called'),
        ({'member': 3, 'members': 3}, ValueError, 'member: a whole number from 0 to 2'),
        ({'member': -1, 'members': 3}, ValueError, 'member: a whole number from 0 to 2'),
        ({'member': 1}, ValueError, 'member: a whole number from 0 to 0'),
        ({'members': 0}, ValueError, 'members: a whole number from 1'),
        ({'member': '1', 'members': 3}, TypeError, 'member: a whole number'),
        ({'prefetch': -1}, ValueError, 'prefetch'),
        ({'prefetch': 70000}, ValueError, 'prefetch'),
        ({'on_error': 'ignore'}, ValueError, 'on_error is one of requeue, reject, stop or a callable'),
    ],
)
def test_a_subscription_that_makes_no_sense(channel, arguments, error, text):
    parts = gamqp.partitions(channel, 'orders', 16, declare=False)
    with pytest.raises(error, match=text):
        parts.subscribe(**{'handler': handle, **arguments})


@pytest.mark.parametrize('key', [None, 5, b'\xff', 'k' * 256])
def test_a_key_that_is_none(channel, key):
    parts = gamqp.partitions(channel, 'orders', 16, declare=False)
    with pytest.raises((TypeError, gamqp.EncodeError), match='key'):
        parts.publish(b'', key)


def test_what_it_says_of_itself(channel):
    parts = gamqp.partitions(channel, 'orders', 3, declare=False)
    assert (parts.name, parts.count, parts.queues) == ('orders', 3, ('orders.0', 'orders.1', 'orders.2'))
    assert "<Partitions 'orders', 3 of them, on <Channel" in repr(parts)
