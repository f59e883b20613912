"""The metrics hook, and what Connection.stats tells of a broker that takes nothing, by a scripted peer."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections.abc import Iterator
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green
from gamqp.telemetry import stats

QUICK = 0.02  # seconds, an interval


class Hook:
    """Notes what it is called with and by whom; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.callers: list[Any] = []
        self.running = self.most = 0
        self.gate: green.Event | None = None
        self.error: BaseException | None = None

    def __call__(self, stats: dict[str, Any]) -> None:
        self.calls.append(stats)
        self.callers.append(greenlet.getcurrent())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                self.gate.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1

    def wait_for(self, count: int) -> None:
        greenlets.wait_until(lambda: len(self.calls) >= count, what=f'{count} calls of the hook')


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    if hook.gate is not None:
        hook.gate.set()


def test_it_is_called_every_interval_in_a_greenlet_of_its_own(peer: ScriptedBroker, hook: Hook) -> None:
    client = peer.open(metrics=hook, metrics_interval=0.1)
    begun = time.monotonic()
    hook.wait_for(3)
    assert time.monotonic() - begun > 0.25
    assert all(set(call) == {'name', *client.stats()} for call in hook.calls)
    assert greenlet.getcurrent() not in hook.callers


def test_it_is_called_once_at_the_end_with_the_last_numbers(peer: ScriptedBroker, hook: Hook) -> None:
    client = peer.open(metrics=hook, metrics_interval=3600)
    channel = peer.open_channel(client)
    channel.basic_publish(gamqp.Message('x'), '', 'q')
    assert not hook.calls
    closing = greenlets.spawn(client.close)
    peer.expect('basic.publish')
    peer.agree_to_close()
    closing.get()
    hook.wait_for(1)
    client.close()
    client.collect()
    for _ in range(5):
        greenlets.sleep(0.01)
    assert len(hook.calls) == 1
    assert hook.calls[0]['published'] == 1
    assert hook.calls[0]['bytes_in'] == client.stats()['bytes_in']


def test_it_is_called_at_the_end_of_a_connection_that_is_lost(peer: ScriptedBroker, hook: Hook) -> None:
    client = peer.open(metrics=hook, metrics_interval=3600)
    peer.cut(reset=True)
    hook.wait_for(1)
    assert not client.connected


def test_it_goes_on_after_a_reconnect(peer: ScriptedBroker, hook: Hook) -> None:
    client = peer.open(metrics=hook, metrics_interval=QUICK)
    hook.wait_for(1)
    peer.cut(reset=True)
    greenlets.wait_until(lambda: not client.connected)
    peer.hang_up()
    opening = greenlets.spawn(client.connect)
    peer.handshake()
    opening.get()
    hook.wait_for(len(hook.calls) + 2)
    assert hook.calls[-1]['opened'] == 2


def test_without_a_connection_it_is_not_called(peer: ScriptedBroker, hook: Hook) -> None:
    client = peer.client(metrics=hook, metrics_interval=QUICK, connect_timeout=0.2)
    with pytest.raises(OSError):
        client.connect()
    greenlets.sleep(3 * QUICK)
    assert not hook.calls


@pytest.mark.parametrize('interval', [0, -1, float('nan')])
def test_an_interval_that_makes_no_sense_is_refused(hook: Hook, interval: float) -> None:
    with pytest.raises(ValueError, match='metrics_interval'):
        gamqp.Connection(metrics=hook, metrics_interval=interval)


def test_one_that_raises_is_logged_and_called_again(peer: ScriptedBroker, hook: Hook, caplog: Any) -> None:
    hook.error = ValueError('no metrics today')
    with caplog.at_level(logging.ERROR, 'gamqp'):
        client = peer.open(metrics=hook, metrics_interval=QUICK)
        hook.wait_for(3)
    assert client.connected
    assert 'no metrics today' in caplog.text


def test_one_that_takes_its_time_is_not_called_twice_at_once_and_then_gets_the_newest_numbers(
    peer: ScriptedBroker, hook: Hook
) -> None:
    hook.gate = green.Event(greenlets.backend)
    client = peer.open(metrics=hook, metrics_interval=QUICK)
    channel = peer.open_channel(client)
    hook.wait_for(1)
    channel.basic_publish(gamqp.Message('x'), '', 'q')
    greenlets.sleep(5 * QUICK)
    assert len(hook.calls) == 1
    peer.expect('basic.publish')  # everything else goes on
    hook.gate.set()
    hook.gate = None
    hook.wait_for(2)
    assert hook.calls[1]['published'] == 1
    assert hook.most == 1


def test_one_that_is_held_up_does_not_hold_up_the_end_and_hears_of_it_later(peer: ScriptedBroker, hook: Hook) -> None:
    gate = hook.gate = green.Event(greenlets.backend)
    client = peer.open(metrics=hook, metrics_interval=QUICK)
    hook.wait_for(1)
    client.collect()
    greenlets.sleep(2 * QUICK)
    assert len(hook.calls) == 1
    gate.set()
    hook.wait_for(2)
    greenlets.sleep(3 * QUICK)
    assert len(hook.calls) == 2


def test_one_whose_greenlet_is_killed_is_called_again(peer: ScriptedBroker, hook: Hook) -> None:
    hook.gate = green.Event(greenlets.backend)
    peer.open(metrics=hook, metrics_interval=QUICK)
    hook.wait_for(1)
    greenlets.backend.kill(hook.callers[0])
    hook.wait_for(2)


