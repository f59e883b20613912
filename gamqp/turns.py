"""Long walks in short steps: no walk over many items keeps the hub from everybody else.

Layer 3. What cannot switch greenlets (the reader, the end of a connection) does a part of a long
walk at once and the rest in later passes of the hub, see ``green.turns``. A greenlet of the program lets the hub run
between the parts instead. Does not belong here: what is done with the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from .green.turns import AT_ONCE, TICK, in_turns

__all__ = ('AT_ONCE', 'TICK', 'in_turns', 'with_turns')


def with_turns(backend: ModuleType, items: Iterable[Any]) -> Iterator[Any]:
    """The same items, for a loop in a greenlet of the program. Switches greenlets after each 1000."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % AT_ONCE:
            backend.sleep(TICK)
