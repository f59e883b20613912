"""Long walks in short steps: no walk over many items keeps the hub from everybody else.

Layer 2. What cannot switch greenlets (the reader, the end of a connection) does a part of a long walk at once and
the rest in later passes of the hub. A greenlet of the program lets the hub run between the parts instead. Does not
belong here: what is done with the items.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import Any

from . import waiting

__all__ = ('AT_ONCE', 'TICK', 'in_turns', 'with_turns')

# Items that are looked at before the hub has its turn.
AT_ONCE = 1000

# Seconds for the hub. With 0 it may do all that is due in one pass, and ask for no socket between.
TICK = 0.000001


def in_turns(backend: ModuleType, work: Iterator[Any]) -> None:
    """Do the first 1000 steps of *work* now, and the others in later passes of the hub. Does not switch.

    work: each of its steps is for one item, and neither switches greenlets nor raises.
    A forked child does all of it at once, and wakes nobody: who waits there are its parent's greenlets.
    """
    if not waiting.wakes():
        for _ in work:
            pass
    elif sum(1 for _ in islice(work, AT_ONCE)) == AT_ONCE:
        _Turn(backend, work)


def with_turns(backend: ModuleType, items: Iterable[Any]) -> Iterator[Any]:
    """The same items, for a loop in a greenlet of the program. Switches greenlets after each 1000."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % AT_ONCE:
            backend.sleep(TICK)


class _Turn:
    """The next steps of a long walk, to be done when the hub has had its turn."""

    __slots__ = ('_backend', '_process', '_timer', '_work')

    def __init__(self, backend: ModuleType, work: Iterator[Any]) -> None:
        self._backend = backend
        self._work = work
        self._process = os.getpid()
        self._timer = backend.call_later(TICK, self._go_on)

    def _go_on(self) -> None:
        self._timer.cancel()
        if os.getpid() == self._process:
            in_turns(self._backend, self._work)
        else:
            with waiting.waking_nobody():
                in_turns(self._backend, self._work)
