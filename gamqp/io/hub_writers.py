"""The open writers of one hub, as the sending thread sees them: is the hub held up, and who holds something then.

Layer 2. While the hub runs it sends everything itself, at the end of each pass, so the thread looks at one
number and not at each connection. Only when that number stands still does it look at the writers.
Does not belong here: sending; that is ``WriterThreadSide``.
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

    __slots__ = ('__weakref__', '_idle_looks', '_listed', '_resting', '_seen', '_writers', 'helped', 'turns')

    def __init__(self) -> None:
        self._writers: dict[int, weakref.ref[Any]] = {}
        self.turns = 0
        self._seen = 0  # turns, when the thread looked
        self._idle_looks = 0
        self._listed = False  # the thread has it on its list
        self._resting = False  # and comes only now and then, since nobody has room
        self.helped = False

    def add(self, writer: Any) -> None:
        self._writers[id(writer)] = weakref.ref(writer)

    def discard(self, writer: Any) -> None:
        self._writers.pop(id(writer), None)

    def forget(self) -> None:
        """In a forked child: the writers are its parent's, and so is the thread."""
        self._writers.clear()
        self.helped = self._listed = self._resting = False

    def begin_help(self, has_room: bool = True) -> None:
        """One of them holds something: have the thread look. Raises RuntimeError when no thread can be started.

        has_room: whether the kernel takes something, as far as is known; else it is not in a hurry.
        """
        self._idle_looks = 0
        if self._listed:
            self.helped = self.helped or has_room  # before the next line: the thread sets them in the other order
            if not (self._resting and has_room):
                return
        try:
            # First: the thread may look, find nothing more and go before this one comes to its next line.
            self.helped = self._listed = True
            self._resting = False
            self._seen = self.turns
            send_thread.hold(self)
        except BaseException:
            self.helped = self._listed = False
            raise

    # -- in the thread ------------------------------------------------------------

    def help(self, now: float) -> float | None:
        """Where the hub is held up, send what waits. Returns seconds until the next look, None when it is needless."""
        if self.turns != self._seen:
            self._seen = self.turns
            self._idle_looks = 0
            self._resting = False
            return LOOK
        pause = self._help_all(now)
        if pause is not None:
            self._idle_looks = 0
            if pause > LOOK:
                # Those that wait have no room. Who has some asks for the thread again, if it can see this;
                # who could not yet is seen by another look.
                self._resting = True
                self.helped = False
                pause = self._help_all(now) or LOOK
            self._resting = pause > LOOK
            return pause
        self._idle_looks += 1
        return LOOK if self._idle_looks < IDLE_LOOKS or not self.let_go() else None

    def _help_all(self, now: float) -> float | None:
        return min((pause for writer in self._holders() if (pause := writer.help(now)) is not None), default=None)

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
