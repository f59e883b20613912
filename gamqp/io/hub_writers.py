"""The open writers of one hub, as the sending thread sees them: is the hub held up, and who holds something then.

Layer 2. While the hub runs it sends everything itself, at the end of each pass, so the thread looks at one
number and not at each connection. Only when that number stands still does it look at the writers.
Does not belong here: sending; that is ``ThreadSide``.
"""

from __future__ import annotations

import weakref
from typing import Any

from .send_thread import LOOK, send_thread

__all__ = ('HubWriters', 'forget_all', 'writers_of')

# Looks of the thread that find nothing before it stays away: waking it costs a system call.
IDLE_LOOKS = 20


class HubWriters:
    """turns: ends of passes of the hub that its writers have seen. helped: the thread looks here."""

    __slots__ = ('__weakref__', '_idle_looks', '_listed', '_seen', '_writers', 'helped', 'turns')

    def __init__(self) -> None:
        self._writers: dict[int, weakref.ref[Any]] = {}
        self.turns = 0
        self._seen = 0  # turns, when the thread looked
        self._idle_looks = 0
        self._listed = False  # the thread has it on its list
        self.helped = False

    def add(self, writer: Any) -> None:
        self._writers[id(writer)] = weakref.ref(writer)

    def discard(self, writer: Any) -> None:
        self._writers.pop(id(writer), None)

    def forget(self) -> None:
        """In a forked child: the writers are its parent's, and so is the thread."""
        self._writers.clear()
        self.helped = self._listed = False

    def begin_help(self) -> None:
        """One of them holds something: have the thread look. Raises RuntimeError when no thread can be started."""
        self._idle_looks = 0
        if not self._listed:
            send_thread.hold(self)
            self._listed = True
            self._seen = self.turns
        self.helped = True

    # -- in the thread ------------------------------------------------------------

    def help(self, now: float) -> float | None:
        """Where the hub is held up, send what waits. Returns seconds until the next look, None when it is needless."""
        if self.turns != self._seen:
            self._seen = self.turns
            self._idle_looks = 0
            return LOOK
        pauses = [pause for writer in self._holders() if (pause := writer.help(now)) is not None]
        if pauses:
            self._idle_looks = 0
            return float(min(pauses))
        self._idle_looks += 1
        return LOOK if self._idle_looks < IDLE_LOOKS or not self.let_go() else None

    def let_go(self) -> bool:
        """The thread goes: have it called again when there is something. False: there is now."""
        self.helped = self._listed = False
        if any(writer.has_unsent for writer in self._holders()):  # who has sent in between believed the thread here
            self.helped = self._listed = True
        return not self._listed

    def _holders(self) -> list[Any]:
        """Those that may hold something."""
        holders = []
        for key, ref in list(self._writers.items()):
            writer = ref()
            if writer is None:
                self._writers.pop(key, None)
            elif writer.may_hold:
                holders.append(writer)
        return holders


# id of a hub -> its writers, which hold this.
_all: weakref.WeakValueDictionary[int, HubWriters] = weakref.WeakValueDictionary()


def writers_of(hub: Any) -> HubWriters:
    """The running thread's hub is *hub*."""
    writers = _all.get(id(hub))
    if writers is None:
        writers = _all[id(hub)] = HubWriters()
    return writers


def forget_all() -> None:
    for writers in list(_all.values()):
        writers.forget()
