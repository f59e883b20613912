"""``gamqp bind``: a queue, or an exchange, to an exchange; and the reverse.

Layer 5. Does not belong here: many at once (``topology_command``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import broker_urls
from .exit_codes import OK
from .field_values import pairs
from .output import Output
from .parser import Parser
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp bind events jobs --key 'order.*'
gamqp bind events jobs -a x-match=all -a type=order
gamqp bind events jobs --key 'order.*' --remove"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('bind', 'Have an exchange route messages to a queue, or to another exchange.', EXAMPLE)
    parser.add_argument('source', metavar='EXCHANGE', help='the exchange that routes')
    parser.add_argument('destination', metavar='DESTINATION', help='the queue, or with --to-exchange the exchange')
    parser.add_argument('-k', '--key', default='', help='the routing key, or its pattern')
    parser.add_argument('--to-exchange', action='store_true', help='the destination is an exchange')
    parser.add_argument('--remove', action='store_true', help='remove the binding instead')
    parser.add_argument('-a', '--argument', action='append', metavar='NAME[:TYPE]=VALUE', help='for headers exchanges')
    return run_command(parser, bind, arguments)


def bind(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Bind, or remove the binding."""
    arguments = pairs(options.argument, typed=True)
    with broker_urls.connect(options) as connection:
        channel = connection.channel()
        call: Callable[..., object]
        if options.to_exchange:
            call = channel.exchange_unbind if options.remove else channel.exchange_bind
        else:
            call = channel.queue_unbind if options.remove else channel.queue_bind
        call(options.destination, options.source, options.key, arguments=arguments)
        output.result(
            {
                'source': options.source,
                'destination': options.destination,
                'destination_type': 'exchange' if options.to_exchange else 'queue',
                'routing_key': options.key,
                'arguments': arguments,
            }
        )
    return OK
