"""A name service that is slow, blocks its thread, and answers otherwise each time: ``resolving.py LIBRARY``.

The interpreter's own ``getaddrinfo`` is replaced before anything is imported, so the greenlet library's way to call
it is the real one. Reads lines of ports, the answers to come: ``port,port``. For each it connects, and prints the
peer's port and by how many seconds a ticking greenlet was late at most.
"""

from __future__ import annotations

import _socket
import os
import socket
import sys
import time
from typing import Any

BLOCKED = 0.5  # seconds that an answer takes

nap, plain = time.sleep, _socket.getaddrinfo
answers: list[list[int]] = []


def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host not in ('broker.test', b'broker.test'):
        return plain(host, *args, **kwargs)
    if kwargs.get('flags') or args[4:] not in ((), (0,)):  # whether it is an address: answered at once
        raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
    nap(BLOCKED)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', port)) for port in answers.pop(0)]


_socket.getaddrinfo = socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]
os.environ['EVENTLET_NO_GREENDNS'] = 'yes'  # eventlet's own resolver would ask a server

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

green.use(sys.argv[1])
backend = green.backend()
worst = 0.0


def tick() -> None:
    global worst
    while True:
        begun = time.monotonic()
        backend.sleep(0.005)
        worst = max(worst, time.monotonic() - begun - 0.005)


backend.spawn(tick)
connection: Any = None
for line in sys.stdin:
    answers.append([int(port) for port in line.split(',')])
    worst = 0.0
    if connection is None:
        connection = gamqp.connect('amqp://broker.test', shuffle=False)
    else:
        connection.connect()
    print(connection.sock.getpeername()[1], f'{worst:.3f}', flush=True)
    connection.collect()
print('asked', not answers, flush=True)
