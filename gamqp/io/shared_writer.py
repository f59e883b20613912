"""The writer of a connection with a heartbeat thread: that thread finishes what the hub began, and beats.

Layer 2. A heartbeat may stand between frames only. What the kernel has taken a
part of comes first, so while the hub is held up the thread sends the rest of it;
only then, or when nothing is in flight, may eight bytes of its own follow. Frames
that still wait in the queue are the hub's business.

The guard is held by whoever sends, from the first byte of a call to the note of
how many went. Between two sends it is free, and ``_head`` and ``unsent`` tell
whether the stream stands in the middle of a frame. The count of queued bytes is
the hub's alone: what the thread moves, the hub subtracts when it sends next.
"""

from __future__ import annotations

import time
from typing import Any

from ..wire import HEARTBEAT
from .pacemaker import pacemaker
from .writer import TURN, Writer

__all__ = ('SharedWriter',)

# Seconds until the thread comes again where the hub was just sending, or where the kernel has taken a part.
SOON = 0.01

# What a send that says nothing of bytes counts: about a chunk of TLS.
MOVED = 64 * 1024

_NOTHING = memoryview(b'')


class SharedWriter(Writer):
    """A Writer on a shared transport (``transport.shared``).

    hub_thread: alive (not None when called) as long as the hub's thread is. A hub
    that is gone for good must not look alive to the broker.
    """

    __slots__ = ('__weakref__', '_aside', '_finishing', '_moved', '_retired', 'hub_thread', 'hub_watch')

    def __init__(self, *args: Any, hub_thread: Any) -> None:
        super().__init__(*args)
        self._moved = 0  # bytes that the thread has sent and the hub has not noted
        self._aside = 0  # the same, of those that count as queued; less those that it has queued itself
        self._finishing = False  # the thread is at it, until the hub is back or it is done
        self._retired = False
        self.hub_watch: Any = None
        self.hub_thread = hub_thread

    def start_beating(self, watch: Any) -> None:
        """The interval is known. watch: the HubWatch, told when the hub is late."""
        self.hub_watch = watch
        if self.pulse.interval and not self.closed:
            watch.has_thread = True
            pacemaker.add(self)

    def stop_beating(self) -> None:
        with self._transport.guard:
            self._retired = True
        pacemaker.discard(self)

    def close(self) -> None:
        with self._transport.guard:
            super().close()
        pacemaker.discard(self)

    def disown(self) -> None:
        super().disown()
        self._moved = self._aside = 0
        self._finishing = False

    def catch_up(self) -> None:
        """After the thread was at work: note it, and send the rest of what it began."""
        if self._moved or (not self._watching and (self._head is not None or self._transport.unsent)):
            self._push()

    def _push(self) -> None:
        with self._transport.guard:
            self._finishing = False
            if self._moved:
                self._queued -= self._aside
                self.counts.bytes_out += self._moved
                self._moved = self._aside = 0
                self._progress()
            super()._push()

    # -- in the thread -------------------------------------------------------------------

    def attend(self, now: float) -> float:
        """Send what the hub should have sent. Returns seconds until it is to be asked again."""
        late_in = self.pulse.late_in(now)
        if late_in > 0 and not self._finishing:
            return late_in
        if self.hub_thread() is None:
            pacemaker.discard(self)
            return self.pulse.interval
        if late_in <= 0:
            self.hub_watch.look_who()
        if not self._transport.guard.acquire(blocking=False):
            return SOON
        try:
            return self._help() if not (self.closed or self._retired) else self.pulse.interval
        finally:
            self._transport.guard.release()

    def _help(self) -> float:
        """What is begun first, then a heartbeat. Returns seconds until there may be more to do."""
        before = self.pulse.sent_at
        try:
            if self._head is None and not self._transport.unsent:
                self._beat()
            else:
                self._finish()
        except OSError:
            pass  # no room, or broken: the hub will see that itself
        self._finishing = self._head is not None or self._transport.unsent
        if self.pulse.sent_at == before:
            return self.pulse.interval / 8
        return SOON if self._finishing else self.pulse.late_in(self.pulse.sent_at)

    def _beat(self) -> None:
        beat = memoryview(HEARTBEAT)
        taken = self._transport.send_aside(beat)
        self._moved += taken
        if taken < len(beat):
            self._head = beat[taken:]
            self._aside -= len(beat) - taken
        self.pulse.sent_at = time.monotonic()

    def _finish(self) -> None:
        """Send the rest of the batch, at most so much at once that the hub need not wait for its turn."""
        transport, turn = self._transport, TURN
        while (self._head is not None or transport.unsent) and turn > 0:
            head = _NOTHING if self._head is None else self._head
            taken = transport.send_aside(head)
            if taken:
                self._head = head[taken:] if taken < len(head) else None
                self._aside += taken
                self._moved += taken
            self.pulse.sent_at = time.monotonic()
            turn -= taken or MOVED
