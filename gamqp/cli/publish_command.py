"""``gamqp publish``: messages from a text, from files or from stdin.

Layer 5. Does not belong here: reading them (``message_sources``), and what becomes of them (``publishing``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from . import broker_urls, field_values
from .envelopes import Envelope
from .exit_codes import UsageError
from .message_sources import Form, from_files, from_stdin
from .output import Output
from .parser import Parser, count
from .publishing import Pace, Publisher
from .running import Stop
from .running import run as run_command

__all__ = ('add_properties', 'given_properties', 'run')

EXAMPLE = """\
gamqp publish jobs --body '{"id": 1}' --property content-type=application/json
tail -f access.log | gamqp publish --exchange logs --key web.access --lines
gamqp consume old.jobs --json --idle-timeout 1 | gamqp publish jobs --json"""

#: Publishes without their confirm, at most.
UNCONFIRMED = 1000


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('publish', 'Publish messages, and wait until the broker has taken each.', EXAMPLE)
    parser.add_argument('queue', nargs='?', metavar='QUEUE', help='the queue to publish to, by the default exchange')
    parser.add_argument('-e', '--exchange', help='publish to this exchange')
    parser.add_argument('-k', '--key', help='the routing key')
    _add_sources(parser)
    add_properties(parser)
    parser.add_argument('--transient', action='store_true', help='not persistent: lost when the broker stops')
    parser.add_argument(
        '--mandatory', action='store_true', help='exit code 2 where no queue takes a message (for QUEUE always)'
    )
    parser.add_argument('--rate', type=count, metavar='N', help='so many messages a second, evenly')
    parser.add_argument('--repeat', type=count, default=1, metavar='N', help='publish each message so often')
    confirms = parser.add_mutually_exclusive_group()
    confirms.add_argument(
        '--unconfirmed',
        type=count,
        default=UNCONFIRMED,
        metavar='N',
        help=f'so many may be without their confirm (default: {UNCONFIRMED})',
    )
    confirms.add_argument('--no-confirms', action='store_true', help='send, and do not ask what became of it')
    return run_command(parser, publish, arguments)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument('-b', '--body', help='the message; without it and --file it is all of stdin')
    source.add_argument('-f', '--file', action='append', metavar='FILE', help='a file, or several, each one message')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('-l', '--lines', action='store_true', help='each line of the files or of stdin is a message')
    form.add_argument(
        '--json',
        action='store_true',
        help='each line is an envelope, as consume --json prints it: it says where to, unless you do',
    )


def add_properties(parser: argparse.ArgumentParser) -> None:
    """The options for headers and properties, but that for persistence."""
    parser.add_argument(
        '-H',
        '--header',
        action='append',
        metavar='NAME[:TYPE]=VALUE',
        help=f'a header; TYPE is one of {", ".join(field_values.TYPES)} (default: str)',
    )
    parser.add_argument(
        '-p',
        '--property',
        action='append',
        metavar='NAME=VALUE',
        help='a property: content-type, priority, message-id …',
    )


def given_properties(options: argparse.Namespace) -> dict[str, object]:
    """The properties that the options of ``add_properties`` say. Raises UsageError."""
    properties: dict[str, object] = field_values.properties(options.property)
    headers = field_values.pairs(options.header)
    if headers:
        properties['application_headers'] = headers
    return properties


def publish(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Publish what there is."""
    exchange, key = _destination(options)
    if options.mandatory and options.no_confirms:
        raise UsageError('--mandatory needs the confirms: leave out --no-confirms')
    if options.body is not None and (options.lines or options.json):
        raise UsageError('--lines and --json are for files and stdin, --body is one message')
    properties = {'delivery_mode': 1 if options.transient else 2, **given_properties(options)}
    connection = broker_urls.connect(
        options,
        outstanding_limit=options.unconfirmed,
        on_blocked=lambda reason: output.note(f'gamqp publish: the broker takes no messages now: {reason}; waiting'),
    )
    confirms = not options.no_confirms
    mandatory = options.mandatory or (confirms and options.queue is not None)
    publisher = Publisher(connection.channel(), output, confirms, mandatory, Pace(options.rate))
    try:
        for envelope in _messages(options, output):
            whole = _with(envelope, properties).sent_to(exchange, key)
            for _ in range(options.repeat):
                publisher.publish(whole)
        publisher.finish()
    finally:
        # Also after an error or a signal: what has been published so far is of interest then.
        connection.close()
        publisher.look_at_known()
        output.note(publisher.summary())
    return publisher.exit_code


def _destination(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """Exchange and routing key; None for those that an envelope may say."""
    if options.queue is None:
        if not options.exchange and not options.key and not options.json:
            raise UsageError('say where to: QUEUE, or --exchange and --key')
        return options.exchange, options.key
    if options.exchange or options.key:
        raise UsageError('a QUEUE is published to by the default exchange: leave out --exchange and --key')
    return '', options.queue


def _messages(options: argparse.Namespace, output: Output) -> Iterator[Envelope]:
    form: Form = 'envelopes' if options.json else 'lines' if options.lines else 'whole'
    if options.body is not None:
        return iter([Envelope(options.body.encode('utf-8', 'surrogateescape'))])
    return from_files(options.file, form) if options.file else from_stdin(form, output)


def _with(envelope: Envelope, properties: dict[str, object]) -> Envelope:
    """The message with these properties where it has none of its own."""
    headers: dict[str, object] = {}
    for table in (properties, envelope.properties):
        found = table.get('application_headers')
        headers.update(found if isinstance(found, dict) else {})
    merged = {**properties, **envelope.properties}
    if headers:
        merged['application_headers'] = headers
    return replace(envelope, properties=merged)
