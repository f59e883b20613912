"""Program: end beside brokers that take and say nothing any more. Arguments: library, hosts."""

from __future__ import annotations

import sys

import backends

library, *hosts = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402

connections = [gamqp.Connection(host) for host in hosts]
for connection in connections:
    connection.connect()
