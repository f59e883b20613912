"""How long a confirm takes, and for how long the hub is held, while something else goes on.

    latency_point.py URL SETTING CONFIRMS SECONDS CONSUMERS CA_CERTS

One greenlet publishes and waits for the confirm, so many times or for so many seconds; a second one sleeps a
millisecond at a time: what it sleeps too long, the hub was held. Prints one line of JSON, durations in milliseconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import gevent
from timing import HEADERS, PROPERTIES, SINK

import gamqp
from gamqp.cli.perf_figures import Histogram

#: Seconds that the greenlet which looks after the hub sleeps.
STEP = 0.001

#: What starts a load on the connection.
Load = Callable[[gamqp.Connection, int], None]


class Measured:
    """Two histograms, and the greenlets that fill them."""

    def __init__(self) -> None:
        self.gaps, self.confirms = Histogram(), Histogram()
        self._over = False

    def watch(self) -> None:
        """Until the publisher has done."""
        last = time.perf_counter()
        while not self._over:
            gevent.sleep(STEP)
            now = time.perf_counter()
            self.gaps.add(int((now - last - STEP) * 1e6))
            last = now

    def publish(self, channel: gamqp.Channel, confirms: int, seconds: float) -> None:
        end = time.perf_counter() + seconds
        try:
            for _ in range(confirms):
                start = time.perf_counter()
                channel.publish(b'x' * 100, routing_key=SINK, headers=HEADERS, **PROPERTIES).wait()
                now = time.perf_counter()
                self.confirms.add(int((now - start) * 1e6))
                if now > end:
                    break
        finally:
            self._over = True


def idle(connection: gamqp.Connection, consumers: int) -> None:
    """Nothing."""


def flood(connection: gamqp.Connection, consumers: int) -> None:
    """A consumer that gets messages as fast as the broker can send them."""

    def take() -> None:
        for _ in connection.channel().consume('flood-100', no_ack=True):
            pass

    gevent.spawn(take)


def slow(connection: gamqp.Connection, consumers: int) -> None:
    """The same, and it takes one every 10 ms: the rest must wait."""

    def take() -> None:
        for _ in connection.channel().consume('flood-100', no_ack=True):
            gevent.sleep(0.01)

    gevent.spawn(take)


def waiting(connection: gamqp.Connection, consumers: int) -> None:
    """So many consumers that get nothing."""
    for first in range(0, consumers, 50):
        channel = connection.channel()
        for _ in range(min(50, consumers - first)):
            channel.basic_consume('idle', no_ack=True, callback=print)


def publishing(connection: gamqp.Connection, consumers: int) -> None:
    """Another greenlet that publishes as fast as it can, with 1,000 confirms outstanding."""

    def publish() -> None:
        channel = connection.channel()
        while True:
            channel.publish(b'x' * 100, routing_key=SINK, headers=HEADERS, **PROPERTIES)

    gevent.spawn(publish)


#: name -> the load, and whether the confirms are on a connection of their own
SETTINGS: dict[str, tuple[Load, bool]] = {
    'idle': (idle, False),
    'consumers': (waiting, False),
    'publishing': (publishing, False),
    'flood': (flood, False),
    'flood-elsewhere': (flood, True),
    'slow-elsewhere': (slow, True),
}


def main() -> None:
    url, setting, confirms, seconds, consumers = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    ssl = {'ca_certs': sys.argv[6]} if sys.argv[6] else False
    load, elsewhere = SETTINGS[setting]
    with gamqp.connect(url, heartbeat=0, ssl=ssl) as connection:
        own = gamqp.connect(url, heartbeat=0, ssl=ssl) if elsewhere else connection
        channel, measured = own.channel(), Measured()
        channel.publish(b'', routing_key=SINK).wait()
        load(connection, consumers)
        gevent.sleep(0.2)  # until it has begun
        watching = gevent.spawn(measured.watch)
        measured.publish(channel, confirms, seconds)
        watching.get()
        found = {'setting': setting, 'tls': bool(ssl), 'confirm': measured.confirms.milliseconds()}
        found |= {'gap': measured.gaps.milliseconds(), 'confirms': measured.confirms.count}
        print(json.dumps(found), flush=True)
        if elsewhere:
            own.close()


if __name__ == '__main__':
    main()
