"""What RabbitMQ holds, as a model of its own: exchanges, queues, bindings, consumers, and what goes with what.

Written from RabbitMQ's documentation, and without code of gamqp. It is slow and simple: every deletion looks at
everything. Each method does what a method of the protocol does, or raises ``Refused``.
"""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ('Refused', 'SimulatedBroker')

Binding = tuple[str, str, str, str, str]  # destination type, source, destination, routing key, arguments


class Refused(Exception):
    """The broker closes the channel. code: the reply code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SimulatedBroker:
    """exchanges, queues: name -> how it was declared. consumers: (connection, channel, tag) -> queue."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Any] = {'amq.topic': ('topic', True, False, '')}
        self.queues: dict[str, Any] = {}
        self.bindings: set[Binding] = set()
        self.consumers: dict[tuple[str, int, str], str] = {}
        self.cancelled: list[tuple[str, int, str]] = []  # consumers that the broker has ended since this was emptied
        self.names = itertools.count()

    # -- exchanges ---------------------------------------------------------------------

    def exchange_declare(self, name: str, *how: Any) -> None:
        if self.exchanges.setdefault(name, how) != how:
            raise Refused(406)

    def exchange_delete(self, name: str) -> None:
        """Of one that is not there, too."""
        self.exchanges.pop(name, None)
        self._unbind_all(
            lambda kind, source, destination: name in (source, destination if kind == 'exchange' else None)
        )

    # -- queues ------------------------------------------------------------------------

    def queue_declare(self, name: str, *how: Any) -> str:
        name = name or f'amq.gen-{next(self.names)}'
        if self.queues.setdefault(name, how) != how:
            raise Refused(406)
        return name

    def queue_delete(self, name: str) -> None:
        """Of one that is not there, too."""
        self.queues.pop(name, None)
        for consumer in [one for one, queue in self.consumers.items() if queue == name]:
            del self.consumers[consumer]
            self.cancelled.append(consumer)
        self._unbind_all(lambda kind, source, destination: (kind, destination) == ('queue', name))

    # -- bindings ----------------------------------------------------------------------

    def bind(self, kind: str, destination: str, source: str, routing_key: str, arguments: str) -> None:
        ends = self.queues if kind == 'queue' else self.exchanges
        if source not in self.exchanges or destination not in ends:
            raise Refused(404)
        self.bindings.add((kind, source, destination, routing_key, arguments))

    def unbind(self, kind: str, destination: str, source: str, routing_key: str, arguments: str) -> None:
        """Of one that is not there, too."""
        binding = (kind, source, destination, routing_key, arguments)
        if binding in self.bindings:
            self.bindings.remove(binding)
            self._delete_if_unused(source)

    def _unbind_all(self, concerned: Any) -> None:
        for binding in sorted(self.bindings):
            if concerned(*binding[:3]) and binding in self.bindings:
                self.bindings.remove(binding)
                self._delete_if_unused(binding[1])

    def _delete_if_unused(self, exchange: str) -> None:
        auto_delete = self.exchanges.get(exchange, (None, None, False))[2]
        if auto_delete and not any(source == exchange for _, source, *_ in self.bindings):
            self.exchange_delete(exchange)

    # -- consumers ---------------------------------------------------------------------

    def consume(self, connection: str, channel: int, tag: str, queue: str) -> None:
        if queue not in self.queues:
            raise Refused(404)
        self.consumers[connection, channel, tag] = queue

    def cancel(self, connection: str, channel: int, tag: str) -> None:
        queue = self.consumers.pop((connection, channel, tag), None)
        if queue is not None and self.queues[queue][2] and queue not in self.consumers.values():
            self.queue_delete(queue)

    def close_channel(self, connection: str, channel: int) -> None:
        for one, number, tag in list(self.consumers):
            if (one, number) == (connection, channel):
                self.cancel(one, number, tag)
