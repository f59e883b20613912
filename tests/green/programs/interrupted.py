"""Program: wait for events until SIGINT. Arguments: library, when, URL, and 'handled' or 'unhandled'."""

from __future__ import annotations

import signal
import sys

import backends

library, when, url, how = sys.argv[1:]
# Whoever runs tests in the background has it ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
backends.begin(library, when)

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

connection = gamqp.connect(url)
channel = connection.channel()
queue = channel.queue_declare(exclusive=True).queue
# Not before the main greenlet waits below.
green.backend().call_later(0.05, lambda: print('ready', flush=True))
if how == 'unhandled':
    connection.drain_events()
try:
    connection.drain_events()
except KeyboardInterrupt:
    # The connection has not suffered.
    print(channel.queue_declare(queue, passive=True).message_count, flush=True)
    connection.close()
    print('closed', flush=True)
