"""Lets the hub run between the steps of TLS handshakes.

Layer 2. A step computes for about a millisecond. When many connections open at the same time, their steps would
otherwise run one after the other in one pass of the hub, and other greenlets would have to wait for all
of them. Does not belong here: TLS.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .. import green
from ..green import os_threads

__all__ = ('TLSHandshakeQueue', 'queue_of_this_thread')

# Seconds of a pause that lets the hub run. A pause of 0 may not make the hub ask the system for ready sockets.
TICK = 0.000001


class TLSHandshakeQueue:
    """The handshakes of one hub wait here for their turns."""

    def __init__(self, backend: ModuleType) -> None:
        self.hub = backend.hub()
        self._green = backend
        self._gate = green.Gate(backend)
        self._taken = False  # a step was made, and the hub has not run since

    def take(self, deadline: green.Deadline) -> bool:
        """Wait until no other step was made in this pass of the hub. False when *deadline* has passed. May switch."""
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


def queue_of_this_thread(backend: ModuleType) -> TLSHandshakeQueue:
    """The queue of the running thread's hub."""
    turns: Any = getattr(_here, 'turns', None)
    if turns is None or turns.hub is not backend.hub():
        turns = _here.turns = TLSHandshakeQueue(backend)
    return turns  # type: ignore[no-any-return]
