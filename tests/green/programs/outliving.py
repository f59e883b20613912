"""Program: connect, fork, print the child's number, and wait. Arguments: library, host."""

from __future__ import annotations

import os
import sys
import time

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402

connection = gamqp.Connection(host)
connection.connect()
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
