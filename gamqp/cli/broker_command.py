"""``gamqp broker``: a broker for tests on a port, for programs of any language, or for one command.

Layer 5. Does not belong here: the broker, see ``gamqp.testing``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess

from .. import green
from .exit_codes import CommandFailed, UsageError
from .output import Output
from .parser import Parser, amount
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

_LONG = 3600.0  # seconds, again and again: a hub with nothing to wait for would end

EXAMPLE = """\
gamqp broker --port 5672
gamqp broker --port 0 -- pytest        # pytest finds its URL in AMQP_URL"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser(
        'broker',
        'A broker for tests that behaves like RabbitMQ and keeps everything in memory: until a signal,\n'
        'or for as long as one COMMAND runs, whose exit code is then that of this one.',
        EXAMPLE,
        connects=False,
    )
    parser.add_argument(
        'command', nargs='*', metavar='-- COMMAND', help='run it with the URL of the broker in AMQP_URL'
    )
    parser.add_argument(
        '--like', default='rabbitmq-4.3', metavar='VERSION', help='rabbitmq-4.3 (default), rabbitmq-3.10'
    )
    parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS', help='where it listens (default: 127.0.0.1)')
    parser.add_argument('--port', type=amount, default=5672, metavar='PORT', help='default: 5672; 0: any that is free')
    return run_command(parser, serve, arguments)


def serve(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Listen until the command has ended, or a signal comes."""
    # It is as large as the client is, and no part of the help.
    make = importlib.import_module('gamqp.testing').Broker
    try:
        # Nobody asks this broker what was published.
        broker = make(options.like, host=options.host, port=options.port, history=0)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    try:
        broker.start()
    except OSError as exc:
        raise CommandFailed(f'cannot listen on {options.host}:{options.port}: {exc.strerror or exc}') from None
    try:
        output.note(f'a broker for tests, like {broker.like}, listens on {broker.host}:{broker.port}')
        if options.command:
            return _with_url(options.command, broker.url)
        while True:
            green.backend().sleep(_LONG)
    finally:
        broker.stop()


def _with_url(command: list[str], url: str) -> int:
    """Run a command beside the broker. Returns its exit code, as a shell has it."""
    try:
        process = subprocess.Popen(command, env={**os.environ, 'AMQP_URL': url})
    except OSError as exc:
        raise CommandFailed(f'{command[0]}: {exc.strerror or exc}') from None
    try:
        code = process.wait()
    except BaseException:
        if not os.isatty(0):  # at a terminal Ctrl-C reaches it, too, and it ends as it wants to
            process.terminate()
        process.wait()
        raise
    return code if code >= 0 else 128 - code
