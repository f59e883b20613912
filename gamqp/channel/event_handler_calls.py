"""The calls of a channel's event handlers that are due, the errors that wait for drain_events, and who takes them.

Layer 3, held by Channel from the first event that has a handler, and the first error that waits. Does not
belong here: which events there are (``events``), and the order of what waits (``state.pending_events``).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from greenlet import getcurrent

from ..green import Slot
from ..state.pending_events import HandlerCall, PendingEvents

if TYPE_CHECKING:
    from ..connection.connection import Connection
    from .events import ChannelEvents

__all__ = ('EventHandlerCalls',)


class EventHandlerCalls:
    """channel: has ``_attend``, which drain_events calls. Held weakly. connection: the Connection.

    running: whether a greenlet runs the calls that are for drain_events.
    """

    __slots__ = ('_channel', '_connection', 'pending', 'running')

    def __init__(self, channel: ChannelEvents, connection: Connection) -> None:
        self._channel = weakref.ref(channel)
        self._connection = connection
        self.pending = PendingEvents()
        self.running = False

    def __bool__(self) -> bool:
        return bool(self.pending)

    def flag(self) -> None:
        """Queue one notice for drain_events, unless one is queued. Does not switch."""
        channel = self._channel()
        if not self.pending.flagged and channel is not None:
            self.pending.flagged = True
            self._connection._event_queue.on_notice(channel._attend)

    def run(self) -> None:
        """Call the handlers that are due, never one inside another. Whatever they raise comes out. Switches."""
        pending = self.pending
        if self.running:
            return
        self.running = True
        me = getcurrent()
        outer = pending.run_by(me)  # when a publisher's handler drains
        inner: deque[HandlerCall] = deque()  # of the messages that these handlers publish
        pending.begin(me, inner)
        try:
            while (call := inner.popleft() if inner else pending.take_call()) is not None:
                call()
        finally:
            self.running = False
            pending.end(me, outer)
            self._hand_on(inner)
            if pending.calls:
                self.flag()  # a handler has raised; drain_events may have been here meanwhile, for nothing

    # -- of a publisher that waits for its confirm -------------------------------------------------

    def run_own(self, publisher: Slot) -> None:
        """Call the handlers that concern the message of this publisher. What one raises comes out. Switches.

        The others of its message are then left to drain_events. A publisher that is
        itself in a handler of this channel has them called when that has returned.
        """
        pending, me = self.pending, getcurrent()
        calls = pending.take_own(publisher)
        outer = pending.run_by(me)
        if outer is not None:
            outer.extend(calls)
            return
        pending.begin(me, calls)
        try:
            while calls:
                calls.popleft()()
        finally:
            pending.end(me, None)
            self._hand_on(calls)

    def leave_own(self, publisher: Slot) -> None:
        """The publisher waits no more: what concerns its message is for drain_events. Does not switch."""
        self._hand_on(self.pending.take_own(publisher))

    def _hand_on(self, calls: Iterable[HandlerCall]) -> None:
        for call in calls:
            self.pending.add_call(call)
            self.flag()
