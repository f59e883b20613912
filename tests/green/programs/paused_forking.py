"""Program: fork while the reader does not read, the program having enough to do. Arguments: library, host.

Prints 'ready' when messages may come. The child prints whether reader and heartbeat of its parent's
connection have ended there.
"""

from __future__ import annotations

import os
import sys

import backends
import inside

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
connection = gamqp.Connection(host, max_undelivered_messages=2)
connection.connect()
channel = connection.channel()
channel.basic_consume('q', 'tag', no_ack=True, callback=print)
print('ready', flush=True)
while inside.reads(connection):
    backend.sleep(0.01)
greenlets = inside.reader_greenlet(connection), inside.heartbeat_greenlet(connection)
child = os.fork()
if child:
    assert not inside.reads(connection)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
deadline = green.Deadline(30)
while not all(one.dead for one in greenlets) and not deadline.passed:
    backend.sleep(0.01)
print(*(bool(one.dead) for one in greenlets), flush=True)
os._exit(0)
