"""drain_events of the transport, for a greenlet that drains several connections, each for a short while.

Layer 5. Celery's worker of greenlets does that: after every event of the connection by which its tasks come it
waits 0.1 s at the one by which it sends events of its own, where nothing ever comes. With any client that holds it at
ten tasks a second. The wait is there to answer heartbeats, for which nobody has to read here. So a wait at a connection
without consumers ends as soon as something has come for the same greenlet at its other connection, and there
everything that has arrived is handled, not one event in each round. A greenlet that drains one connection alone gets
one event a call, as kombu promises: ``kombu.common.itermessages``, ``drain_consumer`` and others count the calls,
and would wait for messages that they have already. Does not belong here: how one waits at two connections.
"""

from __future__ import annotations

import weakref
from typing import Any

from greenlet import getcurrent

from ..connection.drain_events_of_two import drain_all, drain_beside, has_consumers
from .channel import Connection

__all__ = ('drain_events',)

# Seconds for which one call goes on with what has arrived.
TURN = 0.01

# greenlet -> the connection with consumers that it drained last.
_consuming: weakref.WeakKeyDictionary[Any, weakref.ref[Connection]] = weakref.WeakKeyDictionary()


def drain_events(connection: Connection, timeout: float | None = None) -> None:
    """``connection.drain_events(timeout)``, but as this module says. Switches greenlets."""
    me = getcurrent()
    known = _consuming.get(me)
    consuming = None if known is None else known()
    if consuming is connection:
        if connection._left_for_another:
            connection._left_for_another = False
            drain_all(connection, timeout, TURN)
        else:
            connection.drain_events(timeout)
    elif has_consumers(connection):
        _consuming[me] = weakref.ref(connection)
        connection.drain_events(timeout)
    elif consuming is None or not consuming.is_open:
        connection.drain_events(timeout)
    else:
        consuming._left_for_another = True
        drain_beside(connection, consuming, timeout)
