"""A hub that is held up: who is blamed, what the log says, and what the heartbeat thread does meanwhile.

The times are real, and the hub is held up for real: nothing cooperative runs while a test burns or sleeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from hub_blocking import Eager, Listening, burn, burn_until
from script import ScriptedBroker

import gamqp
from gamqp import exceptions
from gamqp.io.send_thread import send_thread
from gamqp.wire import HEARTBEAT as BEAT

QUICK = (10, 131072, 1)  # tune: a heartbeat each second
HELD = 3.2  # seconds: three heartbeats and a little
GENEROUS = greenlets.PATIENCE


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """The heartbeat thread is there for those that want it, and ends with the last of them."""
    assert not send_thread.beats
    yield
    greenlets.wait_until(lambda: not send_thread.beats, what='the thread has nobody to beat for')


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    caplog.set_level(logging.WARNING, 'gamqp')
    return caplog


def hub_messages(log: Any) -> list[str]:
    return [one.getMessage() for one in log.records if one.name == 'gamqp.hub']


def held_for(message: str) -> float:
    return float(message.removeprefix('the hub was blocked for ').split()[0])


def told(log: Any) -> str:
    """The warning about the hub; about the longest time, since a busy machine may hold it, too."""
    greenlets.wait_until(lambda: hub_messages(log), what='a warning about the hub')
    return max(hub_messages(log), key=held_for)


# -- without the thread ------------------------------------------------------------------


@pytest.mark.parametrize('hold', [time.sleep, pytest.param(burn, marks=pytest.mark.slow)], ids=['asleep', 'computing'])
def test_a_held_hub_reads_before_it_judges_and_says_how_long_it_was_held(
    peer: ScriptedBroker, log: Any, hold: Any
) -> None:
    """Data that waits in the kernel proves that the peer lives."""
    client = peer.open(QUICK)
    peer.raw(BEAT)
    hold(HELD)
    message = told(log)
    assert client.connected
    peer.raw(BEAT)
    assert held_for(message) >= HELD - 0.5  # a look each quarter of the interval
    assert 'longer than a heartbeat interval (1 s)' in message
    assert 'heartbeat_thread=True' in message
    greenlets.sleep(0.6)
    assert client.connected
    assert inside.hub_monitor(client).worst_lag >= HELD - 0.5
    assert inside.hub_monitor(client).lag < inside.hub_monitor(client).worst_lag


def test_a_peer_that_said_nothing_while_the_hub_was_held_is_gone(peer: ScriptedBroker) -> None:
    client = peer.open(QUICK)
    time.sleep(HELD)
    greenlets.wait_until(lambda: not client.connected)
    with pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
        client.channel()


@pytest.mark.real_seconds
@pytest.mark.parametrize('pause', [pytest.param(0, marks=pytest.mark.slow), 0.5], ids=['at once', 'after a while'])
def test_a_connection_that_is_lost_after_its_hub_was_held_says_so(peer: ScriptedBroker, pause: float) -> None:
    client = peer.open(QUICK)
    time.sleep(1.6)
    if pause:
        greenlets.sleep(pause)
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError, match=r'the hub was blocked for \d\.\d s before'):
        client.drain_events(timeout=30)


@pytest.mark.real_seconds
def test_only_a_long_time_that_has_just_ended_is_named_and_not_for_what_the_broker_says(peer: ScriptedBroker) -> None:
    client = peer.open(QUICK)
    watch = inside.hub_monitor(client)
    watch.worst_lag = 0.0  # of tests before, whose connections are not collected yet
    time.sleep(1.6)
    greenlets.wait_until(lambda: watch.worst_lag > 1)
    now = time.monotonic()
    assert watch.block_before(now, 1) is not None
    assert watch.block_before(now, watch.worst_lag * 1.01) is None
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - shutdown')
    with pytest.raises(exceptions.ConnectionForced) as caught:
        client.drain_events(timeout=30)
    assert 'the hub' not in str(caught.value)


def test_a_connection_that_is_lost_for_another_reason_does_not_blame_the_hub(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 5))  # seconds: a test before this one may have held the hub for three
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError) as caught:
        client.drain_events(timeout=30)
    assert 'the hub' not in str(caught.value)


@pytest.mark.real_seconds
def test_a_hub_that_is_held_for_less_than_an_interval_is_nobodys_concern(peer: ScriptedBroker, log: Any) -> None:
    client = peer.open(QUICK)
    inside.hub_monitor(client).worst_lag = 0.0  # of tests before, whose connections are not collected yet
    burn(0.7)
    greenlets.sleep(0.5)
    worst = inside.hub_monitor(client).worst_lag
    assert worst >= 0.3
    if worst > 1:  # a busy machine has held it for longer
        assert held_for(told(log)) > 1
    else:
        assert hub_messages(log) == []


def test_many_connections_of_one_hub_say_it_once(peer: ScriptedBroker, log: Any) -> None:
    with ScriptedBroker() as other:
        clients = [peer.open(QUICK), other.open((10, 131072, 2))]
        assert inside.hub_monitor(clients[0]) is inside.hub_monitor(clients[1])
        for each in (peer, other):
            each.raw(BEAT)
        time.sleep(1.8)
        message = told(log)
        assert '(1 s)' in message
        greenlets.sleep(0.5)
        assert hub_messages(log).count(message) == 1


def test_a_log_handler_that_waits_holds_nobody_up(peer: ScriptedBroker) -> None:
    client = peer.open(QUICK)
    channel = peer.open_channel(client)
    entered, leave, left = threading.Event(), gamqp.green.Slot(greenlets.backend), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            leave.wait(GENEROUS)
            left.set()

    handler, logger = Slow(), logging.getLogger('gamqp.hub')
    logger.addHandler(handler)
    try:
        peer.raw(BEAT)
        time.sleep(1.8)
        greenlets.wait_until(entered.is_set)
        task = greenlets.spawn(channel.basic_get, 'q')
        peer.expect('basic.get')
        peer.send('basic.get-empty')
        assert task.get() is None
        leave.succeed()
        greenlets.wait_until(left.is_set)
    finally:
        logger.removeHandler(handler)


def test_the_watch_ends_with_the_last_connection(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 0), heartbeat=0)
    watch = inside.hub_monitor(client)
    assert watch.limit > 10
    assert inside.is_watching(watch)
    client.collect()
    assert not inside.is_watching(watch)


def test_what_held_the_hub_up_is_not_told_of_later_connections(peer: ScriptedBroker, log: Any) -> None:
    """The last connection may end before the hub has looked at what the thread saw, and so may the thread."""
    client = peer.open(QUICK, heartbeat_thread=True)
    watch = inside.hub_monitor(client)
    watch.look_who()  # as the thread does beside a late hub
    client.collect()
    with ScriptedBroker() as other:
        assert inside.hub_monitor(other.open(QUICK)) is watch
        assert inside.blamed(watch) is None
        time.sleep(1.6)
        assert 'heartbeat_thread=True' in told(log)


@pytest.mark.parametrize('read_timeout', [None, 30])
def test_a_reply_that_waits_in_the_kernel_is_no_timeout(peer: ScriptedBroker, read_timeout: int | None) -> None:
    """The deadline of a call passed while the hub was held up, not while the broker was slow."""
    client = peer.open(rpc_timeout=0.5, read_timeout=read_timeout)
    channel = peer.open_channel(client)
    task = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-empty')
    time.sleep(1)
    assert task.get() is None


def test_a_write_timeout_is_not_the_hubs_own_delay() -> None:
    """There was room all the time that the hub was held up, and nobody looked."""
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(write_timeout=1)
        channel = peer.open_channel(client)
        channel.basic_publish(gamqp.Message(bytes(8_000_000)), '', 'q')
        greenlets.sleep(0.05)
        peer.read_some(100_000_000)
        time.sleep(1.5)
        # If the sending thread has left any of it.
        greenlets.wait_until(lambda: takes(peer) or not inside.writer(client).pending, what='more of the message came')
        assert client.connected
        assert client.stats()['bytes_out'] > 1_000_000


def takes(peer: ScriptedBroker) -> bool:
    """Whether the peer gets something now."""
    with contextlib.suppress(BlockingIOError):
        return len(peer.sock.recv(1 << 20)) > 0
    return False


# -- with the thread ---------------------------------------------------------------------


def test_heartbeats_flow_while_the_hub_is_held(peer: ScriptedBroker, log: Any) -> None:
    client = peer.open(QUICK, heartbeat_thread=True)
    peer.raw(BEAT)
    with Listening(peer) as listening:
        assert burn_until(lambda: listening.stream.heartbeats >= 4)
    assert client.connected
    message = told(log)
    assert 'burn (' in message
    assert f'{__file__}:' in message
    assert 'test_heartbeats_flow_while_the_hub_is_held' in message
    client.collect()


def test_code_that_lets_no_thread_run_stops_that_one_too_but_is_named(peer: ScriptedBroker, log: Any) -> None:
    """C that keeps the interpreter lock: nothing can be done about it in this process."""
    client = peer.open(QUICK, heartbeat_thread=True)
    peer.raw(BEAT)
    ctypes.PyDLL(None).usleep(1_900_000)  # of the C library, with the lock held
    assert 'It was in test_code_that_lets_no_thread_run' in told(log)
    assert client.connected


@pytest.mark.real_seconds
def test_a_hub_that_is_not_held_needs_no_thread(peer: ScriptedBroker) -> None:
    client = peer.open(QUICK, heartbeat_thread=True)
    aside = inside.writer(client)
    with Listening(peer) as listening:
        began = time.monotonic()
        deadline = gamqp.green.Deadline(GENEROUS)
        while listening.stream.heartbeats < 4 and not deadline.passed:
            peer.raw(BEAT)
            greenlets.sleep(0.1)
    assert 4 <= listening.stream.heartbeats <= 2 * (time.monotonic() - began) + 1
    # The thread looks who holds the hub where a heartbeat is late.
    assert inside.blamed(aside.hub_monitor) is None or aside.hub_monitor.worst_lag > 0.1


@pytest.mark.parametrize('size', [pytest.param(100_000, marks=pytest.mark.slow), 8_000_000])
def test_what_the_kernel_took_a_part_of_is_finished_first(size: int) -> None:
    """The hub is held up in the middle of a large publish. The peer reads nothing, and then goes on reading."""
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(QUICK, heartbeat_thread=True)
        channel = peer.open_channel(client)
        peer.raw(BEAT)
        with Listening(peer) as listening:
            listening.reading.clear()
            time.sleep(0.05)
            channel.basic_publish(gamqp.Message(bytes(size)), '', 'large')
            channel.basic_publish(gamqp.Message(b'small'), '', 'behind it')
            writer = inside.writer(client)
            burn(1.5)  # the thread finds no room
            listening.reading.set()
            assert burn_until(lambda: len(listening.stream.published) == 2 and listening.stream.heartbeats)
            assert listening.stream.published == [(1, 'large', size), (1, 'behind it', 5)]  # without the hub
            peer.raw(BEAT)
            greenlets.wait_until(lambda: not writer.pending)
            assert client.connected
            for number in range(20):
                channel.basic_publish(gamqp.Message(bytes(1000)), '', str(number))
            greenlets.wait_until(lambda: len(listening.stream.published) == 22)
        assert listening.stream.whole
        assert writer.queued == 0


def test_a_stopped_peer_gets_no_part_of_a_heartbeat_inside_a_message() -> None:
    """Again and again, so that the thread meets the writer in every state."""
    with ScriptedBroker(buffer=32 * 1024) as peer:
        client = peer.open((10, 131072, 1), heartbeat_thread=True)
        channel = peer.open_channel(client)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        sent = 0
        with Listening(peer, beats=True) as listening, Eager(client):
            for number in range(60):
                if number % 3 == 0:
                    listening.reading.clear()
                channel.basic_publish(gamqp.Message(bytes(37_111 * (number % 5) + 1)), '', str(number))
                sent += 1
                burn(0.03)
                listening.reading.set()
                if number % 4 == 0:
                    greenlets.sleep(0.01)
            greenlets.wait_until(lambda: len(listening.stream.published) == sent)
            keys = [key for _, key, _ in listening.stream.published]
            assert keys == [str(number) for number in range(60)]
            assert listening.stream.heartbeats >= 5
        assert listening.stream.whole
        greenlets.wait_until(lambda: client.stats()['send_queue_bytes'] == 0)


def test_a_connection_that_is_lost_or_closed_is_left_alone(peer: ScriptedBroker) -> None:
    """Its number may be somebody else's socket by then."""
    client = peer.open(QUICK, heartbeat_thread=True)
    number = client.sock.fileno()
    client.collect()
    ours, theirs = socket.socketpair()
    try:
        assert number in (ours.fileno(), theirs.fileno())  # the kernel gives the lowest that is free
        burn(1.2)
        for each in (ours, theirs):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.recv(1)
    finally:
        ours.close()
        theirs.close()


def test_a_peer_that_hangs_up_while_the_hub_is_held(peer: ScriptedBroker) -> None:
    client = peer.open(QUICK, heartbeat_thread=True)
    peer.cut(reset=True)
    burn(2)
    greenlets.wait_until(lambda: not client.connected)


def test_one_thread_serves_all_connections_and_none_is_kept_alive(peer: ScriptedBroker) -> None:
    greenlets.wait_until(lambda: not send_thread.running, what='the thread of another test has ended')
    before = threads()
    with ScriptedBroker() as other:
        clients = [peer.open(QUICK, heartbeat_thread=True), other.open(QUICK, heartbeat_thread=True)]
        assert len(threads() - before) == 1
        assert all(client.connected for client in clients)
        clients[0].collect()
        assert send_thread.beats
        clients[1].collect()
        greenlets.wait_until(lambda: threads() <= before)


def threads() -> set[str]:
    """Of this process, as the system knows them: our thread is none that ``threading`` knows."""
    return set(os.listdir('/proc/self/task'))


def test_a_connection_without_heartbeats_needs_no_thread(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 0), heartbeat_thread=True)
    assert not send_thread.beats
    assert client.heartbeat == 0
