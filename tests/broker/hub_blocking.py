"""To hold up the hub, and to be the peer meanwhile: what the tests of the hub watch and the heartbeat thread share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import inside
from script import ScriptedBroker
from stream_checker import Stream

import gamqp
from gamqp.wire import HEARTBEAT

__all__ = ('Eager', 'Listening', 'burn', 'burn_until', 'sees')

# Seconds until what other threads or the broker have to do counts as not done; only a failing test takes so long.
PATIENCE = 60.0


def burn(seconds: float) -> None:
    """Compute: nothing is called that would switch greenlets, and other threads get the interpreter when it says so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


def burn_until(condition: Callable[[], Any]) -> bool:
    """Compute as ``burn`` until *condition()* is true by what others do meanwhile. Returns whether it is."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        burn(0.02)
    return bool(condition())


class Listening:
    """Reads what a client says, in a thread, since the hub is held up. beats: sends heartbeats all the time."""

    def __init__(self, peer: ScriptedBroker, beats: bool = False) -> None:
        self.stream = Stream(client=False)  # the protocol header has been read
        self.errors: list[BaseException] = []
        self._sock = peer.sock
        self._stop = threading.Event()
        self.reading = threading.Event()
        self.reading.set()
        self._beats = beats
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._beats:
                    self._sock.send(HEARTBEAT)
                if not self.reading.is_set():
                    self._stop.wait(0.005)
                    continue
                try:
                    data = self._sock.recv(256 * 1024)
                except BlockingIOError:
                    self._stop.wait(0.005)
                    continue
                if not data:
                    return
                self.stream.feed(data)
        except BaseException as exc:
            self.errors.append(exc)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self.errors, self.errors

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def sees(listening: Listening, condition: Callable[[Any], bool], wait: Callable[[float], Any] = time.sleep) -> bool:
    """Whether the peer comes to see it, while the hub gets no turn."""
    deadline = gamqp.green.Deadline(PATIENCE)
    while not condition(listening.stream) and not deadline.passed:
        wait(0.002)
    return condition(listening.stream)


class Eager:
    """A thread that does what the heartbeat thread does, as if the hub were late all the time."""

    def __init__(self, client: gamqp.Connection) -> None:
        self._writer = inside.writer(client)
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.003):
                self._writer.send_overdue_heartbeat(time.monotonic() + 3600)
        except BaseException as exc:
            self._errors.append(exc)

    def __enter__(self) -> Eager:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._errors, self._errors
