"""Program: end while a thread that nobody waits for has a connection. Arguments: library, host, what.

what: its hub 'ticks' all the time, 'publishes' numbers all the time, or is 'held' up by something that does not
let go; or the thread has 'ended', which leaves the connection open.
"""

from __future__ import annotations

import sys
import threading
import time

import backends

library, host, what = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
busy, held = threading.Event(), []


def publish(channel: gamqp.Channel) -> None:
    number = 0
    while True:
        channel.basic_publish(gamqp.Message(b'%d' % number), '', 'q')
        number += 1
        if number == 200:
            busy.set()
        if not number % 20:
            backend.sleep(0.0001)


def home() -> None:
    connection = gamqp.Connection(host)
    connection.connect()
    if what == 'publishes':
        try:
            publish(connection.channel())
        except gamqp.ConnectionError as exc:
            assert str(exc).startswith('the program has ended'), exc
    held.append(connection)
    busy.set()
    while what == 'ticks':
        backend.sleep(0.0002)
    if what == 'held':
        time.sleep(60)


thread = threading.Thread(target=home, daemon=True)
thread.start()
busy.wait()
if what == 'ended':
    thread.join()
if what == 'ticks':
    time.sleep(0.1)
