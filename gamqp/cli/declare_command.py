"""``gamqp declare``: a queue or an exchange.

Layer 5. Does not belong here: many at once (``topology_command``).
"""

from __future__ import annotations

import argparse
from typing import Any

from . import broker_urls
from .exchange_declaring import declare_exchange
from .exit_codes import OK, UsageError
from .field_values import pairs
from .output import Output
from .parser import Parser
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp declare queue jobs --type quorum -a x-delivery-limit=5
gamqp declare exchange events --type topic"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = 'Make a queue or an exchange, durable, unless it exists; an error where it exists with other arguments.'
    parser = Parser('declare', does, EXAMPLE)
    parser.add_argument('what', choices=('queue', 'exchange'))
    parser.add_argument('name', metavar='NAME')
    parser.add_argument(
        '-t', '--type', help='queue: classic, quorum, stream; exchange: direct (default), fanout, topic …'
    )
    parser.add_argument('--transient', action='store_true', help='not durable: gone when the broker stops')
    parser.add_argument('--auto-delete', action='store_true', help='gone with its last consumer, or binding')
    parser.add_argument('--internal', action='store_true', help='an exchange that only other exchanges publish to')
    parser.add_argument('--passive', action='store_true', help='only look whether it exists: exit code 2 where not')
    parser.add_argument(
        '-a', '--argument', action='append', metavar='NAME[:TYPE]=VALUE', help='such as x-max-length=1000'
    )
    return run_command(parser, declare, arguments)


def declare(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Declare it, and print what the broker says of it."""
    arguments = pairs(options.argument, typed=True)
    if not options.name:
        raise UsageError('a name is wanted')
    with broker_urls.connect(options) as connection:
        channel = connection.channel()
        if options.what == 'exchange':
            kind, durable = options.type or 'direct', not options.transient
            declare_exchange(
                channel, options.name, kind, durable, options.auto_delete, options.internal, arguments, options.passive
            )
            output.result({'exchange': options.name})
            return OK
        if options.internal:
            raise UsageError('--internal is for exchanges')
        output.result(_queue(channel, options, arguments))
    return OK


def _queue(channel: Any, options: argparse.Namespace, arguments: dict[str, Any]) -> dict[str, Any]:
    if options.type:
        arguments = {'x-queue-type': options.type, **arguments}
    name, messages, consumers = channel.queue_declare(
        options.name,
        options.passive,
        not options.transient,
        exclusive=False,
        auto_delete=options.auto_delete,
        arguments=arguments,
    )
    return {'queue': name, 'messages': messages, 'consumers': consumers}
