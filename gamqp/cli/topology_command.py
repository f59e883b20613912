"""``gamqp topology FILE``: declares what a file says, or shows what differs.

Layer 5. Does not belong here: the format of the file (``topology_file``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from .. import exceptions
from ..channel.channel import Channel
from ..connection import Connection
from . import broker_urls
from .exchange_declaring import declare_exchange
from .exit_codes import FAILED, OK
from .field_values import from_json, to_json
from .management import ManagementAPI, add_management
from .output import Output
from .parser import Parser
from .pictures import Cell
from .running import Stop
from .running import run as run_command
from .topology_file import BindingEntry, ExchangeEntry, QueueEntry, Topology, read_topology

__all__ = ('run',)

EXAMPLE = """\
gamqp topology broker.json
gamqp topology definitions.yaml --check | jq 'select(.result == "differs")'"""

_COLOURS = {
    **dict.fromkeys(('exists', 'created', 'bound'), 'green'),
    **dict.fromkeys(('differs', 'missing', 'refused', 'extra'), 'red'),
    'unknown': 'yellow',
}


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = (
        'Declare the exchanges, queues and bindings of a file, in the format of RabbitMQ definitions. What exists\n'
        'with other arguments is shown, left as it is, and makes the exit code 1.'
    )
    parser = Parser('topology', does, EXAMPLE)
    parser.add_argument('file', metavar='FILE', help="JSON, or YAML with PyYAML; '-' is stdin, as JSON")
    parser.add_argument(
        '--check', action='store_true', help='declare nothing; exit code 1 where something is missing or more'
    )
    add_management(parser, 'with --check bindings are compared, too')
    return run_command(parser, topology, arguments)


def topology(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Declare, or compare, each in turn; a line of JSON, or of a table, says what became of it."""
    connection = broker_urls.connect(options)
    try:
        wanted = read_topology(options.file, connection.virtual_host)
        there = None
        if options.check and options.management:
            there = _bindings(ManagementAPI(options.management, connection._settings), connection.virtual_host)
        work = _Work(connection, options.check, there, output)
        for exchange in wanted.exchanges:
            work.exchange(exchange)
        for queue in wanted.queues:
            work.queue(queue)
        for binding in wanted.bindings:
            work.binding(binding)
        for more in _extra(wanted, there or []):
            work.result_of(more, 'extra', 'not in the file')
    finally:
        connection.close()
    output.note(', '.join(f'{count:,} {result}' for result, count in sorted(work.counts.items())) or 'nothing to do')
    return FAILED if work.counts.keys() & {'differs', 'missing', 'refused', 'extra'} else OK


def _bindings(management: ManagementAPI, virtual_host: str) -> list[BindingEntry]:
    """All that the broker has, in a fixed order."""
    entries = [
        BindingEntry(
            *(one['source'], one['destination'], one['destination_type'], one['routing_key']),
            from_json(one['arguments']),
        )
        for one in management.bindings(virtual_host)
    ]
    return sorted(entries, key=repr)


def _extra(wanted: Topology, there: list[BindingEntry]) -> list[BindingEntry]:
    """Bindings between what the file has that are not in it."""
    names = {
        'exchange': {one.name for one in wanted.exchanges},
        'queue': {one.name for one in wanted.queues},
    }
    return [
        one
        for one in there
        if one not in wanted.bindings
        and one.source in names['exchange']
        and one.destination in names[one.destination_type]
    ]


class _Work:
    """Declares or compares on one connection, and counts the results.

    there: the bindings that the broker has, None where it was not asked.
    """

    def __init__(self, connection: Connection, check: bool, there: list[BindingEntry] | None, output: Output) -> None:
        self._connection, self._check, self._there, self._output = connection, check, there, output
        self.counts: dict[str, int] = {}

    def exchange(self, one: ExchangeEntry) -> None:
        """Declare or compare an exchange."""
        self._entity(
            'exchange',
            one.name,
            lambda channel: channel.exchange_declare(one.name, '', passive=True),
            lambda channel: declare_exchange(
                channel, one.name, one.type, one.durable, one.auto_delete, one.internal, one.arguments
            ),
        )

    def queue(self, one: QueueEntry) -> None:
        """Declare or compare a queue."""
        self._entity(
            'queue',
            one.name,
            lambda channel: channel.queue_declare(one.name, passive=True),
            lambda channel: channel.queue_declare(
                one.name, durable=one.durable, auto_delete=one.auto_delete, arguments=one.all_arguments
            ),
        )

    def binding(self, one: BindingEntry) -> None:
        """Bind, or compare. AMQP does not tell which bindings there are, but the management API does."""
        if self._check:
            if self._there is None:
                self.result_of(one, 'unknown', 'AMQP does not tell which bindings there are: --management URL does')
            else:
                self.result_of(one, 'exists' if one in self._there else 'missing')
            return
        call = 'queue_bind' if one.destination_type == 'queue' else 'exchange_bind'
        refused = self._refused(
            lambda channel: getattr(channel, call)(
                one.destination, one.source, one.routing_key, arguments=one.arguments
            )
        )
        self.result_of(one, 'refused' if refused else 'bound', refused)

    def result_of(self, one: BindingEntry, result: str, found: str = '') -> None:
        """Say what became of a binding, and count it."""
        more = {'arguments': to_json(one.arguments)} if one.arguments else {}
        self._result('binding', f'{one.source} -> {one.destination}', result, found, key=one.routing_key, **more)

    def _entity(
        self, kind: str, name: str, look: Callable[[Channel], object], declare: Callable[[Channel], object]
    ) -> None:
        exists = not self._refused(look)
        if not exists and self._check:
            self._result(kind, name, 'missing')
            return
        # Of one that exists it changes nothing, and tells which argument differs.
        refused = self._refused(declare)
        if refused:
            self._result(kind, name, 'differs' if exists else 'refused', refused)
        else:
            self._result(kind, name, 'exists' if exists else 'created')

    def _refused(self, call: Callable[[Channel], object]) -> str:
        """Call it with a channel of its own: an error closes that. Returns the text of the refusal, '' for none."""
        channel = self._connection.channel()
        try:
            call(channel)
        except exceptions.ChannelError as exc:
            return str(exc)
        finally:
            if channel.is_open:
                channel.close()
        return ''

    def _result(self, kind: str, name: str, result: str, found: str = '', **more: Any) -> None:
        self.counts[result] = self.counts.get(result, 0) + 1
        pictures = self._output.pictures
        if pictures is None:
            line = {'kind': kind, 'name': name, 'result': result, **more}
            self._output.result({**line, 'found': found} if found else line)
            return
        what = '  '.join([name, *(f'{key} {json.dumps(value, ensure_ascii=False)}' for key, value in more.items())])
        text = f'{what}\n{found}' if found else what
        self._output.line(pictures.row(Cell(result, 7, _COLOURS[result]), Cell(kind, 8, 'bold'), Cell(text)))
