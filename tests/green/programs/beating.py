"""Program: keep the hub from its work, with a heartbeat thread. Arguments: library, when, URL, what.

what: 'held' computes for four heartbeats in a callback, lets another thread in, and ends without closing.
'fork' has a parent that waits for its child outside the hub, both with a connection. 'over' ends while a
thread waits for a hub that will not run again.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import backends

library, when, url, what = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402
from gamqp.green import os_threads  # noqa: E402
from gamqp.io.send_thread import send_thread  # noqa: E402

HELD = 4.0  # seconds; the broker gives up after two to three


def connect() -> gamqp.Connection:
    return gamqp.connect(url, heartbeat=1, heartbeat_thread=True)


def burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


def works(connection: gamqp.Connection) -> bool:
    return bool(connection.channel().queue_declare(exclusive=True).queue)


def native_threads() -> int:
    return len(os.listdir('/proc/self/task'))


connection = connect()
if when == 'late':
    backends.patch(library)

if what == 'held':
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.basic_consume(queue, callback=lambda message: burn(HELD), no_ack=True)
    channel.basic_publish(gamqp.Message(b'x'), '', queue)
    connection.drain_events(timeout=30)
    assert works(connection)
    home = os_threads.get_ident()
    assert connection.run_in_hub(os_threads.get_ident) == home
    assert green.backend().in_thread(os_threads.get_ident) != home
    assert green.backend().in_thread(connection.run_in_hub, os_threads.get_ident) == home
    assert green.backend().in_thread(connection.run_in_hub, works, connection)
    try:
        green.backend().in_thread(connection.channel)
    except gamqp.WrongThread:
        print('held')
elif what == 'fork':
    assert send_thread.running
    child = os.fork()
    if not child:
        assert not send_thread.running
        assert native_threads() == 1
        try:
            connection.channel()
        except gamqp.ConnectionError as exc:
            assert 'fork' in str(exc), exc
        own = connect()
        assert send_thread.running
        burn(HELD)
        assert works(own)
        own.close()
        print('child', flush=True)
        sys.exit(0)
    _, status = os.waitpid(child, 0)  # of the system, not the library's: the hub stands still
    assert works(connection)
    assert connection.run_in_hub(os.getpid) == os.getpid()
    connection.close()
    print('parent', os.waitstatus_to_exitcode(status))
else:

    def wait_for_nothing() -> None:
        time.sleep(0.3)  # until the main thread is at its end
        try:
            connection.run_in_hub(print, 'never')
        except gamqp.RecoverableConnectionError as exc:
            print('over:', exc)

    threading.Thread(target=wait_for_nothing).start()
