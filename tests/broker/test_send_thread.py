"""Hub and heartbeat thread at one writer, in any order, before a kernel that takes a few bytes now and then.

The kernel here is a seam of the test's own, because a real one takes a heartbeat whole or not at all. The
two threads are one: whoever holds the guard is alone, so that every order of their turns is an order of calls.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import greenlets
import pytest
from script import frames
from stream_checker import Stream

from gamqp.green import os_threads
from gamqp.io.send_thread import LOOK, with_short_switch_interval
from gamqp.io.writer import Writer
from gamqp.state.heartbeat import HeartbeatClock
from gamqp.transport import TCPTransport
from gamqp.wire import HEARTBEAT

SEEDS = range(40)


class Kernel:
    """A transport that takes what the test gives room for."""

    connected = True

    def __init__(self, chunk: int = 0) -> None:
        self.encrypts = bool(chunk)
        self.guard = os_threads.RLock()
        self.room = 0
        self.taken = bytearray()
        self.wants: Any = None
        self._chunk = chunk  # as TLS does: so much is taken over, and may be unsent for a while
        self._inside = bytearray()

    @property
    def unsent(self) -> bool:
        return bool(self._inside)

    def send(self, data: Any) -> int:
        assert self.guard._is_owned()
        if not self._chunk:
            return self._pass(data)
        if self._inside:
            del self._inside[: self._pass(self._inside)]
            if self._inside or not len(data):
                return 0
        self._inside += data[: self._chunk]
        taken = len(self._inside)
        if self.room:
            del self._inside[: self._pass(self._inside)]
        return taken

    send_without_hub = send

    def _pass(self, data: Any) -> int:
        count = min(len(data), self.room)
        if not count:
            raise BlockingIOError
        self.room -= count
        self.taken += data[:count]
        return count

    def watch_writable(self, fn: Any) -> None:
        self.wants = fn

    def unwatch_writable(self) -> None:
        self.wants = None


def expect_heartbeats(writer: Writer, kernel: Kernel) -> None:
    """Held up in any state whatever, with room in the kernel, a hub is helped out: the rest, and then heartbeats."""
    room, kernel.room = kernel.room, 1_000_000
    looks = 0
    while writer.has_unsent:
        writer.send_overdue_heartbeat(time.monotonic() + 3600)
        looks += 1
        assert looks < 5
    for _ in range(2):
        before, at = len(kernel.taken), writer.heartbeat_clock.sent_at
        pause = writer.send_overdue_heartbeat(time.monotonic() + 3600)
        assert kernel.taken[before:] == HEARTBEAT
        assert writer.heartbeat_clock.sent_at > at
        assert pause > LOOK  # it sleeps until the next one is due
    kernel.room = room


@pytest.mark.parametrize('chunk', [0, 100], ids=['plain', 'records'])
@pytest.mark.parametrize('seed', SEEDS)
def test_any_order_of_turns_gives_whole_frames_in_order(seed: int, chunk: int) -> None:
    source = random.Random(seed)
    kernel = Kernel(chunk)
    lost: list[BaseException] = []
    heartbeat_clock = HeartbeatClock(1, time.monotonic())
    writer = Writer(
        greenlets.backend, kernel, heartbeat_clock, lost.append, hub_thread=os_threads.life_of_this_thread()
    )
    watch = SimpleNamespace(look_who=lambda: None)
    writer.start_beating(watch)
    bodies = 0

    def hub_sends() -> None:
        nonlocal bodies
        writer.send(frames('basic.publish', body=bytes(source.randrange(400)), routing_key=str(bodies)))
        bodies += 1

    def thread_looks() -> None:
        if source.random() < 0.5:
            assert writer.send_overdue_heartbeat(time.monotonic() + 3600) > 0
        else:
            pause = writer.help(time.monotonic())
            assert pause is None or pause > 0

    def hub_turns() -> None:
        if kernel.wants is not None:
            kernel.wants()
        writer.catch_up()

    def room_comes() -> None:
        kernel.room = source.choice([1, 3, 7, 8, 9, 50, 300, 2000])

    turns = [hub_sends, *[thread_looks] * 3, *[hub_turns] * 2, *[room_comes] * 5, greenlets.sleep]
    for _ in range(300):
        source.choice(turns)()
        if source.random() < 0.1:
            expect_heartbeats(writer, kernel)
    kernel.room = 1_000_000
    hub_turns()
    writer.flush()
    assert not lost
    assert writer.queued == 0
    assert not writer.pending
    stream = Stream(client=False)  # without a protocol header
    stream.feed(bytes(kernel.taken))
    assert stream.whole
    assert [key for _, key, _ in stream.published] == [str(number) for number in range(bodies)]
    assert stream.heartbeats > 0
    assert writer.counts.bytes_out == len(kernel.taken)
    writer.close()


def test_heartbeats_follow_when_all_was_encrypted_and_the_rest_has_gone_out() -> None:
    """What any large publish over TLS leaves behind: nothing is queued, and the kernel has not got everything."""
    kernel = Kernel(chunk=100)
    writer = Writer(
        greenlets.backend, kernel, HeartbeatClock(1, 0.0), print, hub_thread=os_threads.life_of_this_thread()
    )
    writer.hub_monitor = SimpleNamespace(look_who=lambda: None)
    kernel.room = 30
    writer.send(bytes(50))
    assert (writer.queued, writer.pending) == (0, True)
    kernel.room = 100
    for expected in (b'', HEARTBEAT, HEARTBEAT * 2):
        pause = writer.send_overdue_heartbeat(time.monotonic() + 3600)
        assert bytes(kernel.taken) == bytes(50) + expected
    assert pause > LOOK
    writer.close()


def test_the_rest_of_a_heartbeat_goes_out_when_the_hub_is_back() -> None:
    kernel = Kernel()
    writer = Writer(
        greenlets.backend, kernel, HeartbeatClock(1, 0.0), print, hub_thread=os_threads.life_of_this_thread()
    )
    writer.hub_monitor = SimpleNamespace(look_who=lambda: None)
    kernel.room = 3
    assert writer.send_overdue_heartbeat(time.monotonic()) < 0.5  # it is going to come again soon
    kernel.room = 100
    writer.catch_up()
    assert bytes(kernel.taken) == HEARTBEAT
    assert not writer.pending
    writer.close()


def test_nobody_closes_the_socket_while_the_other_one_sends() -> None:
    """A number that is closed may be another socket's by the time it is used."""
    ours, theirs = socket.socketpair()
    transport = TCPTransport('nowhere', backend=greenlets.backend)
    transport.adopt(ours)
    sending, open_then = threading.Event(), []

    def send() -> None:
        with transport.guard:
            sending.set()
            time.sleep(0.2)
            open_then.append(transport.connected)

    thread = threading.Thread(target=send)
    thread.start()
    sending.wait(10)
    transport.close()
    assert open_then == [True]
    thread.join(60)
    theirs.close()


def test_a_hub_thread_that_has_ended_gets_no_heartbeats() -> None:
    """Nobody would ever read what the broker sends, and it should know that."""
    kernel = Kernel()
    kernel.room = 100
    writer = Writer(greenlets.backend, kernel, HeartbeatClock(1, 0.0), print, hub_thread=lambda: None)
    writer.hub_monitor = SimpleNamespace(look_who=lambda: None)
    writer.send_overdue_heartbeat(time.monotonic())
    assert not kernel.taken
    writer.close()


def test_the_switch_interval_is_shorter_only_for_the_moment() -> None:
    usual = sys.getswitchinterval()
    seen: list[float] = []
    try:
        with_short_switch_interval(lambda: seen.append(sys.getswitchinterval()))
        assert seen[0] < usual == sys.getswitchinterval()
        with pytest.raises(ZeroDivisionError):
            with_short_switch_interval(lambda: 1 / 0)
        assert sys.getswitchinterval() == usual
        with_short_switch_interval(lambda: sys.setswitchinterval(0.02))  # somebody else, meanwhile
        assert sys.getswitchinterval() == pytest.approx(0.02)
    finally:
        sys.setswitchinterval(usual)
