"""Deliveries of one channel that the program has not settled yet.

State, no I/O. The broker keeps the same list. It closes a channel whose oldest delivery is
unsettled for too long, and does not say which one that was; from this list the error can.
Deliveries in the temporary file (the spool) may be millions: they are kept as ranges of tags.
Does not belong here: sending an ack (``channel``).
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
    """What Unacked and WideUnacked have in common."""

    __slots__ = ()

    spooled: Collection[TagRanges]  # an empty tuple, or a dict as an ordered set
    strays: bool  # a tag was settled that was not here: the broker will close the channel over it
    late: OrderedDict[int, None] | None  # tags that came back from the spool behind higher ones, in ascending order

    def __init__(self: Any) -> None:
        super().__init__()
        self.spooled = ()
        self.strays = False
        self.late = None

    def __bool__(self: Any) -> bool:
        return len(self) > 0 or any(list(self.spooled))

    @property
    def total(self: Any) -> int:
        """How many deliveries are unsettled, those in the spool included."""
        return len(self) + sum(map(len, list(self.spooled)))

    def add_spooled(self: Any, tags: TagRanges) -> None:
        """Deliveries with these tags are in the spool. The caller may add more tags to *tags* later."""
        if not self.spooled:
            # Made when needed: most channels never have anything on disk.
            self.spooled = {}
        self.spooled[tags] = None

    def forget_spooled(self: Any, tags: TagRanges) -> None:
        """No delivery of *tags* is in the spool any more."""
        if tags in self.spooled:
            del self.spooled[tags]

    def drop_spooled(self: Any) -> None:
        """Count none of the deliveries in the spool any more: the broker has taken them back."""
        self.spooled = ()

    def come_back(self: Any, tag: int, entry: Entry) -> None:
        """Add a delivery that was in the spool. Those of one consumer come back in the order of their tags."""
        # The order of the dict is the order of arrival. What comes back from disk stands behind newer
        # deliveries, so it is listed by itself.
        if self.late is not None or tag < next(reversed(self), 0):
            if self.late is None:
                self.late = OrderedDict()
            self.late[tag] = None
        self[tag] = entry

    def settle(self: Any, tag: int, multiple: bool) -> int:
        """An ack, nack or reject was sent. Returns how many deliveries it settled; tag 0 with multiple is all.

        It takes time for each delivery that it settles, not for the others.
        """
        if not multiple:
            if self.late is not None:
                self._no_longer_late(tag)
            # The broker will answer this with an error, perhaps after another call. Whoever hands a
            # channel on has to wait for that.
            if self.pop(tag, None) is None:
                self.strays = True
                return 0
            return 1
        if tag == 0:
            count: int = self.total
            self.clear()
            return count
        # The garbage collector may run in this loop and settle others, so each tag is looked up again.
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
        """The tags in memory that an ack of *tag* with multiple settles. A tag may be in the list twice."""
        if tag == 0:
            return list(self)
        tags, late = up_to(self, tag), self.late
        if late is not None:
            # up_to stops at the first tag that is higher. Behind that there may be late ones, which are lower.
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
            except RuntimeError:  # the garbage collector has run and settled some: the dict has changed its size
                continue
        self.spooled, self.strays, self.late = old.spooled, old.strays, old.late
        return self

    def forget_settled(self: Any, old: Any) -> None:
        """Remove the tags that were settled in *old* while they were copied here."""
        if len(old) != len(self):
            for tag in [tag for tag in list(self) if tag not in old]:
                self.pop(tag, None)

    def clear(self: Any) -> None:
        super().clear()  # type: ignore[misc]  # of the dict that each class is
        self.late = None
        for spooled in list(self.spooled):
            spooled.clear()


class Unacked(_Settling, dict[int, Entry]):
    """delivery tag -> (consumer tag, when it came), oldest first; consumer tag '' for basic.get.

    One that comes back from the spool is added behind later deliveries that were never in the spool: it is *late*.
    """

    __slots__ = ('late', 'spooled', 'strays')

    @property
    def is_outgrown(self) -> bool:
        """Whether it is so large that ``settle`` with multiple is faster on its ``successor``."""
        return is_wide(self)

    def successor(self) -> Unacked | WideUnacked:
        """A copy of the other class that replaces this one. The caller then calls its ``forget_settled``."""
        successor: WideUnacked = WideUnacked()._take_over(self)
        return successor


class WideUnacked(_Settling, OrderedDict[int, Entry]):
    """The same for thousands of deliveries: an OrderedDict, for the reason that ``tag_order`` gives."""

    __slots__ = ('late', 'spooled', 'strays')

    @property
    def is_outgrown(self) -> bool:
        return len(self) == 0

    def successor(self) -> Unacked | WideUnacked:
        successor: Unacked = Unacked()._take_over(self)
        return successor
