"""Program: publish, fork, and wait in a pipe, in parent and child. Arguments: library, when, URL, queue.

Both publish in a burst, so that not all of it goes out with the call, and then block natively until
standard input ends. The child does as a Celery worker of the prefork pool: a connection of its own, a
publish, and back to its pipe.
"""

from __future__ import annotations

import os
import sys
import warnings

import backends

library, when, url, queue = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402

BURST = 5


def publish(connection: gamqp.Connection) -> None:
    channel = connection.channel()
    for _ in range(BURST):
        channel.basic_publish(gamqp.Message(b'x'), '', queue)


connection = gamqp.connect(url)
publish(connection)
with warnings.catch_warnings():
    warnings.simplefilter('error')  # Python tells of forks in processes that have several threads
    child = os.fork()
if not child:
    if library == 'eventlet':
        import eventlet.hubs

        eventlet.hubs.use_hub()  # as its documentation asks of every child
    connection = gamqp.connect(url)
    publish(connection)
print(os.getpid(), flush=True)
os.read(0, 1)
if child:
    os.waitpid(child, 0)
connection.close()
