"""Waiting of many greenlets: for a condition (Gate), or for something that happens once (Event).

Layer 2. Only ``wait`` and ``wait_by`` switch greenlets; waking does not. A greenlet that is killed or times out
while it waits leaves nothing behind, as with a Slot. Does not belong here: what they wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType

from .waiting import Batch, Slot
from .yielding import AT_ONCE, in_turns

__all__ = ('Event', 'Gate', 'wait_at_both')


class Gate:
    """Greenlets wait here, in order, until another one wakes them.

    The gate does not know the condition: a greenlet that wakes up must check it again.
    woken: how many greenlets have been woken and have not run yet.
    """

    __slots__ = ('_green', '_waiters', 'woken')

    batch: Batch | None = None  # of the slots where they wait

    def __init__(self, green: ModuleType) -> None:
        self._green = green
        self._waiters: deque[Slot] = deque()
        self.woken = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for ``wake`` or ``wake_all``, at most *timeout* seconds. Returns whether woken.

        If a greenlet is killed, or gets another exception, after ``wake`` has chosen it and before it
        runs, the next one is woken instead. Switches greenlets.
        """
        return self.wait_by(Slot.wait, timeout)

    def wait_by(self, way: Callable[[Slot, float | None], bool], timeout: float | None) -> bool:
        """``wait`` by another method: ``way(slot, timeout)`` must wait, and return whether the slot is settled."""
        slot = Slot(self._green)
        slot.batch = self.batch
        waiters = self._waiters  # a local name, since wake_each may replace the attribute while this greenlet waits
        waiters.append(slot)
        try:
            return way(slot, timeout)
        except BaseException:
            if slot.done:
                self.wake()
            raise
        finally:
            if slot.done:
                self.woken -= 1
            else:
                waiters.remove(slot)

    def wake(self, count: int = 1) -> None:
        """Wake the *count* greenlets that have waited longest. Does not switch."""
        while count > 0 and self._waiters:
            self._waiters.popleft().succeed()
            self.woken += 1
            count -= 1

    def wake_all(self) -> None:
        """Wake all that wait now; if there are thousands, in several passes of the hub. Does not switch."""
        if len(self._waiters) <= AT_ONCE:
            self.wake(len(self._waiters))
        else:
            in_turns(self._green, self.wake_each())

    def wake_each(self) -> Iterator[None]:
        """``wake_all`` in steps. A greenlet that begins to wait before the last step is not woken by it."""
        waiters, self._waiters = self._waiters, deque()
        return self._wake_each(waiters)

    def _wake_each(self, waiters: deque[Slot]) -> Iterator[None]:
        while waiters:
            waiters.popleft().succeed()
            self.woken += 1
            yield


class Event(Gate):
    """Many greenlets wait for something that happens once. batch: of the reader that calls ``set``, else None."""

    __slots__ = ('batch', 'done')

    def __init__(self, green: ModuleType, batch: Batch | None = None) -> None:
        super().__init__(green)
        self.batch = batch
        self.done = False

    def set(self) -> None:
        """It has happened: wake all that wait. Does not switch."""
        self.done = True
        self.wake_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, at most *timeout* seconds. Returns whether it has. Switches greenlets."""
        if not self.done and (timeout is None or timeout > 0):
            super().wait(timeout)
        return self.done


def wait_at_both(first: Gate, second: Gate, timeout: float | None) -> None:
    """Wait until somebody is woken at either gate, at most *timeout* seconds. Switches greenlets.

    Whoever waits longest at a gate that has woken the caller is woken too: the caller need not come for what is there.
    """
    slot = Slot(first._green)
    places = [(gate, gate._waiters) for gate in (first, second)]  # wake_each may replace the attribute meanwhile
    for _, waiters in places:
        waiters.append(slot)
    try:
        slot.wait(timeout)
    finally:
        for gate, waiters in places:
            if slot in waiters:
                waiters.remove(slot)
            else:
                gate.woken -= 1
                gate.wake()
