"""The read timeout of consumers that only wait: nobody is in a call then that could look at the clock.

Layer 4. A look every now and then, and nothing for a message. Calls that wait for a reply,
a confirm or room for more publishes look by themselves (``liveness``). Does not belong
here: heartbeats, which find a silent peer without anybody waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..green.yielding import in_turns
from ..state.durations import in_seconds
from .connection_timer import ConnectionTimer

if TYPE_CHECKING:
    from .dispatch import Dispatch

__all__ = ('ReadTimeout', 'silence')

# Looks in the time of one read timeout: so much of it may pass before a consumer is seen to wait.
LOOKS = 4

# Seconds between two looks, at least: a reader that has input may not have come to it yet.
SHORTEST = 0.01


def silence(limit: float) -> TimeoutError:
    """Why a connection is lost of which nothing was heard for *limit* seconds."""
    return TimeoutError(f'read timeout: nothing heard from the broker for {in_seconds(limit)}')


class ReadTimeout(ConnectionTimer['Dispatch']):
    """Of one open connection. limit: seconds."""

    def __init__(self, connection: Dispatch, limit: float) -> None:
        super().__init__(connection)
        # A strong reference, which does not keep the connection: the link itself holds it weakly. The timer is of
        # this link alone, and a new one is made for the next.
        self._link = connection._link
        self._limit = limit
        self._since: float | None = None  # since when a consumer has been seen to wait, at each look
        self._look_in(limit)

    def _look_in(self, left: float) -> None:
        # Never later than the moment at which the connection may count as lost.
        self._arm(max(min(left, self._limit / LOOKS), SHORTEST))

    def _due(self, connection: Dispatch) -> None:
        # Not armed again otherwise: this object has ended with its link.
        if self._link.reason is None:
            in_turns(self._green, self._walk(connection))

    def _walk(self, connection: Dispatch) -> Iterator[None]:
        """A step for each consumer, until one is found that waits; then judge."""
        # The next look is planned by _judge, at the end of the walk. So there is one walk at a time, however many
        # consumers there are.
        waits = False
        # For callbacks: a greenlet is in drain_events, or a foreign loop waits for the connection's descriptor.
        events = connection._event_queue
        # Not while a callback runs: the program works on a message, and does not wait for the next.
        drained = (events.drainers_idle or events.descriptor is not None) and not events.handlers_running
        # Copies: between two steps channels and consumers come and go. One that has gone is looked at in vain.
        for channel in list(connection.channels.values()):
            for consumer in list(channel._consumers.values()):
                yield
                inbox = consumer.inbox
                # One that waits is enough: the silence is that of the connection.
                if drained if inbox is None else inbox.awaits_message:
                    waits = True
                    break
            if waits:
                break
        self._judge(waits)

    def _judge(self, waits: bool) -> None:
        link, now, left = self._link, time.monotonic(), self._limit
        # The walk may have taken many turns of the hub, and the link may have ended in one of them.
        if link.reason is not None:
            return
        # A reader that has stopped, to let the program catch up, hears nothing. The time begins anew then.
        if not waits or not link.listening:
            self._since = None
        else:
            # From now on, not from the last byte: before, no consumer waited for anything.
            if self._since is None:
                self._since = now
            # heard_at counts heartbeats, too: with an interval shorter than the limit a broker that lives is never
            # lost here.
            left += max(self._since, link.heartbeat_clock.heard_at) - now
            # Bytes in the kernel are a sign of life that the reader has not come to; the next look is soon.
            if left <= 0 and not link.transport.has_input:
                link.lose(silence(self._limit))
                return
        self._look_in(left)
