"""Program: work with a broker while another greenlet ticks. Arguments: library, when, URL. Prints JSON."""

from __future__ import annotations

import json
import sys

import backends

library, when, url = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

ticks = 0


def tick() -> None:
    global ticks
    while True:
        ticks += 1
        green.backend().sleep(0.005)


def during(act: object, *args: object) -> int:
    """How often the other greenlet ran meanwhile."""
    before = ticks
    try:
        act(*args)  # type: ignore[operator]
    except TimeoutError:
        pass
    return ticks - before


def work(connection: gamqp.Connection) -> list[int]:
    got: list[object] = []
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.basic_consume(queue, callback=lambda message: (message.ack(), got.append(message.body)))
    confirms = during(lambda: [channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue) for _ in range(50)])
    while len(got) < 50:
        connection.drain_events(timeout=30)
    waiting = 0
    for _ in range(20):  # others may have the processors for the whole of a wait
        waiting = max(waiting, during(connection.drain_events, 0.3))
        if waiting >= 6:
            break
    return [confirms, waiting]


ticker = green.backend().spawn(tick)
counts = []
connections = [gamqp.connect(url)]
if when == 'late':
    counts += work(connections[0])
    backends.patch(library)
    connections.append(gamqp.connect(url))
for connection in connections:
    counts += work(connection)
for connection in connections:
    connection.close()
green.backend().kill(ticker)
print(json.dumps({'backend': green.backend().NAME, 'ticks': counts}))
