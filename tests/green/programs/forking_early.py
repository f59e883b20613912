"""Program: fork while a greenlet connects. Arguments: library, host or URLs.

With URLs it forks when the first of them has been silent for a moment. Prints 'forked', and what became of the
connection in the child and in the parent.
"""

from __future__ import annotations

import os
import sys

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
outcome: list[str] = []


def connect() -> None:
    try:
        if '//' in host:
            connection = gamqp.connect(host, connect_timeout=4, shuffle=False)
            outcome.append(connection.host)
            connection.close()
        else:
            gamqp.Connection(host, connect_timeout=10).connect()
    except (gamqp.ConnectionError, OSError) as exc:
        outcome.append(type(exc).__name__)


backend.spawn(connect)
backend.sleep(0.1)
child = os.fork()
if child:
    print('forked', flush=True)
while not outcome:
    backend.sleep(0.01)
print('parent' if child else 'child', *outcome, flush=True)
os._exit(0)
