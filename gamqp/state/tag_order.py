"""Entries by delivery tag, in ascending order: all up to one of them, without a walk over those that have gone.

State, no I/O. A dict leaves a hole where an entry was, and whoever looks for its first
entry walks over the holes before it. They are no more than a few times what it has held
at once, which is nothing while that is little. A wide one is made an OrderedDict, which
has no holes; it costs more per entry, so only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, takewhile
from typing import Any

__all__ = ('first', 'is_wide', 'up_to')

# Bytes of a dict with room for some 5,500 entries: a walk over as many holes takes a few microseconds.
WIDE = 200_000


def is_wide(entries: Any) -> bool:
    """Whether this dict has room for so many entries that a walk over their holes costs something."""
    return bool(entries.__sizeof__() > WIDE)


def first(entries: Mapping[int, Any]) -> int:
    """The lowest tag, 0 when there is none."""
    while True:
        try:
            return next(iter(entries), 0)
        except RuntimeError:  # a collection of garbage between the two steps has settled some
            continue


def up_to(entries: Mapping[int, Any], tag: int, most: int | None = None) -> list[int]:
    """The tags up to and with *tag*, the lowest *most* of them (None: all)."""
    while True:
        try:
            return list(islice(takewhile(tag.__ge__, entries), most))
        except RuntimeError:  # as above
            continue
