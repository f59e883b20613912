"""Program: publish and end without closing. Arguments: library, when, URL, queue, count, how to end."""

from __future__ import annotations

import os
import sys

import backends

library, when, url, queue, count, how = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402

connection = gamqp.connect(url)
channel = connection.channel()
channel.queue_declare(queue, durable=True, auto_delete=False)
body = bytes(1000)


def publish(number: int) -> None:
    for _ in range(number):
        channel.basic_publish(gamqp.Message(body), '', queue)


if how == 'fork':
    # What waits in the parent's queue, and the parent's socket, are not the child's business.
    publish(int(count) // 2)
    child = os.fork()
    if not child:
        try:
            channel.basic_publish(gamqp.Message(body), '', queue)
        except gamqp.ConnectionError as exc:
            print(exc, flush=True)
        sys.exit(0)
    os.waitpid(child, 0)
    publish(int(count) - int(count) // 2)
    print(channel.queue_declare(queue, passive=True).message_count, flush=True)
    connection.close()
else:
    publish(int(count))
    if how == 'error':
        raise ZeroDivisionError
