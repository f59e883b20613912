"""Program: connect, and end. Arguments: library, host."""

from __future__ import annotations

import sys

import backends

library, host = sys.argv[1:]
backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp.io import process_end  # noqa: E402

process_end.EXIT_SILENCE = process_end.EXIT_TOTAL = 100.0
connection = gamqp.Connection(host)
connection.connect()
