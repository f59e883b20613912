"""One step of a TLS handshake at a time, and a turn of the hub between two of them.

Layer 2. A step computes for about a millisecond. When many servers answer at the same
moment, the steps would otherwise follow each other in one pass of the hub, and nobody else
would run for as long as they take together. Does not belong here: TLS.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .. import green
from ..green import os_threads

__all__ = ('TLSHandshakeQueue', 'turns_of_this_thread')

# Seconds to let the hub run for: a sleep of 0 may not make it ask for sockets.
TICK = 0.000001


class TLSHandshakeQueue:
    """For the handshakes of one hub."""

    def __init__(self, backend: ModuleType) -> None:
        self.hub = backend.hub()
        self._green = backend
        self._gate = green.Gate(backend)
        self._taken = False  # a step was made, and the hub has not had its turn yet

    def take(self, deadline: green.Deadline) -> bool:
        """Wait for this hub's next turn. Returns whether it came within *deadline*. Switches where one is taken."""
        while self._taken:
            if not self._gate.wait(deadline.left()):
                return False
        self._taken = True
        self._green.call_later(TICK, self._free)
        return True

    def _free(self) -> None:
        self._taken = False
        self._gate.wake()


_here = os_threads.local()


def turns_of_this_thread(backend: ModuleType) -> TLSHandshakeQueue:
    turns: Any = getattr(_here, 'turns', None)
    if turns is None or turns.hub is not backend.hub():
        turns = _here.turns = TLSHandshakeQueue(backend)
    return turns  # type: ignore[no-any-return]
