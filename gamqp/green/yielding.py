"""Long loops in parts, so that a loop over many items does not block the hub.

Layer 2. Code that cannot switch greenlets (the reader, the end of a connection) does the first part of a long loop at
once and the rest in later passes of the hub, with ``in_turns``. A greenlet of the program lets the hub run between
the parts, with ``with_turns``. Does not belong here: what is done with the items.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import Any

from . import waiting

__all__ = ('AT_ONCE', 'TICK', 'in_turns', 'with_turns')

# So many items are handled before the hub runs.
AT_ONCE = 1000

# Seconds of the pause in which the hub runs. With 0 the hub may do all parts in one pass, without looking at sockets.
TICK = 0.000001


def in_turns(backend: ModuleType, work: Iterator[Any]) -> None:
    """Do the first 1000 steps of *work* now, and the others in later passes of the hub. Does not switch.

    work: each of its steps handles one item; it must neither switch greenlets nor raise.
    While a fork wakes no greenlets (``waiting.waking_nobody``) all steps are done now.
    """
    if not waiting.wakes():
        for _ in work:
            pass
    elif sum(1 for _ in islice(work, AT_ONCE)) == AT_ONCE:
        _Turn(backend, work)


def with_turns(backend: ModuleType, items: Iterable[Any]) -> Iterator[Any]:
    """The same items, for a loop in a greenlet of the program. Switches greenlets after every 1000 items."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % AT_ONCE:
            backend.sleep(TICK)


class _Turn:
    """The remaining steps of a long loop, to be done in later passes of the hub."""

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
