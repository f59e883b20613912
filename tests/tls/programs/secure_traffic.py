"""Program: large messages over TLS while another greenlet ticks. Arguments: library, when, URL, CA file. Prints JSON.

when: 'early' (patched before gamqp is imported), 'late' (a connection, and an SSLContext, are older than the
patch), 'not'.
"""

from __future__ import annotations

import json
import ssl
import sys
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is in maintenance, gevent that late may be too late
library, when, url, trust = sys.argv[1:]
context = ssl.create_default_context(cafile=trust)


def patch() -> None:
    if library == 'gevent':
        import gevent.monkey

        gevent.monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()


if when == 'early':
    patch()

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

green.use(library)
ticks = 0
WORKERS, ROUNDS, SIZE = 10, 3, 300_000


def tick() -> None:
    global ticks
    while True:
        ticks += 1
        green.backend().sleep(0.005)


def work(connection: gamqp.Connection, done: list[int]) -> None:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    for number in range(ROUNDS):
        body = bytes([number]) * SIZE
        channel.basic_publish_confirm(gamqp.Message(body), '', queue)
        assert channel.basic_get(queue, no_ack=True).body == body
    channel.close()
    done.append(1)


def use(connection: gamqp.Connection) -> int:
    done: list[int] = []
    for _ in range(WORKERS):
        green.backend().spawn(work, connection, done)
    while len(done) < WORKERS:
        green.backend().sleep(0.01)
        assert connection.connected
    return len(done)


ticker = green.backend().spawn(tick)
results = []
connections = [gamqp.connect(url, ssl={'ca_certs': trust}), gamqp.connect(url, ssl=context)]
if when == 'late':
    results += [use(connection) for connection in connections]
    patch()
    connections += [gamqp.connect(url, ssl={'ca_certs': trust}), gamqp.connect(url, ssl=context)]
    connections.append(gamqp.connect(url, ssl=ssl.create_default_context(cafile=trust)))
results += [use(connection) for connection in connections]
refused = ''
try:
    gamqp.connect(url)
except ssl.SSLCertVerificationError as exc:
    refused = str(exc)
for connection in connections:
    connection.close()
green.backend().kill(ticker)
print(json.dumps({'backend': green.backend().NAME, 'results': results, 'ticks': ticks, 'refused': refused}))
