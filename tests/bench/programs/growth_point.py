"""One point of a curve: what something costs gamqp when there are so many of it.

    growth_point.py URL SERIES X MESSAGES

Prints one line of JSON: microseconds of the processor for each act, and bytes for each thing. With COUNT=1 in the
environment executed lines of gamqp instead of microseconds: they are the same on each machine.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

lines = 0


def note(frame: FrameType, event: str, _: Any) -> Any:
    """The tracer of COUNT=1."""
    if f'{os.sep}gamqp{os.sep}' not in frame.f_code.co_filename:
        return None
    return count_line


def count_line(frame: FrameType, event: str, _: Any) -> Any:
    global lines
    lines += 1
    return count_line


if os.environ.get('COUNT'):
    sys.settrace(note)  # before there is a greenlet: those to come have it too

import gevent  # noqa: E402
from timing import HEADERS, PROPERTIES, SINK  # noqa: E402

import gamqp  # noqa: E402


def spent() -> float:
    """What has been spent up to now, in the unit that is measured."""
    return float(lines) if os.environ.get('COUNT') else time.process_time() * 1e6


def memory() -> int:
    """Bytes of this process that are in memory."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


class Taken:
    """Counts messages; ends when there are enough."""

    def __init__(self, connection: gamqp.Connection) -> None:
        self._connection, self.count = connection, 0

    def __call__(self, message: gamqp.Message) -> None:
        self.count += 1

    def wait_for(self, count: int) -> None:
        while self.count < count:
            self._connection.drain_events()


def consumers(connection: gamqp.Connection, x: int, messages: int) -> dict[str, float]:
    """So many consumers, 50 on a channel; then messages for them in turn."""
    take = Taken(connection)
    channels = [connection.channel() for _ in range((x + 49) // 50)]
    before, start = memory(), spent()
    for number in range(x - 1):
        channels[number // 50].basic_consume('idle', no_ack=True, callback=take)
    found = {}
    if x > 1:
        found = {'start a consumer': (spent() - start) / (x - 1), 'bytes': (memory() - before) / (x - 1)}
    start = spent()
    channels[-1].basic_consume(f'spread-{messages}-100', no_ack=True, callback=take)
    take.wait_for(messages)
    found['a delivery'] = (spent() - start) / messages
    return found


def channels(connection: gamqp.Connection, x: int, messages: int) -> dict[str, float]:
    """So many channels, and publishes on them in turn."""
    before, start = memory(), spent()
    opened = [connection.channel() for _ in range(x)]
    found = {'open a channel': (spent() - start) / x, 'bytes': (memory() - before) / x}
    start = spent()
    for number in range(messages):
        opened[number % x].basic_publish(gamqp.Message(b'x' * 100, **PROPERTIES), '', SINK)
    connection.flush()
    found['a publish'] = (spent() - start) / messages
    start = spent()
    for channel in opened:
        channel.close()
    found['close a channel'] = (spent() - start) / x
    return found


def greenlets(connection: gamqp.Connection, x: int, messages: int) -> dict[str, float]:
    """So many greenlets publish on one channel, each waiting for each of its confirms."""
    channel = connection.channel()
    channel.publish(b'', routing_key=SINK).wait()
    each = max(1, messages // x)

    def publish() -> None:
        for _ in range(each):
            channel.publish(b'x' * 100, routing_key=SINK, headers=HEADERS, **PROPERTIES).wait()

    before, start = memory(), spent()
    gevent.joinall([gevent.spawn(publish) for _ in range(x)], raise_error=True)
    return {'a confirmed publish': (spent() - start) / (each * x), 'bytes': (memory() - before) / x}


def size(connection: gamqp.Connection, x: int, messages: int) -> dict[str, float]:
    """Messages of so many bytes."""
    messages = max(5, min(messages, 200_000_000 // max(1, x)))
    return _both_ways(connection, f'replay-{messages}-{x}-2', b'x' * x, HEADERS, messages)


def headers(connection: gamqp.Connection, x: int, messages: int) -> dict[str, float]:
    """Messages with so many headers, which are looked at."""
    given = {f'header-{number}': 'value of it' for number in range(x)}
    return _both_ways(connection, f'replay-{messages}-100-{x}', b'x' * 100, given, messages)


def _both_ways(
    connection: gamqp.Connection, queue: str, body: bytes, given: dict[str, str], messages: int
) -> dict[str, float]:
    channel, looked_at = connection.channel(), 0
    start = spent()
    for number, message in enumerate(channel.consume(queue, no_ack=True), 1):
        looked_at += len(message.properties.get('application_headers') or ())
        if number == messages:
            break
    assert looked_at == messages * len(given), (looked_at, messages, len(given))
    found = {'a delivery': (spent() - start) / messages}
    publishing = connection.channel()
    start = spent()
    for _ in range(messages):
        publishing.basic_publish(gamqp.Message(body, application_headers=given, **PROPERTIES), '', SINK)
    connection.flush()
    found['a publish'] = (spent() - start) / messages
    return found


SERIES: dict[str, Callable[[gamqp.Connection, int, int], dict[str, float]]] = {
    'consumers': consumers,
    'channels': channels,
    'greenlets': greenlets,
    'size': size,
    'headers': headers,
}


def main() -> None:
    url, series, x, messages = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with gamqp.connect(url, heartbeat=0) as connection:
        found = SERIES[series](connection, x, messages)
        print(json.dumps({'series': series, 'x': x, 'messages': messages, **found}), flush=True)


if __name__ == '__main__':
    main()
