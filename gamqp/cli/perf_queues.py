"""The queues of ``perf``: their names and kinds, how they are made, and that they go in the end.

Layer 5. Does not belong here: messages.
"""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from .. import exceptions
from ..connection import Connection
from .exit_codes import UsageError
from .field_values import pairs

__all__ = ('Queues',)

# A stream without a limit would fill the disk.
STREAM_LENGTH = 1_000_000_000


class Queues:
    """names: of all queues. predeclared: neither made nor deleted."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.names = _names(options)
        self.exchange: str = options.exchange or ''
        self._kind: str = options.exchange_type
        self._key: str | None = options.key
        self._predeclared: bool = options.predeclared
        self._keep: bool = options.keep
        self.is_stream: bool = options.stream_queue
        self._arguments = pairs(options.queue_argument, typed=True)
        if options.quorum_queue or options.stream_queue:
            self._arguments['x-queue-type'] = 'quorum' if options.quorum_queue else 'stream'
        if options.stream_queue:
            self._arguments.setdefault('x-max-length-bytes', STREAM_LENGTH)
        self._made: list[str] = []
        self._made_exchange = False

    def key(self, queue: str) -> str:
        """The routing key of what goes to a queue."""
        return queue if self._key is None else self._key

    def declare(self, connection: Connection) -> None:
        """Make what is not there yet. Switches. Raises why it cannot be."""
        if self._predeclared:
            channel = connection.channel()
            for name in self.names:
                channel.queue_declare(name, passive=True)
            return
        for name in self.names:
            if not _exists(connection, name):
                self._made.append(name)
            connection.channel().queue_declare(name, durable=True, auto_delete=False, arguments=self._arguments)
        if self.exchange:
            channel = connection.channel()
            if not self.exchange.startswith('amq.'):
                channel.exchange_declare(self.exchange, self._kind, durable=True, auto_delete=False)
            for name in self.names:
                channel.queue_bind(name, self.exchange, self.key(name))

    def delete(self, connection: Connection) -> None:
        """Delete the queues that were made here. Switches."""
        if not self._keep:
            channel = connection.channel()
            for name in self._made:
                channel.queue_delete(name)

    def ready(self, connection: Connection) -> int:
        """Messages in all queues that no consumer holds. Switches."""
        channel = connection.channel()
        try:
            return sum(channel.queue_declare(name, passive=True).message_count for name in self.names)
        finally:
            channel.close()


def _names(options: argparse.Namespace) -> list[str]:
    if options.queue_pattern is None:
        return [options.queue or f'perf.{secrets.token_hex(4)}']
    if options.queue:
        raise UsageError('--queue and --queue-pattern exclude each other')
    first, last = options.queue_pattern_from, options.queue_pattern_to
    if last < first:
        raise UsageError('--queue-pattern-to is less than --queue-pattern-from')
    try:
        return [options.queue_pattern % number for number in range(first, last + 1)]
    except (TypeError, ValueError):
        raise UsageError("--queue-pattern: one number is wanted in it, such as 'perf-%d'") from None


def _exists(connection: Connection, name: str) -> bool:
    channel: Any = connection.channel()
    try:
        channel.queue_declare(name, passive=True)
    except exceptions.NotFound:
        return False
    channel.close()
    return True
