"""The bindings that a connection has made, by both of their ends.

State, no I/O. Every method takes time for the bindings that it concerns, never for all, but for ``all``.
Does not belong here: what the broker deletes with a binding (``topology_registry``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from .topology_records import BindingKey, RecordedBinding

__all__ = ('DESTINATIONS', 'Bindings', 'Destination')

Destination = Literal['queue', 'exchange']
DESTINATIONS: tuple[Destination, Destination] = ('exchange', 'queue')


class Bindings:
    """``binding in bindings`` says whether this very record is there."""

    __slots__ = ('_incoming', '_outgoing')

    def __init__(self) -> None:
        # Destination -> its bindings. A destination without bindings has no entry, nor has a source below.
        self._incoming: dict[Destination, dict[str, dict[BindingKey, RecordedBinding]]] = {'queue': {}, 'exchange': {}}
        # Source -> its bindings. The inner dict stands for a set, and keeps the order.
        self._outgoing: dict[str, dict[RecordedBinding, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._outgoing.values()))

    def __contains__(self, binding: object) -> bool:
        return isinstance(binding, RecordedBinding) and binding in self._outgoing.get(binding.source, ())

    def all(self, destination_type: Destination) -> Iterator[RecordedBinding]:
        return (binding for of_one in self._incoming[destination_type].values() for binding in of_one.values())

    def find(self, destination_type: Destination, destination: str, key: BindingKey) -> RecordedBinding | None:
        return self._incoming[destination_type].get(destination, {}).get(key)

    def into(self, destination_type: Destination, destination: str) -> list[RecordedBinding]:
        """Those of a destination, as a new list."""
        return list(self._incoming[destination_type].get(destination, {}).values())

    def out_of(self, source: str) -> list[RecordedBinding]:
        """Those of a source, as a new list."""
        return list(self._outgoing.get(source, ()))

    def add(self, binding: RecordedBinding) -> None:
        """One that ``find`` does not know."""
        self._incoming[binding.destination_type].setdefault(binding.destination, {})[binding.key] = binding
        self._outgoing.setdefault(binding.source, {})[binding] = None

    def remove(self, bindings: Iterable[RecordedBinding]) -> list[str]:
        """Take these out, which are there. Returns the sources that have none left."""
        emptied = []
        for binding in bindings:
            tables = self._incoming[binding.destination_type]
            incoming, outgoing = tables[binding.destination], self._outgoing[binding.source]
            del incoming[binding.key], outgoing[binding]
            if not incoming:
                del tables[binding.destination]
            if not outgoing:
                del self._outgoing[binding.source]
                emptied.append(binding.source)
        return emptied

    def rename_queue(self, old: str, new: str) -> None:
        incoming = self._incoming['queue'].pop(old, None)
        if incoming is not None:
            self._incoming['queue'][new] = incoming
            for binding in incoming.values():
                binding.destination = new
