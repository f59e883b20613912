"""Program: fork with a connection that has a metrics hook. Arguments: library, when, URL.

Prints how often the hook was called in the child, then how often in the parent, which closes the connection.
"""

from __future__ import annotations

import os
import sys

import backends

library, when, url = sys.argv[1:]
backends.begin(library, when)

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

calls: list[object] = []
connection = gamqp.connect(url, metrics=calls.append, metrics_interval=3600)
pid = os.fork()
if not pid:
    if library == 'eventlet':
        import eventlet.hubs

        eventlet.hubs.use_hub()  # as its documentation asks of every child
    assert not connection.connected
else:
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        green.backend().sleep(0.01)
    connection.close()
green.backend().sleep(0.1)
print(len(calls), flush=True)
if not pid:
    os._exit(0)
