"""``gamqp delete``: a queue or an exchange.

Layer 5. Does not belong here: the messages of a queue alone (``purge_command``).
"""

from __future__ import annotations

import argparse

from . import broker_urls
from .exit_codes import OK, NothingThere, UsageError
from .output import Output
from .parser import Parser
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp delete queue old.jobs --if-empty --if-unused
gamqp delete exchange events"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('delete', 'Delete a queue with its messages, or an exchange.', EXAMPLE)
    parser.add_argument('what', choices=('queue', 'exchange'))
    parser.add_argument('name', metavar='NAME')
    parser.add_argument('--if-empty', action='store_true', help='not a queue that holds messages')
    parser.add_argument(
        '--if-unused', action='store_true', help='not a queue with consumers, or an exchange with bindings'
    )
    return run_command(parser, delete, arguments)


def delete(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Delete it. Raises NothingThere where there is none: the broker itself would not say so."""
    if not options.name:
        raise UsageError('a name is wanted')
    with broker_urls.connect(options) as connection:
        channel = connection.channel()
        if options.what == 'exchange':
            if options.if_empty:
                raise UsageError('--if-empty is for queues')
            channel.exchange_declare(options.name, '', passive=True)
            channel.exchange_delete(options.name, options.if_unused)
            output.result({'exchange': options.name})
            return OK
        channel.queue_declare(options.name, passive=True)
        dropped = channel.queue_delete(options.name, options.if_unused, options.if_empty)
        if dropped is None:
            raise NothingThere(f'there is no queue {options.name!r}')
        output.result({'queue': options.name, 'messages': int(dropped)})
    return OK
