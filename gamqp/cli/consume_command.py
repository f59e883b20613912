"""``gamqp consume``: the messages of a queue to stdout, to a folder, or to a command each.

Layer 5. A message is acked when it has been printed, saved or handled, and not before. Does not belong here: running
commands (``consume_exec``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..basic_message import Message
from ..connection import Connection
from . import broker_urls
from .consume_exec import consume_with_command
from .envelopes import body_of, envelope_of
from .exit_codes import NOTHING, OK, UsageError
from .field_values import stream_offset
from .message_folder import FolderWriter
from .output import Output, messages
from .parser import Parser, amount, count, seconds
from .running import Stop
from .running import run as run_command
from .stream_detection import is_stream

__all__ = ('run',)

EXAMPLE = """\
gamqp consume jobs --exec './handle.sh' --concurrency 4 --exec-timeout 60 --on-failure reject
gamqp consume jobs --requeue --limit 5 --json | jq .headers
gamqp consume events --offset 1h --idle-timeout 2 --save ./events"""

PREFETCH = 100
# With a command few are sent ahead: it may take long, and other consumers could have them. They are more than none,
# since one that has failed waits here for a while before it goes back.
AHEAD = 10


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('consume', 'Take messages out of a queue: print, save or handle each, and then ack it.', EXAMPLE)
    parser.add_argument('queue', metavar='QUEUE')
    parser.add_argument('--json', action='store_true', help='envelopes of JSON, one a line, instead of bodies')
    parser.add_argument('--save', metavar='FOLDER', help='write each message into a file of this folder, for replay')
    parser.add_argument('--limit', type=count, metavar='N', help='end after so many messages')
    parser.add_argument(
        '--idle-timeout',
        type=seconds,
        metavar='SECONDS',
        help='end when nothing has come for so long',
    )
    parser.add_argument(
        '--prefetch',
        type=amount,
        metavar='N',
        help=f'sent ahead of the acks (default: {PREFETCH}; with --exec {AHEAD} more than run at a time)',
    )
    parser.add_argument(
        '--offset', metavar='WHERE', help='in a stream: first, last, next, a number, a time, or an age such as 1h'
    )
    broker_urls.add_reconnect(parser)
    verdict = parser.add_mutually_exclusive_group()
    verdict.add_argument('--requeue', action='store_true', help='give all messages back at the end: only look at them')
    verdict.add_argument('--reject', action='store_true', help='reject instead of ack: drop, or dead-letter, them')
    verdict.add_argument('--no-ack', action='store_true', help='do not ack: quicker, and loses what is on its way')
    _add_exec(parser)
    return run_command(parser, consume, arguments)


def _add_exec(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('with a command')
    group.add_argument(
        '--exec',
        metavar='CMD',
        help='run CMD by the shell for each message, with its body on stdin; ack where it exits with 0',
    )
    group.add_argument('--concurrency', type=count, default=1, metavar='N', help='run so many at a time (default: 1)')
    group.add_argument('--exec-timeout', type=seconds, metavar='SECONDS', help='end a command that takes longer')
    group.add_argument(
        '--on-failure',
        choices=('requeue', 'reject', 'stop'),
        default='requeue',
        help='what becomes of a message whose command fails; stop: requeue, and end (default: requeue, after a pause)',
    )
    group.add_argument(
        '--grace',
        type=seconds,
        default=10.0,
        metavar='SECONDS',
        help='how long running commands may go on after a signal (default: 10)',
    )


def consume(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Consume, until the limit, silence or a signal."""
    if options.exec and (options.save or options.requeue or options.reject or options.no_ack):
        raise UsageError('with --exec the exit code of the command decides: leave out --save and other verdicts')
    folder = FolderWriter(options.save) if options.save else None
    connection = broker_urls.connect(options, **broker_urls.reconnecting(options, output))
    try:
        if options.exec:
            return consume_with_command(connection, options, output, stop, consumer_arguments(options))
        code = _consume(connection, options, output, folder)
        if code == NOTHING and not options.offset and is_stream(connection, options.queue):
            output.note(f'{options.queue!r} is a stream: without --offset only what comes from now on is delivered')
        return code
    finally:
        connection.close()


def consumer_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments for Channel.consume and subscribe. Raises UsageError."""
    usual = min(options.concurrency + AHEAD, 65535) if options.exec else PREFETCH
    prefetch: int = usual if options.prefetch is None else options.prefetch
    if options.limit:
        # No more than is wanted: the others stay where they are, and are not marked as redelivered.
        prefetch = min(prefetch or options.limit, options.limit, 65535)
    elif options.requeue and not options.offset:
        prefetch = 0  # none of them is settled before the end
    given: dict[str, Any] = {'prefetch': prefetch}
    if options.offset:
        given['arguments'] = {'x-stream-offset': stream_offset(options.offset)}
    return given


def _consume(connection: Connection, options: argparse.Namespace, output: Output, folder: FolderWriter | None) -> int:
    arguments = consumer_arguments(options)
    try:
        deliveries = connection.channel().consume(
            options.queue, no_ack=options.no_ack, timeout=options.idle_timeout, **arguments
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    settle = _settling(options)
    taken, held = 0, list[Message]()
    # The last ones are settled together, when the consumer has been cancelled: for each that is settled before, the
    # broker would send another one ahead, beyond the limit.
    hold_from: int | None = options.limit and options.limit - arguments['prefetch']
    try:
        for message in _until_idle(deliveries):
            _put_out(message, options, output, folder)
            taken += 1
            if hold_from is not None and taken > hold_from:
                held.append(message)
            else:
                settle(message)
            output.progress(messages(taken))
            if taken == options.limit:
                break
    finally:
        if held and connection.is_open:
            deliveries.close()
            for message in held:
                settle(message)
        output.note(messages(taken))
    return OK if taken else NOTHING


def _until_idle(deliveries: Any) -> Iterator[Message]:
    while True:
        try:
            yield next(deliveries)
        except (StopIteration, TimeoutError):
            return


def _put_out(message: Message, options: argparse.Namespace, output: Output, folder: FolderWriter | None) -> None:
    if folder is not None:
        envelope = envelope_of(message, queue=options.queue, received_at=time.time())
        folder.write(envelope, safely=not (options.requeue or options.no_ack))
    if options.json:
        output.result(envelope_of(message, queue=options.queue))
    elif folder is None:
        output.write(body_of(message) + b'\n')


def _settling(options: argparse.Namespace) -> Callable[[Message], None]:
    if options.no_ack or options.requeue:
        return lambda message: None  # the end of the connection gives them back
    if options.reject:
        return lambda message: message.reject(requeue=False)
    return lambda message: message.ack()
