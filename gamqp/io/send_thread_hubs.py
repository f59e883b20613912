"""The open writers of one hub: tells the sending thread whether the hub is blocked, and which writers have bytes.

Layer 2. While the hub runs it sends everything itself, at the end of each of its passes, and counts the passes.
So the sending thread compares one number and need not look at each writer. Only when the number has not
changed since the last look does the thread look at the writers. Does not belong here: sending; that is
``SendThreadWriter``.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .send_thread import LOOK, send_thread

if TYPE_CHECKING:
    from .send_thread_writer import SendThreadWriter

__all__ = ('HubWriters', 'forget_all', 'writers_of')

# After so many looks that find nothing to send, the thread stops looking at this hub. Not after the first:
# waking the thread again costs a system call.
IDLE_LOOKS = 20


class HubWriters:
    """turns: how many passes of the hub have ended, as counted by its writers.

    helped: the sending thread looks at these writers, so a writer that queues bytes need not ask for it.
    """

    __slots__ = ('__weakref__', '_idle_looks', '_listed', '_resting', '_seen', '_writers', 'helped', 'turns')

    def __init__(self) -> None:
        self._writers: dict[int, weakref.ref[SendThreadWriter]] = {}
        self.turns = 0
        self._seen = 0  # what turns was when the thread looked last
        self._idle_looks = 0
        self._listed = False  # the thread has this hub on its list
        self._resting = False  # the thread looks rarely, since no kernel buffer of these writers has room
        self.helped = False

    def add(self, writer: SendThreadWriter) -> None:
        self._writers[id(writer)] = weakref.ref(writer)

    def discard(self, writer: SendThreadWriter) -> None:
        self._writers.pop(id(writer), None)

    def forget(self) -> None:
        """In a forked child: forget the writers, which are the parent's. The thread does not exist in the child."""
        self._writers.clear()
        self.helped = self._listed = self._resting = False

    def begin_help(self, has_room: bool = True) -> None:
        """A writer has bytes that it did not send: have the thread look. Does not switch.

        has_room: whether the kernel would take bytes, as far as is known. If not, the thread may look rarely.
        Raises RuntimeError when no thread can be started.
        """
        self._idle_looks = 0
        if self._listed:
            # Before _resting is read: the thread sets _resting first and helped second, so it cannot be missed.
            self.helped = self.helped or has_room
            if not (self._resting and has_room):
                return
        try:
            # Before the thread is asked: it may look, find nothing and clear these flags before hold() returns.
            self.helped = self._listed = True
            self._resting = False
            self._seen = self.turns
            send_thread.hold(self)
        except BaseException:
            self.helped = self._listed = False
            raise

    # -- in the thread ------------------------------------------------------------

    def help(self, now: float) -> float | None:
        """If the hub is blocked, send what waits. Returns seconds until the next look, None when none is needed."""
        if self.turns != self._seen:  # the hub has run since the last look, and sends by itself
            self._seen = self.turns
            self._idle_looks = 0
            self._resting = False
            return LOOK
        pause = self._help_all(now)
        if pause is not None:
            self._idle_looks = 0
            if pause > LOOK:
                # No writer has room in the kernel. A writer that gets room from now on sees helped == False and
                # calls begin_help. One that got it just before did not see that, so look once more.
                self._resting = True
                self.helped = False
                pause = self._help_all(now) or LOOK
            self._resting = pause > LOOK
            return pause
        # Nothing waits. Look some more times before the thread stops looking here.
        self._idle_looks += 1
        return LOOK if self._idle_looks < IDLE_LOOKS or not self.let_go() else None

    def _help_all(self, now: float) -> float | None:
        return min((pause for writer in self._holders() if (pause := writer.help(now)) is not None), default=None)

    def let_go(self) -> bool:
        """The thread wants to stop looking here. Returns False when there is something to send after all."""
        self.helped = self._listed = False
        # A writer that queued bytes just before saw helped == True, and did not ask for the thread.
        if any(writer.has_unsent for writer in self._holders()):
            self.helped = self._listed = True
        return not self._listed

    def _holders(self) -> list[SendThreadWriter]:
        """The writers that may have bytes to send."""
        holders = []
        for key, ref in list(self._writers.items()):
            writer = ref()
            if writer is None:
                self._writers.pop(key, None)
            elif writer.may_hold:
                holders.append(writer)
        return holders


# id of a hub -> the object for its writers. The writers hold it.
_all: weakref.WeakValueDictionary[int, HubWriters] = weakref.WeakValueDictionary()


def writers_of(hub: Any) -> HubWriters:
    """The object for the writers of *hub*, which must be the running thread's hub."""
    writers = _all.get(id(hub))
    if writers is None:
        writers = _all[id(hub)] = HubWriters()
    return writers


def forget_all() -> None:
    """In a forked child: no writer of any hub is to be looked at."""
    for writers in list(_all.values()):
        writers.forget()
