"""Delivery tags in ascending order, kept as ranges.

State, no I/O. The tags of one consumer mostly follow one another. A range takes 16 bytes, whatever its length; where
several consumers of a channel get messages in turns, each turn is a range. Does not belong here: what has these tags.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator

__all__ = ('TagRanges',)

# Numbers in one array, two for each range. The memory of an array is freed when all its ranges are used up.
_CHUNK = 8192


class TagRanges:
    """Ascending tags: added at the end, taken from the front."""

    __slots__ = ('_count', '_ends', '_head', '_more')

    def __init__(self) -> None:
        # Unsigned 64 bits, as a delivery tag on the wire. An array holds plain numbers and no Python objects.
        self._ends = array('Q')  # first, last, first, last …
        # Always even. Ranges before it are used up.
        self._head = 0  # index of the first range in it
        self._more: deque[array[int]] | None = None  # further arrays; made when needed, which is seldom
        # The number of tags, not of ranges. With 0 the array is empty as well: _skip() clears it.
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        head = self._head
        # Only the first array has used-up ranges in front.
        for ends in (self._ends, *(self._more or ())):
            for at in range(head, len(ends), 2):
                yield from range(ends[at], ends[at + 1] + 1)
            head = 0

    @property
    def latest(self) -> int:
        """The highest, 0 if there is none."""
        ends = self._more[-1] if self._more else self._ends
        # The end of the last range, since tags are added in ascending order.
        return ends[-1] if self._count else 0

    def add(self, tag: int) -> None:
        """Add a tag, which must be higher than all others."""
        ends = self._more[-1] if self._more else self._ends
        # The usual case: one consumer gets one tag after the other, and its range only grows.
        if self._count and ends[-1] == tag - 1:
            ends[-1] = tag
        else:
            if len(ends) >= _CHUNK:
                ends = self._add_chunk()
            ends.append(tag)
            ends.append(tag)
        self._count += 1

    def pop(self) -> int:
        """Remove and return the lowest tag; there must be one."""
        ends, head = self._ends, self._head
        tag = ends[head]
        # The count first: _skip() goes by it.
        self._count -= 1
        if tag < ends[head + 1]:
            ends[head] = tag + 1
        else:
            self._skip()
        return tag

    def take(self, tag: int) -> bool:
        """Remove *tag* if it is the lowest. Returns whether it was."""
        if not self._count or self._ends[self._head] != tag:
            return False
        self.pop()
        return True

    def settle(self, tag: int) -> int:
        """Remove all tags up to *tag*, itself included. Returns how many there were."""
        before = self._count
        # A step for each range, not for each tag.
        while self._count and self._ends[self._head] <= tag:
            ends, head = self._ends, self._head
            first, last = ends[head], ends[head + 1]
            if tag < last:
                ends[head] = tag + 1
                self._count -= tag + 1 - first
                break
            self._count -= last + 1 - first
            self._skip()
        return before - self._count

    def clear(self) -> None:
        # The object stays the same one, since ``unacked`` and the overflow both hold it.
        self._ends = array('Q')
        self._more = None
        self._head = self._count = 0

    def _add_chunk(self) -> array[int]:
        if self._more is None:
            self._more = deque()
        self._more.append(array('Q'))
        return self._more[-1]

    def _skip(self) -> None:
        """Go to the next range: the first one is used up."""
        # The array is not moved: an index goes over it, and the memory is freed chunk by chunk.
        self._head += 2
        if not self._count:
            self.clear()
        elif self._head >= len(self._ends):
            assert self._more  # the count says that there are more
            self._ends, self._head = self._more.popleft(), 0
