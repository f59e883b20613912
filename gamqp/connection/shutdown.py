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
from ..state.consumers import ConsumerInbox
from ..state.lifecycle import Reason
from ..wire.spec import Basic
from ..wire.spec import Connection as Spec
from .dispatch import Dispatch
from .liveness import BLOCKED_TIMEOUT, LAST_CLOSE_TIMEOUT
from .unfinished_handlers import LOOK

__all__ = ('close', 'drain')

# Seconds that a close waits for its answer, at most, unless the program says how long.
CLOSE_TIMEOUT = 10.0


def close(connection: Dispatch, args: tuple[Any, ...], timeout: float | None = None, most: float | None = None) -> None:
    """Send connection.close with *args*, wait for the answer, and end in any case. Switches.

    timeout: seconds, None for the usual time, which is *most* seconds where that is less.
    """
    state = connection._life.state
    # Before the thread is checked: a connection that is closed may be closed again in any thread.
    if state in (lifecycle.NEW, lifecycle.CLOSED):
        # From here on ``connected`` is False, and the poll descriptor of a lost connection is closed.
        connection._event_queue.forget_loss()
        return
    connection._affinity.check()
    reason = Reason(exceptions.RecoverableConnectionError('the connection was closed by this program'), clean=True)
    # Another greenlet waits for close-ok, and ends the connection whatever comes. This one returns when that is done.
    if state == lifecycle.CLOSING:
        if not connection._link.wait_until_ended(green.Deadline(CLOSE_TIMEOUT if timeout is None else timeout)):
            connection._end(reason)
        return
    if connection._recovery is not None and state != lifecycle.OPENING:
        # First of all: a loss that comes from here on is the end.
        connection._recovery.stop()
        if state == lifecycle.RECOVERING:
            connection._end(reason)
            connection._recovery.wait_until_stopped()
            return
    # No close is sent: the broker may not have asked for start yet. The greenlet that connects finds the end after
    # its present wait, and raises.
    if state == lifecycle.OPENING:
        connection._end(reason)
    if state != lifecycle.OPEN:
        return
    # Kept over the wait below.
    link = connection._link
    usual = min(CLOSE_TIMEOUT, connection.rpc_timeout, CLOSE_TIMEOUT if most is None else most)
    # From here on calls of the connection raise; what waits already goes on waiting. Calls of a channel look at the
    # state of the channel alone, which ends when close-ok has come.
    connection._life.move('close')
    if connection._while_open.renewal is not None:
        connection._while_open.renewal.stop()  # the broker takes no secret any more
    try:
        # Switches. The close stands behind all that was queued, so the broker has handled every publish and ack
        # before its close-ok. RabbitMQ drops what it has not handled yet when a client just hangs up.
        connection._call(Spec.Close, args, timeout=usual if timeout is None else timeout, ending=timeout is None)
    except (TimeoutError, exceptions.AMQPError):
        pass  # the peer is gone, or silent: that is closed too
    # Also when this greenlet is killed meanwhile: the state CLOSING has no other way out.
    finally:
        if connection._link is link:  # else it was lost meanwhile, and another greenlet opens it again
            connection._end(reason)


def drain(connection: Dispatch, deadline: green.Deadline) -> bool:
    """The graceful end. Returns whether all was finished in time. Switches.

    Raises why the connection ended, if it does meanwhile.
    """
    connection._affinity.check()
    recovery = connection._recovery
    if recovery is not None:
        recovery.stop()  # what is lost from here on is not opened again
    if connection._life.state == lifecycle.RECOVERING:
        return _drain_lost(connection, deadline)
    link = connection._link
    finished = _finish(connection, link, deadline)
    if link.reason is not None:
        # Lost, and not closed by the program: the caller has to learn that what it drained may be delivered again.
        if not link.reason.clean:
            link.reason.throw()
        return finished  # somebody else has closed it; what is open now, if anything, is another one
    # None when the program has set no limit; then close takes its usual time.
    left = deadline.left()
    if left is None and not finished and connection.is_blocked:
        left = 0.0  # it has been waited for already
    close(connection, (0, '', 0, 0), most=left if left is None else max(left, LAST_CLOSE_TIMEOUT))
    return finished


