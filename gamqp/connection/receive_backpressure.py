"""When the reader stops because too much has arrived that was not handed out, and what goes to disk instead.

Layer 4. When the budget is spent the reader stops, unless a call waits for a reply: that may stand behind
megabytes of deliveries, which then go to a temporary file (``Overflow``). Whoever hands out messages calls
``freed`` while memory is ``crowded``. Does not belong here: the arithmetic (``state.receive_budget``), and files.
"""

from __future__ import annotations

import time
import weakref
from types import ModuleType
from typing import Any

from ..consuming.overflow import Overflow
from ..state.receive_budget import ReceiveBudget
from . import undelivered_warning
from .owner_protocols import ReadingOwner

__all__ = ('ReceiveBackpressure',)

# Seconds between two warnings that the budget is spent.
WARN_EVERY = 60.0


class ReceiveBackpressure:
    """Of one connection.

    owner: the connection; it is handed to Overflow and to the warning. Held weakly.
    budget: of the present socket.
    overflow: the messages that are on disk; None where there are none.
    crowded: whether reading has stopped, or messages are on disk.
    spool_failed: whether messages could not be written to disk; said once.
    waits: how many greenlets wait for a reply or a confirm. As long as there is one the reader never stops.
    """

    __slots__ = ('_green', '_owner', '_warn_at', 'budget', 'crowded', 'link', 'overflow', 'spool_failed', 'waits')

    def __init__(self, owner: ReadingOwner, budget: ReceiveBudget) -> None:
        self._owner = weakref.ref(owner)
        self._green: Any = None
        # Set by Dispatch._use_link; of the last socket after its end, so that a late freed() still finds one.
        self.link: Any = None
        self.budget = budget
        # Made by the reader, and set back to None by Overflow.close, when nothing is on disk or the connection ends.
        # Code that waits or may run the garbage collector compares it again afterwards.
        self.overflow: Overflow | None = None
        # True from the moment in which the reader stops or the disk is used, until half of the budget is free and
        # nothing is on disk. Only then whoever hands out a message has to call freed(); otherwise a message costs one
        # comparison.
        self.crowded = False
        # Never set back: a full disk would be logged for each batch.
        self.spool_failed = False
        self.waits = 0
        self._warn_at = 0.0

    def begin(self, backend: ModuleType) -> None:
        """For a new socket, whose ``link`` is set as soon as there is one."""
        self._green = backend
        # waits is not set back: greenlets that waited on the old socket subtract themselves when they wake. overflow
        # is None already.
        self.link = None
        self.crowded = False

    def begin_budget(self) -> None:
        """The connection has ended.

        Messages that came with no_ack may still be handed out. They are subtracted from the budget that they were
        added to, which is the old one.
        """
        self.budget = ReceiveBudget(self.budget.max_messages, self.budget.max_bytes)

    # -- reading ----------------------------------------------------------------------

    def wait_begins(self) -> None:
        """A greenlet waits for a reply: read on, even if the budget is spent. Does not switch."""
        # A number and not a flag: many greenlets wait at the same time.
        self.waits += 1
        # The reply may stand behind what the stopped reader has not read.
        if not self.link.listening:
            self.link.resume()

    def wait_ends(self) -> None:
        """The greenlet waits no more. Does not switch."""
        # The reader is not stopped from here: it asks must_pause before its next read.
        self.waits -= 1

    def must_pause(self) -> bool:
        """Whether the reader has to stop until there is room. Does not switch."""
        # Asked before each read, and again when the socket is readable. As long as messages are on disk the reader
        # stops, too: they are to be handed out before newer ones come in.
        if self.waits or not (self.budget.spent or self.overflow is not None):
            return False
        # Set in the same step in which the reader decides to stop. Else the last message could be handed out in
        # between, and nobody would resume it.
        self.crowded = True
        now = time.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            # In a greenlet of its own: it is the reader that asks, and a log handler may wait.
            self._green.spawn(undelivered_warning.warn, self._owner())
        return True

    def overflow_if_due(self) -> Overflow | None:
        """Where the deliveries of the next batch go, None for memory. Does not switch."""
        # Beyond the limit by a quarter, usually because a call waits: without one the reader stops at the limit.
        budget = self.budget
        if self.overflow is None and budget.messages and budget.overspent:
            owner = self._owner()
            # Without spool the deliveries stay in memory, whatever the limits say.
            if owner is not None and owner.spool:
                # Both together: freed() brings the messages back, and is called only while crowded.
                self.crowded = True
                self.overflow = Overflow(owner)
        return self.overflow

    def freed(self) -> None:
        """There is more room: for what is on disk first, and for the socket when that is empty. Does not switch."""
        if self.budget.relaxed:
            # Disk before socket, or messages of one consumer would overtake each other.
            if self.overflow is not None:
                self.overflow.come_back()
            else:
                # resume() only settles a slot. The reader runs in a later pass, asks must_pause and may set crowded
                # again.
                self.crowded = False
                self.link.resume()
            owner = self._owner()
            if owner is not None:
                # The hub has to run now for the reader or the disk, also in a program that polls for events.
                owner._event_queue.show()
