"""Dicts by delivery tag, in ascending order: the first tag, and all tags up to a given one.

State, no I/O. Python's dict leaves a hole where an entry was removed. To find its first
entry it walks over the holes in front of it. There are at most a few times as many holes as the dict has held
entries at the same time; that costs nothing in a small dict. A large one is replaced by an
OrderedDict, which has no holes but takes more memory for each entry.
Does not belong here: what the entries are (``unacked``, ``confirm_matching``).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, takewhile
from typing import Any

__all__ = ('first', 'is_wide', 'up_to')

# Bytes of a dict with room for some 5,500 entries: a walk over as many holes takes a few microseconds.
WIDE = 200_000


def is_wide(entries: Any) -> bool:
    """Whether this dict is so large that walking over its holes takes a noticeable time."""
    # The size of the table, which does not become smaller when entries are removed. The number of entries would say
    # nothing about holes.
    return bool(entries.__sizeof__() > WIDE)


def first(entries: Mapping[int, Any]) -> int:
    """The lowest tag, 0 when there is none."""
    while True:
        try:
            # Delivery tags begin at 1, so 0 is none.
            return next(iter(entries), 0)
        except RuntimeError:  # the garbage collector has run in between and removed entries
            continue


def up_to(entries: Mapping[int, Any], tag: int, most: int | None = None) -> list[int]:
    """The tags up to *tag*, itself included; at most the *most* lowest of them (None: all)."""
    while True:
        try:
            # takewhile ends at the first higher tag: this takes time for the result, not for the dict. The method of
            # int is called without a Python function around it.
            return list(islice(takewhile(tag.__ge__, entries), most))
        except RuntimeError:  # as in first()
            continue