def _drain_lost(connection: Dispatch, deadline: green.Deadline) -> bool:
    """The graceful end of a connection that is lost: its handlers finish, and it is not opened again. Returns False.

    Switches.
    """
    events, in_drain = connection._event_queue, connection._unfinished_handlers.in_drain
    inboxes = [inbox for channel in list(connection.channels.values()) for inbox in channel._inboxes()]
    me = greenlet.getcurrent()
    in_drain[me] = events.callbacks_around()
    events.finish_awaited += 1
    try:
        while any(inbox.works_apart_from(in_drain) for inbox in inboxes) and not deadline.passed:
            left = deadline.left()
            events.finished.wait(LOOK if left is None else min(left, LOOK))
    finally:
        events.finish_awaited -= 1
        del in_drain[me]
        close(connection, (0, '', 0, 0))
    return False


def _finish(connection: Dispatch, link: Any, deadline: green.Deadline) -> bool:
    """Everything but the close. Returns whether all was finished in time. Switches."""
    events, unfinished_handlers = connection._event_queue, connection._unfinished_handlers
    in_drain = unfinished_handlers.in_drain
    # First of all: a consumer that is started from here on would not be in the lists below. Never set back while this
    # socket lives, so that a drain that was interrupted can be called again.
    unfinished_handlers.draining = True
    # Consumers that were cancelled before, and whose last message is still worked on.
    inboxes: list[ConsumerInbox] = list(unfinished_handlers.retiring)
    # All cancels are sent before the first answer is waited for: one round trip for thousands of consumers.
    asked: list[tuple[Any, Any]] = []
    # A copy, since with_turns switches: channels may be opened and closed meanwhile.
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
    # Another drain or basic_cancel that waits must count again: what it waits for may be this greenlet.
    events.wake_finishing()

    mine: list[ConsumerInbox] = []

    # Asked after each handler that ends. So it must not walk all inboxes each time.
    def quiet() -> bool:
        # One that is idle stays so, since no more arrives for it: it need not be looked at again.
        while inboxes:
            if inboxes[-1].works_apart_from(in_drain):
                return False
            inbox = inboxes.pop()
            if inbox.busy:
                mine.append(inbox)  # as long as those who work on it are in drain
        # Those whose greenlets are in drain themselves: few, so they are all asked each time.
        busy = any(inbox.works_apart_from(in_drain) for inbox in mine)
        return not busy and events.handlers_running <= sum(in_drain.values()) and not events.undelivered

    try:
        return (
            # In this order: behind the cancels no message arrives, behind the handlers they publish and ack nothing
            # more, and then the confirms are complete. The first step that runs out of time is the last.
            _await_cancels(connection, link, asked, deadline)
            and _leave_out_idle(connection, inboxes)
            and unfinished_handlers.wait_until(link, quiet, deadline)
            and _await_confirms(connection, link, deadline)
        )
    finally:
        # Also when a callback raised or this greenlet was killed: other drains must not count it any more.
        del in_drain[me]
        if before is not None:
            in_drain[me] = before


def _leave_out_idle(connection: Dispatch, inboxes: list[ConsumerInbox]) -> bool:
    """Most are idle, and there may be thousands. Switches."""
    # In place: quiet() has the same list.
    inboxes[:] = [inbox for inbox in with_turns(connection._green, list(inboxes)) if inbox.busy]
    return True


def _await_cancels(connection: Dispatch, link: Any, asked: list[tuple[Any, Any]], deadline: green.Deadline) -> bool:
    """Wait for each cancel-ok: only then the last delivery has passed."""
    for channel, expected in with_turns(connection._green, asked):
        try:
            left = deadline.left()
            channel._await_reply(expected, Basic.Cancel, left, ending=left is None)
        # The entry stays, so a late cancel-ok is recognised. The caller goes on to close.
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
        # Not after a reopening: the publishes of before are lost then, and those since were not begun before drain.
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
