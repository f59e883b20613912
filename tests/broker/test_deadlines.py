"""Everything that waits has a deadline, its own error, and leaves nothing behind; nothing that waits burns time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

RPC_TIMEOUT = 0.1
# How much later than that an error may come; a machine may be busy, a call that hangs is far above.
TOLERANCE = 20

CALLS: dict[str, Callable[[Any], Any]] = {
    'channel.open': lambda channel: channel.connection.channel(),
    'channel.flow': lambda channel: channel.flow(True),
    'channel.close': lambda channel: channel.close(),
    'queue.declare': lambda channel: channel.queue_declare('q'),
    'queue.bind': lambda channel: channel.queue_bind('q', 'e'),
    'queue.unbind': lambda channel: channel.queue_unbind('q', 'e'),
    'queue.purge': lambda channel: channel.queue_purge('q'),
    'queue.delete': lambda channel: channel.queue_delete('q'),
    'exchange.declare': lambda channel: channel.exchange_declare('e', 'direct', auto_delete=False),
    'exchange.delete': lambda channel: channel.exchange_delete('e'),
    'exchange.bind': lambda channel: channel.exchange_bind('e', 'f'),
    'exchange.unbind': lambda channel: channel.exchange_unbind('e', 'f'),
    'basic.qos': lambda channel: channel.basic_qos(0, 1, False),
    'basic.consume': lambda channel: channel.basic_consume('q', callback=print),
    'basic.cancel': lambda channel: channel.basic_cancel('tag'),
    'basic.get': lambda channel: channel.basic_get('q'),
    'basic.recover': lambda channel: channel.basic_recover(requeue=True),
    'confirm.select': lambda channel: channel.confirm_select(),
    'tx.select': lambda channel: channel.tx_select(),
    'tx.commit': lambda channel: channel.tx_commit(),
    'tx.rollback': lambda channel: channel.tx_rollback(),
    'connection.update-secret': lambda channel: channel.connection.update_secret('x'),
}


@pytest.mark.parametrize('name', CALLS)
def test_a_call_to_a_silent_broker_is_a_timeout_that_names_it(peer: ScriptedBroker, name: str) -> None:
    connection = peer.open(heartbeat=0)
    channel = peer.open_channel(connection)
    connection.rpc_timeout = RPC_TIMEOUT
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=f'{name}: no reply within {RPC_TIMEOUT} s'):
        CALLS[name](channel)
    assert RPC_TIMEOUT * 0.9 < time.monotonic() - began < RPC_TIMEOUT + TOLERANCE


def test_heartbeats_of_the_broker_do_not_stretch_the_deadline_of_a_call(peer: ScriptedBroker) -> None:
    connection = peer.open(heartbeat=0)
    channel = peer.open_channel(connection)
    connection.rpc_timeout = 0.3
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    began = time.monotonic()
    while not declaring.done and time.monotonic() - began < TOLERANCE:
        peer.raw(b'\x08\x00\x00\x00\x00\x00\x00\xce')
        greenlets.sleep(0.02)
    with pytest.raises(TimeoutError):
        declaring.get()
    assert time.monotonic() - began < 0.3 + TOLERANCE


def test_a_confirm_that_does_not_come_is_a_timeout(peer: ScriptedBroker) -> None:
    channel = peer.open_channel(peer.open(confirm_timeout=RPC_TIMEOUT, heartbeat=0))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match='no confirm'):
        channel.basic_publish_confirm(gamqp.Message('x'), '', 'q')
    assert RPC_TIMEOUT * 0.9 < time.monotonic() - began < RPC_TIMEOUT + TOLERANCE


def test_close_gives_a_silent_broker_up_without_an_error(peer: ScriptedBroker) -> None:
    connection = peer.open(rpc_timeout=RPC_TIMEOUT, heartbeat=0)
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < RPC_TIMEOUT + TOLERANCE
    assert connection.sock is None


@pytest.mark.parametrize('step', ['start', 'tune', 'open-ok'])
def test_connecting_has_a_limit_although_none_is_asked_for(peer: ScriptedBroker, step: str) -> None:
    """Celery says connect_timeout=None under gevent."""
    connection = peer.client(connect_timeout=None)
    assert 5 <= connection.connect_timeout <= 10  # the broker's own limit is 10 s
    connection.connect_timeout = 0.2
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until=step)
    with pytest.raises(TimeoutError, match=r'within 0\.2 s'):
        opening.get()
    peer.expect_end()


def test_nothing_waits_for_ever_by_default() -> None:
    connection = gamqp.Connection()
    for deadline in (connection.rpc_timeout, connection.confirm_timeout, gamqp.connection.shutdown.CLOSE_TIMEOUT):
        assert 0 < deadline <= 60 and math.isfinite(deadline)
    assert connection.blocked_policy == 'wait'


# -- waiting costs no time of the processor --------------------------------------------------------


def test_waiting_in_the_middle_of_everything_burns_nothing() -> None:
    """Half a frame in, a stuck publish out, and everybody waiting: py-amqp was seen to spin there."""
    with ScriptedBroker(buffer=64 * 1024) as peer:
        connection = peer.open(heartbeat=0)
        channel, other = peer.open_channel(connection), peer.open_channel(connection, 2)
        deliver = frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=bytes(1000))
        peer.raw(deliver[: len(deliver) - 500])
        declaring = greenlets.spawn(other.queue_declare, 'q')
        draining = greenlets.spawn(connection.drain_events)
        channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', 'q')
        stuck = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
        greenlets.sleep(0.1)
        used = time.process_time()
        greenlets.sleep(1)
        used = time.process_time() - used
        assert used < 0.3, f'{used:.2f} s of one second'
        peer.cut(reset=True)
        for task in (declaring, draining, stuck):
            with pytest.raises(exceptions.RecoverableConnectionError):
                task.get()
