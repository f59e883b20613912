"""Program: a child of multiprocessing publishes and ends. Arguments: library, URL, queue, count, method."""

from __future__ import annotations

import multiprocessing
import sys

import backends

library, url, queue, count, method = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402


def child() -> None:
    channel = gamqp.connect(url).channel()
    channel.queue_declare(queue, durable=True, auto_delete=False)
    for _ in range(int(count)):
        channel.basic_publish(gamqp.Message(b'x'), '', queue)


if __name__ == '__main__':
    process = multiprocessing.get_context(method).Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
