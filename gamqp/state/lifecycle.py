"""The life of a connection or a channel: its states, and why it ended.

State, no I/O. The table below has all transitions; an event without a row is a bug in gamqp and
raises RuntimeError. Why a connection or channel ended is kept as a ``Reason``, which makes a new exception
object each time: one object raised by many greenlets would collect the tracebacks of all of them.
Does not belong here: what is done at a transition.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NoReturn

from .. import exceptions

__all__ = ('CLOSED', 'CLOSING', 'NEW', 'OPEN', 'OPENING', 'RECOVERING', 'Lifecycle', 'Reason')

NEW = 'new'
OPENING = 'opening'
OPEN = 'open'
RECOVERING = 'recovering'  # it was lost, and is being opened again
CLOSING = 'closing'  # we asked for the end and wait for the peer's consent
CLOSED = 'closed'

# state -> event -> next state
TRANSITIONS: dict[str, dict[str, str]] = {
    NEW: {'open': OPENING, 'end': CLOSED},
    # The socket of a channel that is being reopened may be lost, as that of an open one.
    OPENING: {'opened': OPEN, 'close': CLOSING, 'lose': RECOVERING, 'end': CLOSED},
    # Only channels are reopened: after a close by the broker, or when a pool has one begin anew (then from CLOSING).
    OPEN: {'close': CLOSING, 'reopen': OPENING, 'lose': RECOVERING, 'end': CLOSED},
    # Whether an attempt to open it again is under way makes no difference to anybody but the one who tries.
    RECOVERING: {'opened': OPEN, 'end': CLOSED},
    CLOSING: {'reopen': OPENING, 'end': CLOSED},
    # Only a connection is opened again. A channel that has ended has lost its number, and stays closed.
    CLOSED: {'open': OPENING},
}


class Reason:
    """Why something ended: makes an exception for it as often as needed.

    clean: the program asked for the end.
    """

    __slots__ = ('_error', 'clean')

    def __init__(self, error: BaseException, clean: bool = False) -> None:
        self._error = error
        self.clean = clean

    def __str__(self) -> str:
        return str(self._error)

    def make_error(self) -> BaseException:
        """A fresh exception of the same class, text and cause, without a traceback."""
        # A copy and not the class with the text: errors carry fields (code, method, hint) that differ by
        # class.
        error = copy.copy(self._error)
        # copy.copy takes over arguments and attributes. The cause is neither.
        error.__cause__ = self._error.__cause__
        error.__suppress_context__ = self._error.__suppress_context__
        return error.with_traceback(None)

    def throw(self) -> NoReturn:
        raise self.make_error()


class Lifecycle:
    """The state of one connection or channel, moved by events. The first reason of an end counts."""

    __slots__ = ('reason', 'state')

    def __init__(self) -> None:
        self.state = NEW
        # Set exactly while the state is CLOSED.
        self.reason: Reason | None = None

    def move(self, event: str) -> None:
        """Go to the next state by the table. Raises RuntimeError where it has no row."""
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise RuntimeError(f'lifecycle: no event {event!r} in state {self.state!r}') from None
        # A connection that is opened again has no reason to end any more; whoever asked before has it by
        # itself.
        if event == 'open':
            self.reason = None

    def end(self, reason: Reason) -> bool:
        """Go to CLOSED. Returns False, and changes nothing, when it was there already."""
        if self.state == CLOSED:
            return False
        self.reason = reason
        # In the same step as the line above: nobody sees a reason without the state, or the state without a reason.
        self.move('end')
        return True

    def error_maker(self, otherwise: str) -> Callable[[], BaseException]:
        """A function that makes the error of a call after the end, or before the opening (then with this text)."""
        if self.reason is not None:
            # The method is bound to this reason. A later opening resets the field, and a caller that has waited still
            # gets the reason of its own time.
            return self.reason.make_error
        return lambda: exceptions.RecoverableConnectionError(otherwise)
