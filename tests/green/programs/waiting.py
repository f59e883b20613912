"""Program: connect, and end. Arguments: library, host."""

from __future__ import annotations

import sys

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402

connection = gamqp.Connection(host)
connection.connect()
