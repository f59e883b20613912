"""Deliveries of one channel that the program has not settled yet.

State, no I/O. The broker keeps the same list and gives up on a channel whose
oldest entry is too old, without saying whose it was; we can. Deliveries that lie
in the spool, which may be millions, are not entries but ranges of tags.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from .tag_order import first, is_wide, up_to
from .tag_ranges import TagRanges

__all__ = ('Unacked', 'WideUnacked')

Entry = tuple[str, float]


class _Settling:
    """What both kinds of Unsettled do."""

    __slots__ = ()

    spooled: Collection[TagRanges]  # an empty tuple, or a dict as an ordered set
    strays: bool  # whether something was settled that was not there, which the broker will not take well
    late: OrderedDict[int, None] | None  # the tags that do not stand where they belong, in their order

    def __bool__(self: Any) -> bool:
        return len(self) > 0 or any(list(self.spooled))

    @property
    def total(self: Any) -> int:
        """How many there are, with those in the spool."""
        return len(self) + sum(map(len, list(self.spooled)))

    def add_spooled(self: Any, tags: TagRanges) -> None:
        """Deliveries with these tags lie in the spool."""
        if not self.spooled:
            self.spooled = {}
        self.spooled[tags] = None

    def forget_spooled(self: Any, tags: TagRanges) -> None:
        """They do not any more."""
        if tags in self.spooled:
            del self.spooled[tags]

    def drop_spooled(self: Any) -> None:
        """What lies in the spool awaits nothing any more. Whoever still has the tags has to know by himself."""
        self.spooled = ()

    def come_back(self: Any, tag: int, entry: Entry) -> None:
        """Enter a delivery that was in the spool. They come back in the order of their tags."""
        if self.late is not None or tag < next(reversed(self), 0):
            if self.late is None:
                self.late = OrderedDict()
            self.late[tag] = None
        self[tag] = entry

    def settle(self: Any, tag: int, multiple: bool) -> int:
        """An ack, nack or reject was sent. Returns how many deliveries it settled; tag 0 with multiple is all.

        What it costs goes by what it settles, however many others there are or were.
        """
        if not multiple:
            if self.late is not None:
                self._no_longer_late(tag)
            if self.pop(tag, None) is None:
                self.strays = True
                return 0
            return 1
        if tag == 0:
            count: int = self.total
            self.clear()
            return count
        # Listed first, and looked up again: a collection of garbage meanwhile may settle others.
        count = 0
        for known in self.covered(tag):
            if self.late is not None:
                self._no_longer_late(known)
            if self.pop(known, None) is not None:
                count += 1
        in_spool: int = sum(spooled.settle(tag) for spooled in list(self.spooled))
        if not count + in_spool:
            self.strays = True
        return count + in_spool

    def covered(self: Any, tag: int) -> list[int]:
        """The tags in memory that a settlement of *tag* with multiple settles; some may be twice in it."""
        if tag == 0:
            return list(self)
        tags, late = up_to(self, tag), self.late
        if late is not None:
            # Behind one that came back stand only those that are late too, or have higher tags.
            tags += up_to(late, tag)
        return tags

    def oldest(self: Any) -> tuple[int, str, float] | None:
        """(delivery tag, consumer tag, when it came), or None."""
        lowest, late = first(self), self.late
        if late:
            lowest = min(lowest, first(late) or lowest)
        entry = self.get(lowest)
        return None if entry is None else (lowest, *entry)

    def latest(self: Any) -> int:
        """The highest tag, 0 if there is none."""
        highest: int = next(reversed(self), 0) if self.late is None else max(self, default=0)
        return max(highest, *(tags.latest for tags in list(self.spooled))) if self.spooled else highest

    def _no_longer_late(self: Any, tag: int) -> None:
        late = self.late
        if late is not None:
            late.pop(tag, None)
            if not late:
                self.late = None

    def _take_over(self: Any, old: Any) -> Any:
        while True:
            try:
                self.update(list(old.items()))
                break
            except RuntimeError:  # a collection of garbage meanwhile has settled some
                continue
        self.spooled, self.strays, self.late = old.spooled, old.strays, old.late
        return self

    def forget_settled(self: Any, old: Any) -> None:
        """Forget what was settled in *old*, whose successor this is, before this took its place."""
        if len(old) != len(self):
            for tag in [tag for tag in list(self) if tag not in old]:
                self.pop(tag, None)

    def _forget_all(self: Any) -> None:
        self.late = None
        for spooled in list(self.spooled):
            spooled.clear()


class Unacked(_Settling, dict[int, Entry]):
    """delivery tag -> (consumer tag, when it came), oldest first; consumer tag '' for basic.get.

    What comes back from the spool may stand behind later deliveries that never were there.
    """

    __slots__ = ('late', 'spooled', 'strays')

    def __init__(self) -> None:
        super().__init__()
        self.spooled: Collection[TagRanges] = ()
        self.strays = False
        self.late = None

    def clear(self) -> None:
        super().clear()
        self._forget_all()

    @property
    def is_outgrown(self) -> bool:
        """Whether ``successor`` is better at ``settle`` with multiple."""
        return is_wide(self)

    def successor(self) -> Unacked | WideUnacked:
        """One with the same deliveries, to take the place of this one; ``forget_settled`` then makes it exact."""
        successor: WideUnacked = WideUnacked()._take_over(self)
        return successor


class WideUnacked(_Settling, OrderedDict[int, Entry]):
    """The same for more deliveries at once than a dict is good for."""

    __slots__ = ('late', 'spooled', 'strays')

    def __init__(self) -> None:
        super().__init__()
        self.spooled: Collection[TagRanges] = ()
        self.strays = False
        self.late = None

    def clear(self) -> None:
        super().clear()
        self._forget_all()

    @property
    def is_outgrown(self) -> bool:
        return len(self) == 0

    def successor(self) -> Unacked | WideUnacked:
        successor: Unacked = Unacked()._take_over(self)
        return successor
