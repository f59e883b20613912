"""drain_events for a greenlet that drains two connections, first one and then the other.

Layer 4. Does not belong here: which connections these are, see ``gamqp.kombu.drain_events``.
"""

from __future__ import annotations

import time

from .. import green
from .connection import Connection

__all__ = ('drain_all', 'drain_beside', 'has_consumers')


def has_consumers(connection: Connection) -> bool:
    """Whether a consumer of this connection hands its messages to a callback in drain_events. Does not switch."""
    return any(channel._has_callbacks for channel in connection.channels.values())


def drain_beside(connection: Connection, other: Connection, timeout: float | None) -> None:
    """``connection.drain_events(timeout)`` that also ends, as if nothing had come, when *other* has an event.

    Both belong to the calling thread. Raises what drain_events raises, and TimeoutError also when something has come
    for *other*, of which nothing is handled. An end of *other* ends the wait too and is not raised. Switches greenlets.
    """
    # The objects stay the same for the life of a connection; what waits in them changes at each switch.
    events, others = connection._event_queue, other._event_queue
    deadline = green.Deadline(timeout)
    # Asked again after each wait: another greenlet may have taken the event that woke this one.
    while timeout != 0 and connection.is_open and not events.has_events:
        # The wait below is at the gates of both, so the end of either connection ends it, and is noticed here.
        if others.has_events or not other.is_open or deadline.passed:
            raise TimeoutError('timed out')
        # In the sense of a channel that ends, its greenlet is in drain_events of both.
        events.idle(others._idle, green.wait_at_both, events._drainers, others._drainers, deadline.left())
    # Takes the event, or raises TimeoutError or why the connection ended. No callback of *other* runs here.
    connection.drain_events(0)


def drain_all(connection: Connection, timeout: float | None, seconds: float) -> None:
    """``connection.drain_events(timeout)``, and then what else has arrived, for at most so many *seconds*."""
    connection.drain_events(timeout)
    events = connection._event_queue
    end = time.monotonic() + seconds
    # The time is looked at between two callbacks: one that takes long is not interrupted.
    while events.has_events and time.monotonic() < end and events.run_event():
        pass
