"""Program: end while a daemon thread's hub has a connection and much to do. Arguments: library, host.

Prints whether that hub still runs after the goodbye, and what somebody hears who then calls into it.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time

import backends


@atexit.register
def look() -> None:  # registered first, so called last
    before = ticks[0]
    time.sleep(0.1)
    print(ticks[0] - before)
    try:
        connections[0].run_in_hub(print, 'never')
    except gamqp.RecoverableConnectionError as exc:
        print(exc)


library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

ticks = [0]
connections: list[gamqp.Connection] = []
ready = threading.Event()


def home() -> None:
    connections.append(gamqp.Connection(host))
    connections[0].connect()
    while True:
        green.backend().sleep(0.0005)
        ticks[0] += 1
        ready.set()


threading.Thread(target=home, daemon=True).start()
ready.wait()
