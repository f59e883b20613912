"""``gamqp tap EXCHANGE[:KEY]``: what an exchange routes, without disturbing anybody.

Layer 5. The messages are copies, in a queue of the command's own that is bounded and goes with it. Does not belong
here: consuming queues of others (``consume_command``).
"""

from __future__ import annotations

import argparse
import re
import time

from .. import exceptions
from ..channel.channel import Channel
from ..connection import Connection
from . import broker_urls
from .envelopes import envelope_of
from .exit_codes import NOTHING, OK, UsageError
from .message_folder import FolderWriter
from .output import Output, messages
from .parser import Parser, count, seconds
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp tap events
gamqp tap 'orders:order.*.created' 'orders:order.*.paid' | jq -r .body
gamqp tap events --save ./recorded --limit 1000"""

# Messages that may wait in the queue of the tap. Beyond them the broker drops the oldest: a tap that is too slow
# misses some, and costs the broker nothing more.
QUEUE_LIMIT = 10_000
PREFETCH = 500


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = 'Show what an exchange routes, as envelopes of JSON: copies, while it is consumed as ever.'
    parser = Parser('tap', does, EXAMPLE)
    parser.add_argument(
        'exchanges',
        nargs='+',
        metavar='EXCHANGE[:KEY]',
        help='KEY: of a topic exchange a pattern (default: #), of a direct exchange the key',
    )
    parser.add_argument('--save', metavar='FOLDER', help='write each into a file of this folder instead, for replay')
    parser.add_argument('--limit', type=count, metavar='N', help='end after so many messages')
    parser.add_argument('--idle-timeout', type=seconds, metavar='SECONDS', help='end when nothing has come for so long')
    broker_urls.add_reconnect(parser)
    parser.add_argument(
        '--queue-limit',
        type=count,
        default=QUEUE_LIMIT,
        metavar='N',
        help=f'messages that may wait at the broker; the oldest are dropped beyond them (default: {QUEUE_LIMIT})',
    )
    return run_command(parser, tap, arguments)


def tap(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Bind, and show what comes."""
    folder = FolderWriter(options.save) if options.save else None
    connection = broker_urls.connect(options, **broker_urls.reconnecting(options, output))
    seen = 0
    try:
        queue = _bound_queue(connection, options)
        deliveries = connection.channel().consume(queue, prefetch=PREFETCH, timeout=options.idle_timeout)
        output.note(f'gamqp tap: listening to {", ".join(options.exchanges)}')
        for message in deliveries:
            envelope = envelope_of(message, received_at=round(time.time(), 6))
            if folder is None:
                output.result(envelope)
            else:
                folder.write(envelope, safely=False)
            message.ack()
            seen += 1
            output.progress(f'{messages(seen)}')
            if seen == options.limit:
                break
    except TimeoutError:
        pass  # idle
    finally:
        connection.close()
        output.note(messages(seen))
    return OK if seen else NOTHING


def _bound_queue(connection: Connection, options: argparse.Namespace) -> str:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True, arguments={'x-max-length': options.queue_limit}).queue
    for text in options.exchanges:
        exchange, colon, key = text.partition(':')
        if not exchange:
            raise UsageError(
                'the default exchange cannot be tapped: it has no bindings; the firehose has what goes by it '
                '(rabbitmqctl trace_on, then tap amq.rabbitmq.trace)'
            )
        channel.exchange_declare(exchange, '', passive=True)
        if not colon:
            key = '#'
            if _kind(connection, exchange) == 'direct':
                raise UsageError(f'{exchange!r} is a direct exchange, which knows no patterns: say {exchange}:KEY')
        channel.queue_bind(queue, exchange, key)
    return str(queue)


def _kind(connection: Connection, exchange: str) -> str:
    """The type of an exchange that exists: the broker names it where it is declared as another one. '' if unknown."""
    channel: Channel = connection.channel()
    try:
        channel.exchange_declare(exchange, 'headers', durable=True, auto_delete=False)
    except exceptions.PreconditionFailed as exc:
        match = re.search(r"arg 'type'.* current is '([^']+)'", exc.reply_text or '')
        return match[1] if match else 'headers'
    except exceptions.AMQPError:
        return ''  # not for this user to declare
    finally:
        if channel.is_open:
            channel.close()
    return 'headers'
