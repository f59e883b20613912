"""A program that is flooded: it handles ten messages a second, without acks, and makes round trips all the while.

    flooded.py LIBRARY URL QUEUE COUNT ROUND_TRIPS HOW

Prints what it has measured as JSON: bytes of memory above those after connecting, seconds of the
round trips and of the longest time for which the hub did not come round. Afterwards it handles
what is left as fast as it can, and looks whether all of it comes, in order. LIBRARY is 'gevent'
or 'eventlet', HOW 'callback' or 'subscribe'.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from typing import Any

import inside
from processor import own_time

import gamqp
import gamqp.green

PAGE = resource.getpagesize()
# Seconds between two round trips.
GAP = 0.01
# Seconds that the rest may take; only a program that fails ever needs them.
PATIENCE = 600.0
FLOOD = 21_000_000  # bytes on disk


def resident() -> int:
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * PAGE


def descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def main(url: str, queue: str, count: int, round_trips: int, how: str) -> dict[str, Any]:
    connection = gamqp.connect(url)
    green = gamqp.green.backend()
    channel, other = connection.channel(), connection.channel()
    pace = [0.1]
    handled: list[int] = [0, 0]  # how many, and the latest tag

    def handle(message: Any) -> None:
        assert message.delivery_tag == handled[1] + 1 and message.channel is channel
        handled[:] = handled[0] + 1, message.delivery_tag
        if pace[0]:
            green.sleep(pace[0])

    def drain() -> None:
        while handled[0] < count:
            connection.drain_events()

    gap = [0.0]

    def watch() -> None:
        while True:
            begun = own_time()
            green.sleep(0.005)
            gap[0] = max(gap[0], own_time() - begun)

    # Of its own: the flooding queue is busy, and would answer late whoever asked.
    idle = other.queue_declare(exclusive=True).queue
    for _ in range(20):
        other.queue_declare(idle, passive=True)
    gc.collect()
    base, open_before = resident(), descriptors()
    if how == 'callback':
        channel.basic_consume(queue, no_ack=True, callback=handle)
        green.spawn(drain)
    else:
        channel.subscribe(queue, handle, no_ack=True)
    deadline = time.monotonic() + 20
    while inside.reads(connection) and time.monotonic() < deadline:
        green.sleep(0.01)
    paused = resident() - base
    green.spawn(watch)
    most, spooled, times = paused, 0, []
    deadline = time.monotonic() + 60
    # At least so many, and on a slow machine until it is a flood.
    while len(times) < round_trips or (spooled < FLOOD and time.monotonic() < deadline):
        begun = time.monotonic()
        other.queue_declare(idle, passive=True)
        times.append(time.monotonic() - begun)
        most = max(most, resident() - base)
        spooled = max(spooled, connection.stats().get('spooled_bytes', 0))
        green.sleep(GAP)
    slowly, flood_gap = handled[0], gap[0]
    left = other.queue_declare(queue, passive=True).message_count
    pace[0] = 0.0
    deadline = time.monotonic() + PATIENCE
    while handled[0] < count and time.monotonic() < deadline:
        most = max(most, resident() - base)
        green.sleep(0.01)
    stats = connection.stats()
    times.sort()
    result = {
        'paused': paused,
        'most': most,
        'spooled': spooled,
        'median': times[len(times) // 2],
        'p95': times[int(len(times) * 0.95)],
        'worst': times[-1],
        'gap': flood_gap,
        'whole_gap': gap[0],
        'left': left,
        'slowly': slowly,
        'handled': handled[0],
        'connected': connection.connected,
        'still_spooled': stats.get('spooled_messages', 0),
        'undelivered': stats['undelivered_messages'],
        'descriptors': descriptors() - open_before,
    }
    connection.close()
    return result


if __name__ == '__main__':
    library, url, queue, count, round_trips, how = sys.argv[1:]
    gamqp.green.use(library)
    print(json.dumps(main(url, queue, int(count), int(round_trips), how)))
