"""The publisher confirms of a channel that recovers: which publishes a loss cuts off, and what their callers are told.

Layer 4. Does not belong here: those that go out again (``recovering_publishes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import exceptions
from ..channel.waiting_for_confirms import ChannelConfirms
from ..state.confirm_matching import Confirms
from ..state.kept_publishes import KeepingConfirms
from ..state.lifecycle import Reason

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('RecoveringConfirms', 'unsent_reason')


class RecoveringConfirms(ChannelConfirms):
    """keeps: whether the frames of each publish are kept until it has its confirm."""

    __slots__ = ('_keeps', '_was_refused')

    def __init__(self, connection: Connection, number: int, keeps: bool) -> None:
        super().__init__(connection, number)
        self._keeps = keeps
        self._was_refused = False  # a publish was nacked or returned before the loss, and nobody has been told

    def _new_outstanding(self) -> Confirms:
        new = KeepingConfirms(self._walk) if self._keeps else super()._new_outstanding()
        new.refused, self._was_refused = self._was_refused, False
        return new

    def end_socket(self) -> Confirms | None:
        """No confirm will come. Returns the publishes without one. Does not switch."""
        outstanding = self.outstanding
        self.is_on, self.before = False, 0
        if outstanding is not None:
            for settled in outstanding.settle_returned():
                self.connection._counts.confirmed += settled
            self.outstanding = None
            self._was_refused = outstanding.take_refused()
        if self._room is not None:
            self.connection._work_in_turns.add(self._room.wake_each())
        return outstanding

    def new_source(self) -> KeepingConfirms:
        """For publishes that go out again."""
        return KeepingConfirms(self._walk)

    def lose(self, outstanding: Confirms, reason: Reason, unsent: int = 0) -> None:
        """These are lost. unsent: the lowest tag of those that have not been sent; 0 for none. Does not switch."""
        not_sent = unsent_reason(reason) if unsent else reason
        ending = outstanding.fail_all(reason.make_error, unsent, not_sent.make_error)
        if ending.lost:
            self._note_lost(outstanding, reason if ending.any_sent else not_sent, ending.any_sent)
        self._was_refused = self._was_refused or ending.refused
        self._begin_ending(ending, None)

    def _note_lost(self, outstanding: Confirms, reason: Reason, sent: bool) -> None:
        # Where an earlier loss has not been told yet, and may have cost what had been sent, it stays.
        if sent or self._lost is None:
            self._lost = outstanding, reason

    def lose_one(self, reason: Reason) -> None:
        """One that should have gone out again cannot. Does not switch."""
        self.connection._counts.lost += 1
        if self.outstanding is not None:
            self._note_lost(self.outstanding, reason, True)

    def raise_lost(self) -> None:
        """Raise why publishes were lost, if that has not been raised yet."""
        lost, self._lost = self._lost, None
        if lost is not None:
            lost[1].throw()


def unsent_reason(reason: Reason) -> Reason:
    """The same for what has not been sent at all."""
    error = reason.make_error()
    if isinstance(error, exceptions.Lost):
        error.sent = False
    return Reason(error)
