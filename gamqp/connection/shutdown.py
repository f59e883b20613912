"""The graceful end of a connection: take no more, finish what was begun, then close.

Layer 4, the body of ``Connection.drain``. Heartbeats go on until the end, since
nothing here touches the link before close.
"""

from __future__ import annotations

from typing import Any

import greenlet

from .. import exceptions, green
from ..green.yielding import with_turns
from ..wire.spec import Basic
from .dispatch import Dispatch
from .liveness import BLOCKED_TIMEOUT

__all__ = ('drain',)


def drain(connection: Dispatch, deadline: green.Deadline) -> bool:
    """Everything but the close. Returns whether all was finished in time. Switches.

    Raises why the connection ended, if it does meanwhile.
    """
    events, finishing = connection.event_queue, connection.finishing
    in_drain = finishing.in_drain
    finishing.draining = True
    inboxes = list(finishing.retiring)
    asked: list[tuple[Any, Any]] = []
    for channel in list(connection.channels.values()):
        inboxes += channel._inboxes()
        for expected in with_turns(connection.green, channel._ask_to_cancel_all()):
            if expected is not None:
                asked.append((channel, expected))
    # Handlers and callbacks that drain cannot end before they have: they do not wait for each other.
    me = greenlet.getcurrent()
    before = in_drain.get(me)  # it may be a callback that drain has called
    in_drain[me] = events.callbacks_around()
    events.wake_finishing()

    mine: list[Any] = []

    def quiet() -> bool:
        # One that is idle stays so, since no more arrives for it: it need not be looked at again.
        while inboxes:
            if inboxes[-1].works_apart_from(in_drain):
                return False
            inbox = inboxes.pop()
            if inbox.busy:
                mine.append(inbox)  # as long as those who work on it are in drain
        busy = any(inbox.works_apart_from(in_drain) for inbox in mine)
        return not busy and events.handlers_running <= sum(in_drain.values()) and not events.undelivered

    try:
        return (
            _await_cancels(connection, asked, deadline)
            and _leave_out_idle(connection, inboxes)
            and finishing.wait_until(quiet, deadline)
            and _await_confirms(connection, deadline)
        )
    finally:
        del in_drain[me]
        if before is not None:
            in_drain[me] = before


def _leave_out_idle(connection: Dispatch, inboxes: list[Any]) -> bool:
    """Most are idle, and there may be thousands. Switches."""
    inboxes[:] = [inbox for inbox in with_turns(connection.green, list(inboxes)) if inbox.busy]
    return True


def _await_cancels(connection: Dispatch, asked: list[tuple[Any, Any]], deadline: green.Deadline) -> bool:
    """Wait for each cancel-ok: only then the last delivery has passed."""
    for channel, expected in with_turns(connection.green, asked):
        try:
            left = deadline.left()
            channel._await_reply(expected, Basic.Cancel, left, goodbye=left is None)
        except TimeoutError:
            return False
        except exceptions.AMQPError:
            connection.check_open()  # else it is the channel that has ended, and its consumers have gone with it
    return True


def _await_confirms(connection: Dispatch, deadline: green.Deadline) -> bool:
    """Wait for what was published up to now on the channels that live. The receipts tell what became of it."""
    for channel in list(connection.channels.values()):
        incarnation = channel.incarnation
        # Again after an error, if that told of publishes that were lost before: each such error is raised once.
        while channel._was_opened and channel.incarnation == incarnation:
            try:
                left = deadline.left()
                channel.wait_for_confirms(BLOCKED_TIMEOUT if left is None and connection.is_blocked else left)
                break
            except TimeoutError:
                return False
            except exceptions.AMQPError:
                connection.check_open()
    return True
