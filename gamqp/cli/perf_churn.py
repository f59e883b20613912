"""``perf --churn``: connections, channels, consumers, queues or bindings, made and ended over and over.

Layer 5. Does not belong here: messages.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from typing import Any

from ..connection import Connection
from . import broker_urls
from .perf_figures import Figures

__all__ = ('KINDS', 'Churn')

KINDS = ('connections', 'channels', 'consumers', 'queues', 'bindings')


class Churn:
    """One greenlet that makes and ends one thing after the other, until ``stopped`` or *count* times."""

    def __init__(
        self, options: argparse.Namespace, figures: Callable[[], Figures], connection: Connection, count: int | None
    ) -> None:
        self._options, self._figures, self._connection, self._count = options, figures, connection, count
        self._name = f'perf.churn.{secrets.token_hex(4)}'
        self.stopped = False

    def run(self) -> None:
        """Make and end. Switches. Raises why it cannot go on."""
        kind: str = self._options.churn
        channel: Any = None if kind in ('connections', 'channels') else self._connection.channel()
        if kind in ('consumers', 'bindings'):
            channel.queue_declare(self._name, exclusive=True, auto_delete=False)
        cycle: Callable[[Any], None] = getattr(self, f'_{kind}')
        done = 0
        while not self.stopped and done != self._count:
            since = time.monotonic_ns()
            cycle(channel)
            figures = self._figures()
            figures.cycle.add((time.monotonic_ns() - since) // 1000)
            figures.cycles += 1
            done += 1

    def _connections(self, channel: Any) -> None:
        broker_urls.connect(self._options, shuffle=True).close()

    def _channels(self, channel: Any) -> None:
        self._connection.channel().close()

    def _consumers(self, channel: Any) -> None:
        channel.consume(self._name).close()

    def _queues(self, channel: Any) -> None:
        channel.queue_declare(self._name, durable=True, auto_delete=False)
        channel.queue_delete(self._name)

    def _bindings(self, channel: Any) -> None:
        channel.queue_bind(self._name, 'amq.topic', 'perf')
        channel.queue_unbind(self._name, 'amq.topic', 'perf')
