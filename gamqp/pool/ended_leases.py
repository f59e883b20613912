"""Leases that have ended before the broker has answered everything that was sent in them.

Layer 5, a part of ``connections``. The next user gets the channel only when the broker has answered: otherwise an
error about what one user has sent would be raised to the next. Does not belong here: greenlets that wait.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..channel import reuse
from .leases import AT_ONCE, PoolConnection

if TYPE_CHECKING:
    from ..channel.channel import Channel

__all__ = ('EndedLeases',)


class EndedLeases:
    """The ended leases of one pool. done: called with member and channel when the broker has answered, or cannot."""

    def __init__(self, done: Callable[[PoolConnection, Channel], None]) -> None:
        self._done = done
        self._pending: dict[_EndedLease, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, member: PoolConnection, channel: Channel, now: float) -> bool:
        """Have *done* called when the broker has answered. Returns False, and does nothing, if no answer is due.

        Does not switch. The reader calls *done*, which must not switch either.
        """
        if not reuse.has_unanswered(channel):
            return False
        settlement = _EndedLease(self, member, channel, now + member.connection.confirm_timeout)
        self._pending[settlement] = None
        reuse.ask_for_answers(channel, settlement)
        return True

    def give_up_late(self, now: float) -> list[tuple[PoolConnection, Channel]]:
        """Remove and return those without an answer within confirm_timeout, a limited number. Does not call *done*."""
        late = [one for one in islice(self._pending, AT_ONCE) if one.until <= now]
        for one in late:
            del self._pending[one]
        return [(one.member, one.channel) for one in late]

    def end(self, settlement: _EndedLease, ok: bool) -> None:
        if settlement in self._pending:
            del self._pending[settlement]
            if ok:
                self._done(settlement.member, settlement.channel)
            else:
                # In the hub's next turn: the channel is ending just now, and has not finished that.
                settlement.member.connection._green.run_soon(self._done, settlement.member, settlement.channel)


class _EndedLease:
    """Waits for a confirm or a reply as a Slot does, but without a greenlet."""

    __slots__ = ('_book', 'channel', 'member', 'until')

    def __init__(self, book: EndedLeases, member: PoolConnection, channel: Channel, until: float) -> None:
        self._book = book
        self.member = member
        self.channel = channel
        self.until = until

    def succeed(self, value: Any = None) -> None:
        self._book.end(self, True)

    def fail(self, make_error: Any) -> None:
        self._book.end(self, False)
