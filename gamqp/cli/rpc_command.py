"""``gamqp rpc QUEUE``: a request to a server that answers by direct reply-to, and its reply on stdout.

Layer 5. Does not belong here: requests and replies (``gamqp.rpc``).
"""

from __future__ import annotations

import argparse
from typing import Any

from ..rpc.client import RPCClient
from . import broker_urls
from .envelopes import body_of, envelope_of
from .exit_codes import OK
from .message_sources import from_stdin
from .output import Output
from .parser import Parser
from .publish_command import add_properties, given_properties
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp rpc prices --body '{"article": 17}' --timeout 5
gamqp rpc --exchange services --key prices < request.json"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('rpc', 'Send a request, and print its reply; exit code 2 where nobody takes the request.', EXAMPLE)
    parser.add_argument('queue', nargs='?', metavar='QUEUE', help='the queue of the server')
    parser.add_argument('-e', '--exchange', default='', help='by this exchange instead')
    parser.add_argument('-k', '--key', default='', help='with this routing key')
    parser.add_argument('-b', '--body', help='the request; without it all of stdin')
    parser.add_argument('--json', action='store_true', help='print the reply as an envelope')
    add_properties(parser)
    return run_command(parser, rpc, arguments)


def rpc(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Call, and print the reply."""
    properties: Any = given_properties(options)
    if options.body is None:
        (request,) = from_stdin('whole', output)
        body = request.body
    else:
        body = options.body.encode('utf-8', 'surrogateescape')
    with broker_urls.connect(options) as connection, RPCClient(connection, timeout=options.timeout or 30.0) as client:
        key = options.key if options.queue is None else options.queue
        reply = client.call(body, routing_key=key, exchange=options.exchange, **properties)
        if options.json:
            output.result(envelope_of(reply))
        else:
            output.write(body_of(reply) + b'\n')
    return OK
