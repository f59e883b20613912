"""The end of a connection that the program asks for: close, or the graceful one, which finishes what was begun before.

Layer 4, the bodies of ``Connection.close`` and ``Connection.drain``. Heartbeats go on until the end, since
``drain`` does not touch the link before close. Does not belong here: the end that comes by itself (``dispatch``).
"""

from __future__ import annotations

from typing import Any

import greenlet

from .. import exceptions, green
from ..green.yielding import with_turns
from ..state import lifecycle
from ..state.lifecycle import Reason
from ..wire.spec import Basic
from ..wire.spec import Connection as Spec
from .dispatch import Dispatch
from .liveness import BLOCKED_TIMEOUT, LAST_CLOSE_TIMEOUT

__all__ = ('close', 'drain')

# Seconds that a close waits for its answer, at most, unless the program says how long.
CLOSE_TIMEOUT = 10.0


def close(connection: Dispatch, args: tuple[Any, ...], timeout: float | None = None, most: float | None = None) -> None:
    """Send connection.close with *args*, wait for the answer, and end in any case. Switches.

    timeout: seconds, None for the usual time, which is *most* seconds where that is less.
    """
    state = connection._life.state
    if state in (lifecycle.NEW, lifecycle.CLOSED):
        connection._event_queue.forget_loss()
        return
    connection._affinity.check()
    if state == lifecycle.CLOSING:
        return
    reason = Reason(exceptions.RecoverableConnectionError('the connection was closed by this program'), clean=True)
    if state == lifecycle.OPENING:
        connection._end(reason)
    if state != lifecycle.OPEN:
        return
    link = connection._link
    usual = min(CLOSE_TIMEOUT, connection.rpc_timeout, CLOSE_TIMEOUT if most is None else most)
    # From here on every other call raises; only what waits already goes on waiting.
    connection._life.move('close')
    if connection._renewal is not None:
        connection._renewal.stop()  # the broker takes no secret any more
    try:
        connection._call(Spec.Close, args, timeout=usual if timeout is None else timeout, ending=timeout is None)
    except (TimeoutError, exceptions.AMQPError):
        pass  # the peer is gone, or silent: that is closed too
    finally:
        if connection._link is link:  # else it was lost meanwhile, and another greenlet opens it again
            connection._end(reason)


def drain(connection: Dispatch, deadline: green.Deadline) -> bool:
    """The graceful end. Returns whether all was finished in time. Switches.

    Raises why the connection ended, if it does meanwhile.
    """
    link = connection._link
    finished = _finish(connection, link, deadline)
    if link.reason is not None:
        if not link.reason.clean:
            link.reason.throw()
        return finished  # somebody else has closed it; what is open now, if anything, is another one
    left = deadline.left()
    if left is None and not finished and connection.is_blocked:
        left = 0.0  # it has been waited for already
    close(connection, (0, '', 0, 0), most=left if left is None else max(left, LAST_CLOSE_TIMEOUT))
    return finished


def _finish(connection: Dispatch, link: Any, deadline: green.Deadline) -> bool:
    """Everything but the close. Returns whether all was finished in time. Switches."""
    events, unfinished_handlers = connection._event_queue, connection._unfinished_handlers
    in_drain = unfinished_handlers.in_drain
    unfinished_handlers.draining = True
    inboxes = list(unfinished_handlers.retiring)
    asked: list[tuple[Any, Any]] = []
    for channel in list(connection.channels.values()):
        inboxes += channel._inboxes()
        for expected in with_turns(connection._green, channel._ask_to_cancel_all()):
            if expected is not None:
                asked.append((channel, expected))
    # Handlers and callbacks that drain cannot end before they have: they do not wait for each other.
    me = greenlet.getcurrent()
    before = in_drain.get(me)  # it may be a callback that drain has called
    # A callback that drains would otherwise wait for itself.
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
            _await_cancels(connection, link, asked, deadline)
            and _leave_out_idle(connection, inboxes)
            and unfinished_handlers.wait_until(link, quiet, deadline)
            and _await_confirms(connection, link, deadline)
        )
    finally:
        del in_drain[me]
        if before is not None:
            in_drain[me] = before


def _leave_out_idle(connection: Dispatch, inboxes: list[Any]) -> bool:
    """Most are idle, and there may be thousands. Switches."""
    inboxes[:] = [inbox for inbox in with_turns(connection._green, list(inboxes)) if inbox.busy]
    return True


def _await_cancels(connection: Dispatch, link: Any, asked: list[tuple[Any, Any]], deadline: green.Deadline) -> bool:
    """Wait for each cancel-ok: only then the last delivery has passed."""
    for channel, expected in with_turns(connection._green, asked):
        try:
            left = deadline.left()
            channel._await_reply(expected, Basic.Cancel, left, ending=left is None)
        except TimeoutError:
            return False
        except exceptions.AMQPError:
            connection._check_open(link)  # else it is the channel that has ended, and its consumers have gone with it
    return True


def _await_confirms(connection: Dispatch, link: Any, deadline: green.Deadline) -> bool:
    """Wait for what was published up to now on the channels that live. What became of it, the receipts have."""
    for channel in list(connection.channels.values()):
        incarnation = channel._incarnation
        # Again after an error, if that was about publishes that were lost before: each such error is raised once.
        while channel._was_opened and channel._incarnation == incarnation:
            try:
                left = deadline.left()
                channel.wait_for_confirms(BLOCKED_TIMEOUT if left is None and connection.is_blocked else left)
                break
            except TimeoutError:
                return False
            except exceptions.AMQPError:
                connection._check_open(link)
    return True
