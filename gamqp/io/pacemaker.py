"""The heartbeat thread: one thread of the operating system that beats for hubs that are held up.

Layer 2. One for the whole process, since it has next to nothing to do: it looks
when a hub should have sent something and has not, and otherwise sleeps. It is
there while somebody wants it, keeps neither the process nor a connection alive,
and never logs: a log handler is user code, and this is no thread of the user's.
What must not enter: what to do for a connection, that is ``SharedWriter.attend``.
"""

from __future__ import annotations

import time
import weakref
from typing import Any

from ..green import native

__all__ = ('Pacemaker', 'pacemaker')

# Seconds between two looks at least: after a fault of ours it must not sleep for good.
LONGEST = 60.0


class Pacemaker:
    """Attends to those that were added. They have ``attend(now)``, which returns seconds until the next look."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew; in a forked child the thread is gone, and perhaps held the lock."""
        # Reentrant, because an object that is collected in the middle of add may be one to discard.
        self._lock = native.RLock()
        self._wake = native.Lock()
        self._wake.acquire()
        self._members: dict[int, weakref.ref[Any]] = {}
        self.running = False

    def add(self, member: Any) -> None:
        """Attend to it from now on. Raises RuntimeError when no thread can be started. Does not switch."""
        with self._lock:
            self._members[id(member)] = weakref.ref(member)
            self._nudge()
            if not self.running:
                native.start_new_thread(self._run, (self._wake,))
                self.running = True

    def discard(self, member: Any) -> None:
        """Does not wait for a look that is under way. Does not switch."""
        with self._lock:
            if self._members.pop(id(member), None) is not None and not self._members:
                self._nudge()

    def _nudge(self) -> None:
        if self._wake.locked():
            self._wake.release()

    # -- in the thread -------------------------------------------------------------------

    def _run(self, wake: Any) -> None:
        while True:
            members = self._take_members()
            if members is None:
                return
            pause = LONGEST
            while members:
                pause = min(pause, self._look(members.pop()))
            wake.acquire(timeout=max(pause, 0.001))

    def _take_members(self) -> list[Any] | None:
        """Those that are alive; None, and nobody runs any more, when there are none."""
        with self._lock:
            for key, ref in list(self._members.items()):
                if ref() is None:
                    del self._members[key]
            if not self._members:
                self.running = False
                return None
            return [member for ref in self._members.values() if (member := ref()) is not None]

    def _look(self, member: Any) -> float:
        try:
            return float(member.attend(time.monotonic()))
        except Exception:
            # Nothing of one connection may end the service of the others.
            return LONGEST


pacemaker = Pacemaker()
