"""One connection for all greenlets that need a kombu.Connection opened at the same time.

Layer 5. kombu opens it for each greenlet that finds it closed, and keeps the one that comes last: consumers on another
one would never be drained. Celery's results by ``rpc://`` do so: the greenlet that asks for one makes the consumer,
and the one that drains begins meanwhile. So who comes while an attempt is under way waits for it. Does not belong
here: how a connection is opened.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from .. import green
from ..green import os_threads
from ..state.lifecycle import Reason

__all__ = ('open_once',)


class _Attempt:
    """To open the connection of one kombu.Connection."""

    def __init__(self) -> None:
        self.greenlet = getcurrent()
        self.thread = os_threads.get_ident()
        self.waiting: list[green.Slot] = []


_attempts: weakref.WeakKeyDictionary[Any, _Attempt] = weakref.WeakKeyDictionary()


def open_once(client: Any, connect: Callable[[], Any]) -> Any:
    """``connect()``, or what it returns or raises in another greenlet that has begun it for *client*. Switches."""
    while (attempt := _attempts.get(client)) is not None:
        # From another thread nobody can be waked here, and a password's callable may use the connection itself.
        if attempt.thread != os_threads.get_ident() or attempt.greenlet is getcurrent():
            return connect()
        slot = green.Slot(green.backend())
        attempt.waiting.append(slot)
        slot.wait()
        connection = slot.result()
        if connection is not None and connection.is_open:
            return connection
        # Its greenlet was killed, or the connection is lost already: the next attempt is ours or another one's.
    attempt = _attempts[client] = _Attempt()
    connection = None
    try:
        connection = connect()
    except Exception as error:
        reason = Reason(error)
        for slot in attempt.waiting:
            slot.fail(reason.make_error)
        raise
    finally:
        del _attempts[client]
        for slot in attempt.waiting:
            slot.succeed(connection)  # those that have failed stay so
    return connection
