"""Goodbyes to a broker that takes no messages: it does not read, so no answer comes, and nobody waits long for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import greenlets
import pytest
from processor import own_time
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp.connection.liveness import BLOCKED_TIMEOUT, LAST_CLOSE_TIMEOUT

SLACK = 1.5  # seconds that a busy machine may add


def blocked(peer: ScriptedBroker) -> gamqp.Channel:
    """A channel with a consumer, of a connection that the broker has blocked."""
    client = peer.open()
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: client.is_blocked)
    return channel


def taken(fn: Callable[[], Any]) -> float:
    """Seconds that it takes, without those for which other programs have the processors."""
    begun = own_time()
    try:
        fn()
    except TimeoutError:
        pass
    return own_time() - begun


@pytest.mark.real_seconds
def test_no_goodbye_takes_long_by_default(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """All at the same time, and one that the broker blocks only after it has begun."""
    goodbyes: list[Callable[[gamqp.Channel], Any]] = [
        lambda channel: channel.close(),
        lambda channel: channel.connection.close(),
        lambda channel: channel.connection.drain(),
    ]
    peers = [ScriptedBroker() for _ in goodbyes]
    try:
        channels = [blocked(peer) for peer in peers]
        begun = time.monotonic()
        tasks = [
            greenlets.spawn(taken, lambda goodbye=goodbye, channel=channel: goodbye(channel))  # type: ignore[misc]
            for goodbye, channel in zip(goodbyes, channels, strict=True)
        ]
        late = greenlets.spawn(taken, channel.connection.close)
        peer.expect('connection.close')
        peer.send('connection.blocked', reason='low on memory')
        assert late.get() <= BLOCKED_TIMEOUT + SLACK
        for task in tasks:
            assert task.get() <= BLOCKED_TIMEOUT + SLACK
        assert time.monotonic() - begun >= BLOCKED_TIMEOUT - 0.1
    finally:
        for peer in peers:
            peer.__exit__()


def test_the_total_of_the_caller_counts_for_closes(peer: ScriptedBroker) -> None:
    channel = blocked(peer)
    connection = channel.connection
    with pytest.raises(TimeoutError, match=r'within 0\.1 s'):
        channel.close(timeout=0.1)
    assert taken(lambda: connection.close(timeout=0.1)) < SLACK
    assert not connection.connected


def test_the_total_of_a_drain_includes_the_close(peer: ScriptedBroker) -> None:
    connection = blocked(peer).connection
    outcomes: list[bool] = []
    assert taken(lambda: outcomes.append(connection.drain(0.1))) < LAST_CLOSE_TIMEOUT + SLACK
    assert outcomes == [False]
    assert not connection.connected


def test_the_total_of_a_pool_includes_the_close(peer: ScriptedBroker) -> None:
    pool = gamqp.Pool(f'amqp://{peer.host}', 1, 1)
    leasing = greenlets.spawn(pool.channel().__enter__)
    peer.handshake()
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    connection = leasing.get().connection
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: connection.is_blocked)
    assert taken(lambda: pool.close(0.1)) < LAST_CLOSE_TIMEOUT + SLACK
    assert not connection.connected


@pytest.mark.parametrize('timeout', [-1, 'soon', True])
def test_a_bad_timeout_closes_nothing(peer: ScriptedBroker, channel: gamqp.Channel, timeout: Any) -> None:
    connection = channel.connection
    for call in (channel.close, connection.close, connection.drain):
        with pytest.raises((TypeError, ValueError), match=r'^timeout'):
            call(timeout=timeout)
    assert connection.connected
    assert channel.is_open