@pytest.mark.filterwarnings('ignore:.*was never closed:ResourceWarning')
def test_it_keeps_no_connection_alive(peer: ScriptedBroker, hook: Hook) -> None:
    """Not even one that the hook itself refers to."""
    client = peer.open(metrics=hook, metrics_interval=QUICK)
    hook.client = client  # type: ignore[attr-defined]
    hook.wait_for(1)
    timer = inside.timer_of_metrics(client)
    ref = weakref.ref(client)
    peer.let_go()
    hook_ref = weakref.ref(hook)
    del client, hook.client  # type: ignore[attr-defined]
    greenlets.wait_until(lambda: gc.collect() is not None and ref() is None, what='the connection is collected')
    assert timer() is None
    calls = len(hook.calls)
    greenlets.sleep(3 * QUICK)
    assert len(hook.calls) == calls
    assert hook_ref() is hook
    peer.expect('connection.close')


# -- a broker that takes nothing --------------------------------------------------------------------------


def test_the_time_in_which_the_broker_took_nothing(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    assert client.stats()['blocked_seconds'] == 0
    begun = time.monotonic()
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: client.is_blocked)
    greenlets.sleep(0.1)
    assert 0.1 < client.stats()['blocked_seconds'] < time.monotonic() - begun
    peer.send('connection.blocked', reason='low on disk, too')  # the same time, not another
    greenlets.sleep(0.05)
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: not client.is_blocked)
    blocked = client.stats()['blocked_seconds']
    assert 0.15 < blocked < time.monotonic() - begun
    greenlets.sleep(0.02)
    assert client.stats()['blocked_seconds'] == blocked
    peer.send('connection.blocked', reason='again')
    greenlets.wait_until(lambda: client.is_blocked)
    greenlets.sleep(0.02)
    client.collect()
    ended = client.stats()['blocked_seconds']
    assert ended > blocked
    greenlets.sleep(0.02)
    assert client.stats()['blocked_seconds'] == ended


def test_the_time_that_publishers_waited_for_the_broker_to_take_messages(peer: ScriptedBroker) -> None:
    client = peer.open(blocked_timeout=0.1)
    channel = peer.open_channel(client)
    channel.basic_publish(gamqp.Message('x'), '', 'q')
    assert client.stats()['write_wait_seconds'] == 0
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: client.is_blocked)
    begun = time.monotonic()
    with pytest.raises(exceptions.Blocked):
        channel.basic_publish(gamqp.Message('x'), '', 'q')
    assert 0.1 <= client.stats()['write_wait_seconds'] < time.monotonic() - begun
    assert client.stats()['published'] == 1


def test_the_time_that_publishers_waited_for_room_and_what_is_queued(peer: ScriptedBroker) -> None:
    client = peer.open(rpc_timeout=0.1)
    channel = peer.open_channel(client)
    body = b'x' * 100_000
    with pytest.raises(TimeoutError):
        for _ in range(1000):  # the peer does not read
            channel.basic_publish(gamqp.Message(body), '', 'q')
    stats = client.stats()
    assert stats['write_wait_seconds'] >= 0.1
    assert stats['send_queue_bytes'] > 2_000_000
    assert stats['published'] * len(body) < stats['bytes_out'] + stats['send_queue_bytes']


def publish(peer: ScriptedBroker, client: gamqp.Connection, number: int, count: int) -> None:
    channel = peer.open_channel(client, number)
    for _ in range(count):
        channel.publish('x', routing_key='q')


def test_it_learns_the_name_and_its_counters_do_not_go_back_when_a_new_connection_has_that_name(hook: Hook) -> None:
    """As kombu and programs of one's own connect again: by a new object."""
    published = []
    for count in (3, 1, 2):
        with ScriptedBroker() as peer:
            client = peer.open(metrics=hook, metrics_interval=3600, name='worker 7')
            publish(peer, client, 1, count)
            client.collect()
            hook.wait_for(len(published) + 1)
            published.append(hook.calls[-1]['published'])
            del client
    assert {call['name'] for call in hook.calls} == {'worker 7'}
    assert published == [3, 4, 6]
    assert [call['lost'] for call in hook.calls] == [3, 4, 6]  # of the last moment, too
    assert [call['opened'] for call in hook.calls] == [1, 2, 3]


def test_connections_of_the_same_name_are_told_in_one_sum_and_those_without_a_name_apart(hook: Hook) -> None:
    with ScriptedBroker() as one, ScriptedBroker() as two, ScriptedBroker() as third, ScriptedBroker() as fourth:
        named = [peer.open(metrics=hook, metrics_interval=3600, name='twin') for peer in (one, two)]
        nameless = [peer.open(metrics=hook, metrics_interval=3600) for peer in (third, fourth)]
        for peer, client in zip((one, two, third, fourth), named + nameless, strict=True):
            publish(peer, client, 1, 2)
        for number, client in enumerate(named + nameless, 1):
            client.collect()
            hook.wait_for(number)
        assert [(call['name'], call['published']) for call in hook.calls] == [
            ('twin', 2), ('twin', 4), ('', 2), ('', 2),
        ]  # fmt: skip


def test_not_too_many_names_are_remembered(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, 'MOST_NAMES', 3)
    inside.forget_metrics_names()  # those of tests before
    for number in range(6):
        with ScriptedBroker() as peer:
            peer.open(metrics=hook, metrics_interval=3600, name=f'made up {number}').collect()
            hook.wait_for(number + 1)
    assert len(inside.metrics_names()) == 3
