"""Leases that have ended before the broker had answered for everything that was sent in them.

Layer 5, a part of ``connections``. Their channels are handed on when it has, because an
error of what one user has sent would else hit the next. What must not enter: waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from .leases import AT_ONCE, PoolConnection

__all__ = ('EndedLeases',)


class EndedLeases:
    """Those of one pool. done: called with member and channel when one of them has come to an end, well or not."""

    def __init__(self, done: Callable[[PoolConnection, Any], None]) -> None:
        self._done = done
        self._pending: dict[_EndedLease, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, member: PoolConnection, channel: Any, now: float) -> bool:
        """Have *done* called when the broker has answered. Returns False, and does nothing, if there is nothing due.

        Does not switch. *done* is called by the reader, and must not either.
        """
        if not channel.has_unanswered:
            return False
        settlement = _EndedLease(self, member, channel, now + channel.connection.confirm_timeout)
        self._pending[settlement] = None
        channel.ask_for_answers(settlement)
        return True

    def give_up_late(self, now: float) -> list[tuple[PoolConnection, Any]]:
        """Those that the broker has not answered within confirm_timeout, some of them at once; *done* is not called."""
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
                # Not here, in the middle of the end of the channel.
                settlement.member.connection.green.run_soon(self._done, settlement.member, settlement.channel)


class _EndedLease:
    """Waits for a confirm or a reply as a Slot does, but without a greenlet."""

    __slots__ = ('_book', 'channel', 'member', 'until')

    def __init__(self, book: EndedLeases, member: PoolConnection, channel: Any, until: float) -> None:
        self._book = book
        self.member = member
        self.channel = channel
        self.until = until

    def succeed(self, value: Any = None) -> None:
        self._book.end(self, True)

    def fail(self, make_error: Any) -> None:
        self._book.end(self, False)
