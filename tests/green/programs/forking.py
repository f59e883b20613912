"""Program: fork with a live connection and a pool in use. Arguments: library, when, how to fork, URL, queue.

Prints two lines of JSON: what the child saw, then what the parent did. Published are 'parent' four times
and 'child' once.
"""

from __future__ import annotations

import json
import os
import sys

import backends

library, when, how, url, queue = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
told: dict[str, object] = {}


def error_of(call: object, *args: object) -> str:
    try:
        call(*args)  # type: ignore[operator]
    except gamqp.ConnectionError as exc:
        return f'{type(exc).__name__}: {exc}'
    return 'none'


def wait_for_a_channel() -> None:
    told['waiter'] = error_of(pool.publish, b'parent', '', queue)


def child() -> None:
    if library == 'eventlet':
        import eventlet.hubs

        eventlet.hubs.use_hub()  # as its documentation asks of every child
    told['open'] = [connection.connected, channel.is_open, connection.is_alive()]
    told['error'] = error_of(connection.channel)
    told['stats'] = [number for number in pool.stats().values() if number]
    lease.__exit__(None, None, None)  # the parent's, by a copy of it
    pool.publish(b'child', '', queue)
    backend.sleep(0.3)  # whatever the copies of the parent's greenlets do, they do it now
    told['fresh'] = [pool.stats()[name] for name in ('connections', 'channels', 'leased', 'leases')]
    pool.close()
    print(json.dumps(told), flush=True)


def fork() -> object:
    """Fork; returns what tells whether the child still runs."""
    if how == 'multiprocessing':
        import multiprocessing

        process = multiprocessing.get_context('fork').Process(target=child)
        process.start()
        return process.is_alive
    module = os
    if how == 'gevent':
        import gevent.os as module
    pid = module.fork()
    if not pid:
        child()
        sys.exit()
    return lambda: module.waitpid(pid, os.WNOHANG) == (0, 0)


connection = gamqp.connect(url)
channel = connection.channel()
channel.queue_declare(queue, durable=True, auto_delete=False)
pool = gamqp.Pool(url, 1, 1)
pool.publish(b'parent', '', queue)
lease = pool.channel()
mine = lease.__enter__()
backend.spawn(wait_for_a_channel)
backend.sleep(0)
running = fork()
while running():  # type: ignore[operator]
    channel.basic_publish_confirm(gamqp.Message(b'tick'), '', 'nowhere')
    backend.sleep(0.01)
mine.publish(b'parent', '', queue).wait()
lease.__exit__(None, None, None)
while 'waiter' not in told:
    backend.sleep(0.01)
channel.basic_publish_confirm(gamqp.Message(b'parent'), '', queue)
told['open'] = [connection.connected, channel.is_open, connection.is_alive()]
told['stats'] = [pool.stats()[name] for name in ('connections', 'channels', 'leased', 'leases', 'lost_connections')]
pool.close()
connection.close()
print(json.dumps(told), flush=True)
