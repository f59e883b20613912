"""Producers and consumers of ``perf``.

Layer 5. Each message has the time of its publish in its body: its first eight bytes, or the first number of a JSON
body. Does not belong here: queues, and what is done with the figures.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .. import green
from ..basic_message import Message
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from .perf_figures import Figures

__all__ = ('Bodies', 'ConsumerLoad', 'Producer', 'Schedule')

# Publishes after which the consumers get a turn: they would otherwise be measured as slower than they are.
BURST = 32

_STAMP = struct.Struct('>q')
_JSON_STAMP = b'{"t":'
_JSON_DIGITS = slice(len(_JSON_STAMP), len(_JSON_STAMP) + 19)  # nanoseconds since the epoch, from 2001 to 2286


class Schedule:
    """A value that changes with time: the only one, or several in turn, each for its seconds, over and over."""

    def __init__(self, steps: list[tuple[float, float]] | None, usual: float | None) -> None:
        """steps: (value, seconds). usual: without steps."""
        self._steps, self._usual = steps or [], usual
        self._period = sum(seconds for _, seconds in self._steps)
        self._start = time.monotonic()

    @property
    def fixed(self) -> bool:
        """Whether it is one value at all times."""
        return not self._steps

    @property
    def value(self) -> float | None:
        """The value that holds now."""
        if not self._steps:
            return self._usual
        at = (time.monotonic() - self._start) % self._period
        for value, seconds in self._steps:
            if at < seconds:
                return value
            at -= seconds
        return self._steps[-1][0]


class Bodies:
    """Makes bodies of a size. size: bytes; less than a stamp needs is as many as it needs."""

    def __init__(self, size: Schedule, as_json: bool) -> None:
        self._size, self._json = size, as_json
        self._fillings: dict[int, bytes] = {}
        self._fixed = self._filling_now() if size.fixed else None

    def make(self) -> bytes:
        """A body with the time of now."""
        filling = self._fixed
        if filling is None:
            filling = self._filling_now()
        if self._json:
            return b'%s%d%s' % (_JSON_STAMP, time.time_ns(), filling)
        return _STAMP.pack(time.time_ns()) + filling

    def _filling_now(self) -> bytes:
        size = int(self._size.value or 0)
        filling = self._fillings.get(size)
        if filling is None:
            if len(self._fillings) > 100:
                self._fillings.clear()
            filling = self._fillings[size] = self._filling(size)
        return filling

    def _filling(self, size: int) -> bytes:
        if not self._json:
            return b'x' * (size - _STAMP.size)
        around = len(_JSON_STAMP) + 19 + len(b',"filling":""}')
        return b',"filling":"' + b'x' * (size - around) + b'"}'


def age_of(body: bytes | str) -> int | None:
    """Microseconds since a body was made; None for one that is none of ours."""
    if isinstance(body, str):
        return None  # ours have no content_encoding
    try:
        if body.startswith(_JSON_STAMP):
            then = int(body[_JSON_DIGITS])
        else:
            (then,) = _STAMP.unpack_from(body)
    except (ValueError, struct.error):
        return None
    return (time.time_ns() - then) // 1000


class Producer:
    """Publishes on one channel until ``stopped``, or *count* messages.

    to: exchange and routing key. confirms: how many may be without their confirm, None to ask for none.
    """

    def __init__(
        self,
        channel: Channel,
        figures: Callable[[], Figures],
        to: tuple[str, str],
        bodies: Bodies,
        rate: Schedule,
        count: int | None,
        confirms: int | None,
        properties: dict[str, Any],
    ) -> None:
        self._channel, self._figures, self._bodies = channel, figures, bodies
        self._exchange, self._key = to
        self._rate, self._count, self._properties = rate, count, properties
        self._confirms = confirms
        self._open: deque[tuple[Receipt, int]] = deque()
        self._more = green.Gate(green.backend())
        self.stopped = self.published_all = self._waits = False
        self._idle = False  # nothing is without its confirm, and _watch waits for more

    def run(self) -> None:
        """Publish. Switches. Raises why the channel ended."""
        watching = green.backend().spawn(self._watch) if self._confirms else None
        pace = pace_of(self._rate)
        publish = self._publish_for_confirm if self._confirms else self._publish
        try:
            for number in itertools.count() if self._count is None else range(self._count):
                if pace is not None:
                    pace.wait()
                if self.stopped:
                    return
                if not number % BURST:
                    green.backend().sleep(0)
                publish()
                self._figures().published += 1
            self.published_all = True
        finally:
            self._waits = False
            if watching is not None:
                self.stopped = True
                self._more.wake_all()

    def _publish(self) -> None:
        self._channel.basic_publish(Message(self._bodies.make(), **self._properties), self._exchange, self._key)

    def _publish_for_confirm(self) -> None:
        self._waits = True  # for room, where so many are without their confirm
        receipt = self._channel.publish(self._bodies.make(), self._exchange, self._key, **self._properties)
        self._waits = False
        self._open.append((receipt, time.monotonic_ns()))
        if self._idle:
            self._more.wake()

    def finish(self, patience: float) -> None:
        """Wait for the confirms that are outstanding, for at most so many seconds. Switches."""
        deadline = green.Deadline(patience)
        while (self._open or self._waits) and not deadline.passed:
            green.backend().sleep(0.01)

    def _watch(self) -> None:
        """Take the time of each confirm: the oldest is waited for, and others come with it."""
        while True:
            if not self._open:
                if self.stopped and not self._waits:
                    return
                self._idle = True
                self._more.wait()
                self._idle = False
                continue
            try:
                self._open[0][0].wait()
            except Exception:
                pass  # counted below
            now, figures = time.monotonic_ns(), self._figures()
            while self._open and self._open[0][0].done:
                receipt, then = self._open.popleft()
                if receipt.acked:
                    figures.confirmed += 1
                    figures.confirm.add((now - then) // 1000)
                else:
                    figures.refused += 1


def pace_of(rate: Schedule) -> _ChangingPace | None:
    """What waits before each message; None where there is no rate to keep."""
    return None if rate.fixed and rate.value is None else _ChangingPace(rate)


class _ChangingPace:
    """Spreads publishes evenly in time, at a rate that may change; 0 is a pause."""

    def __init__(self, rate: Schedule) -> None:
        self._rate = rate
        self._next = time.monotonic()

    def wait(self) -> None:
        rate = self._rate.value
        if rate is None:
            return
        while not rate:
            green.backend().sleep(0.05)
            rate = self._rate.value
            self._next = time.monotonic()
            if rate is None:
                return
        now = time.monotonic()
        if self._next > now:
            green.backend().sleep(self._next - now)
        self._next = max(self._next + 1.0 / rate, now - 0.1)


class ConsumerLoad:
    """Consumes a queue on one channel, until *count* messages or the end of the channel.

    ack_every: 0 for no_ack, 1 for each, more for a multiple ack of so many. pause: seconds that a message takes.
    """

    def __init__(
        self,
        channel: Channel,
        figures: Callable[[], Figures],
        queue: str,
        prefetch: int,
        ack_every: int,
        pause: float,
        rate: float | None,
        count: int | None,
        arguments: dict[str, Any] | None,
    ) -> None:
        self._figures, self._ack_every, self._pause, self._count = figures, ack_every, pause, count
        self._pace = pace_of(Schedule(None, rate))
        self._deliveries = channel.consume(queue, prefetch=prefetch, no_ack=not ack_every, arguments=arguments)
        self.received_at = time.monotonic()
        self.received = 0
        self.stopped = False
        self._unacked: Message | None = None  # the last one that was counted, where its ack is still to come

    def run(self) -> None:
        """Consume. Switches. Raises why the channel ended."""
        pace = self._pace
        for message in self._deliveries:
            age = age_of(message.body)
            if pace is not None:
                pace.wait()
            if self._pause:
                green.backend().sleep(self._pause)
            if self.stopped:
                return  # not counted, and not acked: it goes back
            figures = self._figures()
            if age is not None:
                figures.latency.add(age)
            figures.received += 1
            self.received += 1
            self.received_at = time.monotonic()
            if self._ack_every and not self.received % self._ack_every:
                message.ack(multiple=self._ack_every > 1)
                self._unacked = None
            elif self._ack_every:
                self._unacked = message
            if self.received == self._count:
                break
        self.finish()
        self._deliveries.close()

    def finish(self) -> None:
        """Ack what has been counted and is less than a whole group. Does not switch."""
        self.stopped = True
        message, self._unacked = self._unacked, None
        if message is not None and message.channel is not None and message.channel.is_open:
            message.ack(multiple=True)
