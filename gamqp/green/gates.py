"""Waiting: many greenlets for one condition (Gate) or event (Event).

Only ``wait`` switches greenlets; waking never does. A greenlet that is killed or timed out while
it waits leaves nothing behind, as with a Slot. What must not enter: what they wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType

from .waiting import Slot
from .yielding import AT_ONCE, in_turns

__all__ = ('Event', 'Gate')


class Gate:
    """Many greenlets wait, in order, for something that others announce.

    Says nothing about what the condition is: whoever wakes up looks again.
    woken: greenlets that have been woken and have not run yet.
    """

    __slots__ = ('_green', '_waiters', 'woken')

    def __init__(self, green: ModuleType) -> None:
        self._green = green
        self._waiters: deque[Slot] = deque()
        self.woken = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for ``wake`` or ``wake_all``, at most *timeout* seconds. Returns whether woken.

        A greenlet that was chosen by ``wake`` and interrupted before it ran
        passes the wake-up on to the next one. Switches greenlets.
        """
        return self.wait_by(Slot.wait, timeout)

    def wait_by(self, way: Callable[[Slot, float | None], bool], timeout: float | None) -> bool:
        """``wait``, where *way* waits: called with a slot and the timeout, it returns whether the slot is settled."""
        slot = Slot(self._green)
        waiters = self._waiters  # which wake_each may replace meanwhile
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
        """Wake all that wait now, where they are thousands in turns of the hub. Does not switch."""
        if len(self._waiters) <= AT_ONCE:
            self.wake(len(self._waiters))
        else:
            in_turns(self._green, self.wake_each())

    def wake_each(self) -> Iterator[None]:
        """``wake_all`` in steps: who begins to wait before the last of them waits for another wake-up."""
        waiters, self._waiters = self._waiters, deque()
        return self._wake_each(waiters)

    def _wake_each(self, waiters: deque[Slot]) -> Iterator[None]:
        while waiters:
            waiters.popleft().succeed()
            self.woken += 1
            yield


class Event(Gate):
    """Many greenlets wait for something that happens once."""

    __slots__ = ('done',)

    def __init__(self, green: ModuleType) -> None:
        super().__init__(green)
        self.done = False

    def set(self) -> None:
        self.done = True
        self.wake_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, at most *timeout* seconds. Returns whether it has. Switches greenlets."""
        if not self.done and (timeout is None or timeout > 0):
            super().wait(timeout)
        return self.done
