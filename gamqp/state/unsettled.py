"""Deliveries of one channel that the program has not settled yet.

State, no I/O. The broker keeps the same list and gives up on a channel whose
oldest entry is too old, without saying whose it was; we can. Deliveries that lie
in the spool, which may be millions, are not entries but ranges of tags.
"""

from __future__ import annotations

from itertools import takewhile

from .tags import Tags

__all__ = ('Unsettled',)

Entry = tuple[str, float]


class Unsettled(dict[int, Entry]):
    """delivery tag -> (consumer tag, when it came), oldest first; consumer tag '' for basic.get.

    What comes back from the spool may stand behind later deliveries that never were there.
    """

    __slots__ = ('_mixed', 'spooled')

    def __init__(self) -> None:
        super().__init__()
        self.spooled: tuple[Tags, ...] = ()
        self._mixed = False  # they are not in the order of their tags

    def __bool__(self) -> bool:
        return len(self) > 0 or any(self.spooled)

    @property
    def total(self) -> int:
        """How many there are, with those in the spool."""
        return len(self) + sum(map(len, self.spooled))

    def come_back(self, tag: int, entry: Entry) -> None:
        """Enter a delivery that was in the spool."""
        if not self._mixed and tag < next(reversed(self), 0):
            self._mixed = True
        self[tag] = entry

    def settle(self, tag: int, multiple: bool) -> int:
        """An ack, nack or reject was sent. Returns how many deliveries it settled; tag 0 with multiple is all."""
        if not multiple:
            return 0 if self.pop(tag, None) is None else 1
        if tag == 0:
            count = self.total
            self.clear()
            return count
        # Copied without a step of the interpreter: a collection of garbage at any of them may settle others.
        tags = [known for known in list(self) if known <= tag] if self._mixed else list(takewhile(tag.__ge__, self))
        count = 0
        for known in tags:
            if self.pop(known, None) is not None:
                count += 1
        if self._mixed:
            left = list(self)
            self._mixed = left != sorted(left)
        return count + sum(spooled.settle(tag) for spooled in self.spooled)

    def clear(self) -> None:
        super().clear()
        self._mixed = False
        for spooled in self.spooled:
            spooled.clear()

    def oldest(self) -> tuple[int, str, float] | None:
        """(delivery tag, consumer tag, when it came), or None."""
        if self._mixed:
            first = min(self, default=0)
            entry = self.get(first)
            return None if entry is None else (first, *entry)
        for tag, (consumer_tag, came_at) in self.items():
            return tag, consumer_tag, came_at
        return None
