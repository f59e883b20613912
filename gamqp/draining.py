"""The graceful end of a connection: take no more, finish what was begun, then close.

Layer 3, the body of ``Connection.drain``. Heartbeats go on until the end, since
nothing here touches the link before close.
"""

from __future__ import annotations

from typing import Any

import greenlet

from . import exceptions, green
from .green.turns import with_turns
from .inbound import Inbound
from .liveness import BLOCKED_TIMEOUT
from .wire.spec import Basic

__all__ = ('drain',)


def drain(root: Inbound, deadline: green.Deadline) -> bool:
    """Everything but the close. Returns whether all was finished in time. Switches.

    Raises why the connection ended, if it does meanwhile.
    """
    root.draining = True
    intakes = list(root.retiring)
    asked: list[tuple[Any, Any]] = []
    for channel in list(root.channels.values()):
        intakes += channel.intakes()
        for expected in with_turns(root.green, channel.ask_to_cancel_all()):
            if expected is not None:
                asked.append((channel, expected))
    # Handlers and callbacks that drain cannot end before they have: they do not wait for each other.
    me = greenlet.getcurrent()
    before = root.in_drain.get(me)  # it may be a callback that drain has called
    root.in_drain[me] = root.callbacks_around()
    root.wake_quiet()

    mine: list[Any] = []

    def quiet() -> bool:
        # One that is idle stays so, since no more arrives for it: it need not be looked at again.
        while intakes:
            if intakes[-1].works_apart_from(root.in_drain):
                return False
            intake = intakes.pop()
            if intake.busy:
                mine.append(intake)  # as long as those who work on it are in drain
        busy = any(intake.works_apart_from(root.in_drain) for intake in mine)
        return not busy and root.handlers_running <= sum(root.in_drain.values()) and not root.undelivered

    try:
        return (
            _await_cancels(root, asked, deadline)
            and _leave_out_idle(root, intakes)
            and root.wait_for_quiet(quiet, deadline)
            and _await_confirms(root, deadline)
        )
    finally:
        del root.in_drain[me]
        if before is not None:
            root.in_drain[me] = before


def _leave_out_idle(root: Inbound, intakes: list[Any]) -> bool:
    """Most are idle, and there may be thousands. Switches."""
    intakes[:] = [intake for intake in with_turns(root.green, list(intakes)) if intake.busy]
    return True


def _await_cancels(root: Inbound, asked: list[tuple[Any, Any]], deadline: green.Deadline) -> bool:
    """Wait for each cancel-ok: only then the last delivery has passed."""
    for channel, expected in with_turns(root.green, asked):
        try:
            left = deadline.left()
            channel.await_reply(expected, Basic.Cancel, left, goodbye=left is None)
        except TimeoutError:
            return False
        except exceptions.AMQPError:
            root.check_open()  # else it is the channel that has ended, and its consumers have gone with it
    return True


def _await_confirms(root: Inbound, deadline: green.Deadline) -> bool:
    """Wait for what was published up to now on the channels that live. The receipts tell what became of it."""
    for channel in list(root.channels.values()):
        incarnation = channel.incarnation
        # Again after an error, if that told of publishes that were lost before: each such error is raised once.
        while channel.was_opened and channel.incarnation == incarnation:
            try:
                left = deadline.left()
                channel.wait_for_confirms(BLOCKED_TIMEOUT if left is None and root.is_blocked else left)
                break
            except TimeoutError:
                return False
            except exceptions.AMQPError:
                root.check_open()
    return True
