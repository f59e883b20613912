"""Long walks of the channels of a connection: each in turns of the hub, at its end all of them as one.

Layer 4. A connection that ends has several walks for each of its channels, and the first steps of a
walk are done at once. So at the end the walks are gathered first, and then done one after the other,
1000 steps in a turn of the hub. Does not belong here: what is done in a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ..green.yielding import in_turns

__all__ = ('WorkInTurns',)


class WorkInTurns:
    """Of one connection. A walk is an iterator whose steps neither switch greenlets nor raise."""

    __slots__ = ('_gathered', '_green')

    def __init__(self) -> None:
        self._green: Any = None
        # A list only between gather and start, which Dispatch._end_waits calls without a switch in between.
        self._gathered: list[Iterator[Any]] | None = None

    def begin(self, backend: ModuleType) -> None:
        """For a new socket."""
        self._green = backend

    def add(self, work: Iterator[Any]) -> None:
        """Do the first 1000 steps now and the rest in turns of the hub; all of it later, if walks are gathered."""
        # While it is None nothing ends, and the walks of different channels may go on side by side.
        if self._gathered is None:
            in_turns(self._green, work)
        else:
            # Without a first part done at once: a thousand channels with a thousand steps each would be a million.
            self._gathered.append(work)

    def gather(self) -> None:
        """What is added from now on waits for ``start``."""
        self._gathered = []

    def start(self) -> None:
        """Do what was gathered, in order, as one walk."""
        # None again before the first step: a step may add a walk of its own, which must not wait for another
        # start.
        works, self._gathered = self._gathered or [], None
        # One walk in all: the hub runs after every 1000 steps, however many channels have ended.
        in_turns(self._green, itertools.chain.from_iterable(works))
