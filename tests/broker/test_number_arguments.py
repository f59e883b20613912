"""Public calls that take a number: what cannot be meant is refused by the argument's name, and nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import inside
import pytest
import scripted_consumers
from script import ScriptedBroker

import gamqp

NO_NUMBERS: list[Any] = ['5', b'5', '', True, [5], object(), 1j]
SECONDS: list[Any] = [*NO_NUMBERS, -1, -0.1, math.nan, -math.inf, 10**400]  # from 0 on; None is always something
TAGS: list[Any] = [bad for bad in NO_NUMBERS if bad is not True]  # the shortest way out looks no closer
WHOLE: list[Any] = [*NO_NUMBERS, -1, 1.5, math.nan]


class Scene:
    """An open connection with what calls are made on."""

    def __init__(self, peer: ScriptedBroker) -> None:
        self.connection = peer.open((10, 131072, 0))
        self.channel = peer.open_channel(self.connection)
        self.message = gamqp.Message('x')
        self.consumer = scripted_consumers.subscribed(peer, self.channel, lambda message: None)
        scripted_consumers.started(peer, self._serve)
        self.receipt = self.channel.publish('x')
        peer.expect('confirm.select')
        peer.send('confirm.select-ok', 1)
        peer.expect('basic.publish')
        self.rpc = gamqp.RPCClient(self.channel)
        self.pool = gamqp.Pool(f'amqp://{peer.host}')

    def _serve(self) -> gamqp.Consumer:
        self.server = gamqp.RPCServer(self.channel, 'q', print)
        return self.server.consumer


#: (argument, bad values, the call)
CALLS: list[tuple[str, list[Any], Callable[[Scene, Any], Any]]] = [
    ('channel_id', [*WHOLE, 65536], lambda here, bad: here.connection.channel(bad)),
    ('timeout', SECONDS, lambda here, bad: here.connection.drain_events(bad)),
    ('timeout', SECONDS, lambda here, bad: here.connection.blocking_read(bad)),
    ('timeout', SECONDS, lambda here, bad: here.connection.drain(bad)),
    ('timeout', SECONDS, lambda here, bad: here.connection.flush(bad)),
    ('timeout', SECONDS, lambda here, bad: here.connection.run_in_hub(print, timeout=bad)),
    ('rate', [*NO_NUMBERS, None, math.nan, math.inf], lambda here, bad: here.connection.heartbeat_tick(bad)),
    ('reply.code', [*NO_NUMBERS, None, -1, 1.5, 65536], lambda here, bad: here.connection.close(bad)),
    ('reply.code', [*NO_NUMBERS, None, -1, 1.5, 65536], lambda here, bad: here.channel.close(bad)),
    ('prefetch_size', [*WHOLE, None], lambda here, bad: here.channel.basic_qos(bad, 1, False)),
    ('prefetch_count', [*WHOLE, None, 65536], lambda here, bad: here.channel.basic_qos(0, bad, False)),
    ('prefetch', [*WHOLE, None, 65536], lambda here, bad: here.channel.consume('q', bad)),
    ('timeout', SECONDS, lambda here, bad: here.channel.consume('q', timeout=bad)),
    ('concurrency', [*WHOLE, None, 0], lambda here, bad: here.channel.subscribe('q', print, bad)),
    ('prefetch', [*WHOLE, 65536], lambda here, bad: here.channel.subscribe('q', print, prefetch=bad)),
    ('timeout', SECONDS, lambda here, bad: here.channel.publish('x', timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.channel.basic_publish(here.message, timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.channel.basic_publish_confirm(here.message, timeout=bad)),
    (
        'confirm_timeout',
        SECONDS,
        lambda here, bad: here.channel.basic_publish_confirm(here.message, confirm_timeout=bad),
    ),
    ('timeout', SECONDS, lambda here, bad: here.channel.wait_for_confirms(bad)),
    ('timeout', SECONDS, lambda here, bad: here.receipt.wait(bad)),
    ('delivery_tag', [*TAGS, None, -1, 1.5, 2**64], lambda here, bad: here.channel.basic_ack(bad)),
    ('delivery_tag', [*TAGS, None, -1, 1.5, 2**64], lambda here, bad: here.channel.basic_nack(bad)),
    ('delivery_tag', [*TAGS, None, -1, 1.5, 2**64], lambda here, bad: here.channel.basic_reject(bad, True)),
    ('priority', [*NO_NUMBERS, -1, 1.5, 256], lambda here, bad: here.channel.publish('x', priority=bad)),
    ('delivery.mode', [*NO_NUMBERS, -1, 1.5, 256], lambda here, bad: here.channel.publish('x', delivery_mode=bad)),
    ('timestamp', ['5', [5], -1, 2**64], lambda here, bad: here.channel.publish('x', timestamp=bad)),
    ('timeout', SECONDS, lambda here, bad: here.consumer.cancel(timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.consumer.join(bad)),
    ('timeout', SECONDS, lambda here, bad: gamqp.RPCClient(here.connection, bad)),
    ('timeout', SECONDS, lambda here, bad: here.rpc.call('x', 'q', timeout=bad)),
    ('concurrency', [*WHOLE, None, 0], lambda here, bad: gamqp.RPCServer(here.connection, 'q', print, bad)),
    ('prefetch', [*WHOLE, 65536], lambda here, bad: gamqp.RPCServer(here.connection, 'q', print, 1, bad)),
    ('timeout', SECONDS, lambda here, bad: here.server.close(bad)),
    ('timeout', SECONDS, lambda here, bad: here.server.cancel(timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.server.join(bad)),
    ('connections', [*WHOLE, None, 0], lambda here, bad: gamqp.Pool('amqp://', bad)),
    ('channels_per_connection', [*WHOLE, None, 0, 65536], lambda here, bad: gamqp.Pool('amqp://', 1, bad)),
    ('timeout', [*SECONDS, None], lambda here, bad: gamqp.Pool('amqp://', timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.pool.channel(bad)),
    ('timeout', SECONDS, lambda here, bad: here.pool.publish('x', timeout=bad)),
    ('timeout', SECONDS, lambda here, bad: here.pool.close(bad)),
]


@pytest.mark.parametrize(('name', 'values', 'call'), CALLS, ids=[f'{n}-{name}' for n, (name, *_) in enumerate(CALLS)])
def test_a_number_that_cannot_be_meant_is_refused(
    peer: ScriptedBroker, name: str, values: list[Any], call: Callable[[Scene, Any], Any]
) -> None:
    here = Scene(peer)
    for bad in values:
        with pytest.raises((TypeError, ValueError), match=rf'\b{name}\b'):
            call(here, bad)
    assert here.connection.connected and here.channel.is_open and not inside.inbox(here.consumer).entry.discard
    peer.expect_nothing_more(here.connection)
