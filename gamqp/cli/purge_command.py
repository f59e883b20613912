"""``gamqp purge``: drops the messages of queues.

Layer 5. Does not belong here: deleting a queue.
"""

from __future__ import annotations

import argparse

from . import broker_urls
from .exit_codes import OK
from .output import Output
from .parser import Parser
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = 'gamqp purge jobs.dead jobs.retry'


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = 'Drop all messages of queues, but those that a consumer holds without an ack.'
    parser = Parser('purge', does, EXAMPLE)
    parser.add_argument('queues', nargs='+', metavar='QUEUE')
    return run_command(parser, purge, arguments)


def purge(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Purge each, and print how many messages it had."""
    with broker_urls.connect(options) as connection:
        channel = connection.channel()
        for queue in options.queues:
            output.result({'queue': queue, 'messages': int(channel.queue_purge(queue) or 0)})
    return OK
