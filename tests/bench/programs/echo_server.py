"""Answers requests to the queue ``echo`` of a real broker until its stdin ends. Prints a line when it is ready."""

from __future__ import annotations

import sys

import gevent
import gevent.os
from timing import ECHO

import gamqp


def main() -> None:
    with gamqp.connect(sys.argv[1]) as connection:
        connection.channel().queue_declare(ECHO, exclusive=True, auto_delete=False)
        with gamqp.RPCServer(connection, ECHO, lambda request: request.body):
            print('ready', flush=True)
            while gevent.os.tp_read(0, 1024):
                pass


if __name__ == '__main__':
    main()
