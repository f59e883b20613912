"""What goes on beside the sending thread: a writer without room, other threads' forks, signal handlers, faults."""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import greenlets
import inside
import pytest
from hub_blocking import Listening
from script import ScriptedBroker
from test_blocked_hub import PUBLISH, QUEUE, sees_all

import gamqp
from gamqp.io import process_end
from gamqp.io.send_thread import SendThread, send_thread


@pytest.fixture
def stalled(peer: ScriptedBroker) -> Iterator[gamqp.Connection]:
    """A connection whose peer has not taken a byte for a long time."""
    with ScriptedBroker(buffer=64 * 1024) as other:
        channel = other.open_channel(other.open())
        channel.connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        for _ in range(30):
            channel.basic_publish(gamqp.Message(bytes(100_000)), '', QUEUE)
        assert channel.connection.stats()['send_queue_bytes'] > 1_000_000
        yield channel.connection


def test_a_connection_without_room_does_not_make_others_wait(
    channel: gamqp.Channel, peer: ScriptedBroker, stalled: gamqp.Connection
) -> None:
    times = []
    with Listening(peer) as listening:
        for count in range(10, 60, 10):
            inside.seem_idle(stalled, sent=20)
            time.sleep(0.1)  # until the thread has nothing to do but to look, now and then, whether there is room
            begun = time.monotonic()
            for _ in range(10):
                channel.basic_publish(gamqp.Message(b'x'), '', QUEUE)
            assert sees_all(listening, PUBLISH, count)
            times.append(time.monotonic() - begun)
        assert inside.writers_of_sending_thread() <= 1  # it has not become more work
    assert statistics.median(times) < 0.8  # where it waits: a second
    assert stalled.is_alive()


@pytest.mark.real_seconds
def test_a_call_that_is_held_up_while_it_asks_for_help_gets_it_later(
    channel: gamqp.Channel, peer: ScriptedBroker
) -> None:
    """The thread has sent everything, and goes, before the hub's thread comes to the next line."""

    def slowly(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_name != 'begin_help':
            return None
        if event == 'call':
            calls.append(frame)
        if frame is calls[0]:
            time.sleep(0.1)
        return slowly

    calls: list[FrameType] = []
    with Listening(peer) as listening:
        count = 0
        while not inside.has_asked_sending_thread(channel.connection):
            channel.basic_publish(gamqp.Message(b'x'), '', QUEUE)
            count += 1
        assert sees_all(listening, PUBLISH, count)
        greenlets.wait_until(lambda: not inside.has_asked_sending_thread(channel.connection))
        sys.settrace(slowly)
        try:
            for _ in range(10):
                channel.basic_publish(gamqp.Message(b'x'), '', QUEUE)
        finally:
            sys.settrace(None)
            calls.clear()
        assert sees_all(listening, PUBLISH, count + 10)
        time.sleep(0.3)
        for _ in range(10):
            channel.basic_publish(gamqp.Message(b'x'), '', QUEUE)
        assert sees_all(listening, PUBLISH, count + 20)


def test_heartbeats_may_be_asked_for_while_another_thread_forks(peer: ScriptedBroker) -> None:
    send_thread.stop()
    try:
        client = peer.open(heartbeat_thread=True)
        assert not send_thread.running
    finally:
        send_thread.resume()
    assert client.is_alive()
    assert send_thread.running


class ForgetfulSocket:
    """The system's socket, whose sends from other threads fail after the kernel has taken everything."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ident = threading.get_ident()

    def send(self, data: Any) -> int:
        count = self._sock.send(data)
        if threading.get_ident() != self._ident:
            raise MemoryError
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_nothing_follows_where_the_thread_does_not_know_what_it_has_sent(
    channel: gamqp.Channel, peer: ScriptedBroker
) -> None:
    transport = inside.transport(channel.connection)
    transport.socket = ForgetfulSocket(transport.socket)
    with Listening(peer) as listening:
        count = 0
        while inside.failure_of_writing(channel.connection) is None:
            channel.basic_publish(gamqp.Message(b'x'), '', str(count))
            count += 1
            if count % 10 == 0:
                time.sleep(0.01)
            assert count < 5000
        with pytest.raises(gamqp.RecoverableConnectionError):
            channel.basic_publish(gamqp.Message(b'x'), '', QUEUE)
        assert len(listening.stream.published) == len({key for _, key, _ in listening.stream.published})


def test_after_a_fault_the_thread_comes_again() -> None:
    class Faulty:
        calls = 0

        def help(self, now: float) -> float | None:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            return None

    thread, faulty = SendThread(), Faulty()
    thread.hold(faulty)
    greenlets.wait_until(lambda: faulty.calls == 2)
    thread.stop()


def test_forks_and_the_end_find_all_links_while_threads_open_and_lose_some() -> None:
    class Opened:
        reason = 'for this test'

    many = [Opened() for _ in range(2000)]
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            one = Opened()
            process_end.alive.add(one)
            process_end.alive.discard(one)
            process_end.alive.add(Opened())

    thread = threading.Thread(target=churn)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for one in many:
            process_end.alive.add(one)
        thread.start()
        for _ in range(50):
            assert {*map(id, many)} <= {*map(id, process_end.open_links())}
    finally:
        stop.set()
        sys.setswitchinterval(usual)
        thread.join(60)
        for one in many:
            process_end.alive.discard(one)
