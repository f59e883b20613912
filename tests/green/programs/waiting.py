"""Program: connect, and end. Arguments: library, host."""

from __future__ import annotations

import sys

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp.io import goodbye  # noqa: E402

goodbye.EXIT_SILENCE = goodbye.EXIT_TOTAL = 100.0
connection = gamqp.Connection(host)
connection.connect()
