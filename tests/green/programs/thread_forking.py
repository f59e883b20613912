"""Program: fork while greenlets of another thread wait on a connection of that thread. Arguments: library, host.

The child prints what it is told of that connection, after giving its hub time for whatever it has been left.
"""

from __future__ import annotations

import os
import sys
import threading

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
connection = gamqp.Connection(host, heartbeat=60)


def home() -> None:
    connection.connect()
    for _ in range(3):
        backend.spawn(connection.channel)
    while True:
        backend.sleep(0.05)


threading.Thread(target=home, daemon=True).start()
while len(connection.channels) < 3:
    backend.sleep(0.01)
child = os.fork()
if child:
    assert connection.connected
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
backend.sleep(0.2)
try:
    connection.channel()
except gamqp.WrongThread:
    print('refused', connection.connected, connection.transport.connected, flush=True)
os._exit(0)
