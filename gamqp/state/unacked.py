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

__all__ = ('NEVER', 'Unacked', 'WideUnacked')

#: ``settled_to`` of a channel whose acks are never combined: above every tag.
NEVER = float('inf')

# Consumer tag, and the time.monotonic() at which the delivery arrived.
Entry = tuple[str, float]


class _Settling:
    """What Unacked and WideUnacked have in common."""

    # Empty, because Python combines a base class with slots of its own with neither dict nor OrderedDict. Each class
    # below has the same five slots.
    __slots__ = ()

    # The TagRanges are shared with the overflow, which adds tags and takes them out.
    spooled: Collection[TagRanges]  # an empty tuple, or a dict as an ordered set
    strays: bool  # a tag was settled that was not here: the broker will close the channel over it
    # Each late tag is a key of the dict, too. It leaves both when it is settled.
    late: OrderedDict[int, None] | None  # tags that came back from the spool behind higher ones, in ascending order
    # All tags up to this one are settled, by frames that were queued before ``last_ack``. It may be lower than it could
    # be. NEVER: the broker may have deliveries unacked that are not listed here.
    settled_to: float
    last_ack: bytes | None  # the frame that acked *settled_to*, and no tag that was not acked

    def __init__(self: Any) -> None:
        super().__init__()
        self.spooled = ()
        self.strays = False
        self.late = None
        self.settled_to = 0
        self.last_ack = None

    def __bool__(self: Any) -> bool:
        # A copy here and below: the garbage collector may end a consumer during the loop, which removes its TagRanges.
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
        # By identity, as TagRanges define no equality.
        self.spooled[tags] = None

    def forget_spooled(self: Any, tags: TagRanges) -> None:
        """No delivery of *tags* is in the spool any more."""
        # drop_spooled() may have come first.
        if tags in self.spooled:
            del self.spooled[tags]

    def drop_spooled(self: Any) -> None:
        """Count none of the deliveries in the spool any more: the broker has taken them back."""
        self.spooled = ()

    def come_back(self: Any, tag: int, entry: Entry) -> None:
        """Add a delivery that was in the spool. Those of one consumer come back in the order of their tags."""
        # The order of the dict is the order of arrival. What comes back from disk stands behind newer
        # deliveries, so it is listed by itself.
        # While there are late tags, each one that comes back is listed: the last key of the dict may be a late one
        # itself, so a comparison with it proves nothing.
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
            # No strays: RabbitMQ accepts this also when nothing is unacked.
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
        # Settled here without being read back. The overflow finds the tag missing when the message comes from disk, and
        # does not hand it out.
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
        # While there are late tags the first key need not be the lowest.
        if late:
            lowest = min(lowest, first(late) or lowest)
        entry = self.get(lowest)
        # None also if the garbage collector has settled that delivery since the lines above.
        return None if entry is None else (lowest, *entry)

    def latest(self: Any) -> int:
        """The highest tag, 0 if there is none."""
        # With late tags the last key need not be the highest, so all keys are compared.
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
        # The same objects, not copies: the overflow holds the TagRanges.
        self.spooled, self.strays, self.late = old.spooled, old.strays, old.late
        self.settled_to, self.last_ack = old.settled_to, old.last_ack
        return self

    def is_lowest(self: Any, tag: int) -> bool:
        """Whether all tags below this one, which is here, are known to be settled.

        It may walk over the places of thousands of tags, so it is not to be asked for each.
        """
        if self.settled_to == NEVER or self.late is not None or self.spooled or is_wide(self):
            return False
        return bool(first(self) == tag)

    def never_combine(self: Any) -> None:
        """No ack of this channel may stand for others from now on."""
        self.settled_to = NEVER
        self.last_ack = None

    def forget_settled(self: Any, old: Any) -> None:
        """Remove the tags that were settled in *old* while they were copied here."""
        # Nothing is added while it is copied, as no greenlet switches. So equal lengths mean that nothing was settled.
        if len(old) != len(self):
            for tag in [tag for tag in list(self) if tag not in old]:
                self.pop(tag, None)

    def clear(self: Any) -> None:
        # The TagRanges are emptied and not replaced, because the overflow holds them: it must find no tag there.
        super().clear()  # type: ignore[misc]  # of the dict that each class is
        self.late = None
        self.last_ack = None
        if self.settled_to != NEVER:
            self.settled_to = 0  # the tags may begin at 1 again
        for spooled in list(self.spooled):
            spooled.clear()


class Unacked(_Settling, dict[int, Entry]):
    """delivery tag -> (consumer tag, when it came), oldest first; consumer tag '' for basic.get.

    One that comes back from the spool is added behind later deliveries that were never in the spool: it is *late*.
    """

    __slots__ = ('last_ack', 'late', 'settled_to', 'spooled', 'strays')

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

    __slots__ = ('last_ack', 'late', 'settled_to', 'spooled', 'strays')

    @property
    def is_outgrown(self) -> bool:
        # Only when it is empty: the way back then copies nothing, and the class does not change back and forth while
        # the number of deliveries goes up and down.
        return len(self) == 0

    def successor(self) -> Unacked | WideUnacked:
        successor: Unacked = Unacked()._take_over(self)
        return successor
