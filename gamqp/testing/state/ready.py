"""The messages of a queue that are ready to be delivered, in their order.

Layer 5, pure. A message that is put back gets its old place. Does not belong here: limits, consumers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

from .message import Entry

__all__ = ('ByPriority', 'Fifo')


class Fifo(deque[Entry]):
    """First in, first out. To be changed by the methods below alone: they count the bytes."""

    def __init__(self) -> None:
        super().__init__()
        #: Of all bodies.
        self.bytes = 0

    def add(self, entry: Entry) -> None:
        """Add a new message."""
        self.append(entry)
        self.bytes += len(entry.message.body)

    def put_back(self, entry: Entry) -> None:
        """Add a message that was taken before."""
        self.bytes += len(entry.message.body)
        if not self or entry.number > self[-1].number:
            self.append(entry)
        elif entry.number < self[0].number:
            self.appendleft(entry)
        else:
            self.insert(bisect_left(self, entry.number, key=_number_of), entry)

    def head(self) -> Entry | None:
        """The next one, which stays."""
        return self[0] if self else None

    def take(self) -> Entry:
        """Take the next one."""
        entry = self.popleft()
        self.bytes -= len(entry.message.body)
        return entry

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self.bytes = 0


class ByPriority:
    """The highest priority first; first in, first out among equals.

    Priorities above *highest* count as that; messages without one have *usual*.
    """

    def __init__(self, highest: int, usual: int = 0) -> None:
        self.highest = highest
        self.usual = usual
        self._levels: dict[int, Fifo] = {}

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    def __iter__(self) -> Iterator[Entry]:
        for level in self._order():
            yield from self._levels[level]

    @property
    def bytes(self) -> int:
        """Of all bodies."""
        return sum(one.bytes for one in self._levels.values())

    def add(self, entry: Entry) -> None:
        """Add a new message."""
        self._of(entry).add(entry)

    def put_back(self, entry: Entry) -> None:
        """Add a message that was taken before."""
        self._of(entry).put_back(entry)

    def head(self) -> Entry | None:
        """The next one, which stays."""
        for level in self._order():
            return self._levels[level].head()
        return None

    def take(self) -> Entry:
        """Take the next one."""
        for level in self._order():
            fifo = self._levels[level]
            entry = fifo.take()
            if not fifo:
                del self._levels[level]
            return entry
        raise IndexError('the queue is empty')

    def clear(self) -> None:
        """Forget all."""
        self._levels.clear()

    def _of(self, entry: Entry) -> Fifo:
        priority = entry.message.facts.priority
        priority = self.usual if priority is None else min(priority, self.highest)
        fifo = self._levels.get(priority)
        if fifo is None:
            fifo = self._levels[priority] = Fifo()
        return fifo

    def _order(self) -> list[int]:
        return sorted(self._levels, reverse=True)


def _number_of(entry: Entry) -> int:
    return entry.number
