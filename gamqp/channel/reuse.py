"""Whether a channel that one greenlet has used can be given to another.

Layer 3, a base class of Channel. What must not enter: what is done with one that cannot.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..state.consumers import ConsumerTable
from ..state.pending_events import PendingEvents
from ..state.prefetch import Prefetch
from ..state.replies import Expected
from ..state.stream_consumers import StreamConsumers
from ..state.unacked import Unacked, WideUnacked
from ..wire.spec import Channel as ChannelSpec
from ..wire.spec import Confirm
from .confirm import ConfirmMethods
from .events import EventHandlers

__all__ = ('Reusable',)


class Reusable(ConfirmMethods):
    """Looks at everything that a use may leave behind."""

    auto_decode: bool
    outstanding_limit: int
    events: defaultdict[str, EventHandlers]
    _return_taker: Any
    _consumers: ConsumerTable
    _notices: PendingEvents
    _prefetch: Prefetch
    _returned: Any
    _streams: StreamConsumers | None
    _unacked: Unacked | WideUnacked

    _altered = False  # by tx_select or a global basic_qos, which no later call takes back
    _published_before = 0  # on all channels of the connection, when the present use began

    @property
    def is_as_new(self) -> bool:
        """Whether somebody else can use it as if it were new, but for confirm mode and ``has_unanswered``."""
        return (
            self.is_open
            and not self.incarnation
            and not (self._altered or self._consumers or self._unacked or self._notices or self._returned)
            and self._prefetch.sent is None
            and self._streams is None
            and not any(self.events.values())
            and self.auto_decode
            and self.outstanding_limit == self._connection.outstanding_limit
            and self._return_taker is None
            and self._replies.awaits_only(Confirm.SelectOk)
        )

    def begin_use(self) -> None:
        """Somebody has it now, whom ``wait_for_confirms`` is not to tell what became of earlier publishes."""
        if self._confirms is not None:
            self._confirms.take_refused()
        self._published_before = self._counts.published

    @property
    def has_unanswered(self) -> bool:
        """Whether the broker may still refuse something that was sent in this use, and close the channel over it."""
        return bool(self._confirms) or self._owes_certainty

    @property
    def _owes_certainty(self) -> bool:
        """Whether something was sent that the broker answers only if it refuses it."""
        return (
            self._sent_unanswered
            or self._unacked.strays
            # Perhaps on another channel: to count each one's would cost every publish something.
            or (self._outstanding is None and self._counts.published != self._published_before)
        )

    def ask_for_answers(self, waiter: Any) -> None:
        """Have ``waiter.succeed`` called when the broker has answered, or ``fail`` when there is no answer to come.

        There must be something unanswered; afterwards there may be again. Does not switch.
        """
        if self._owes_certainty:
            self._sent_unanswered = self._unacked.strays = False
            self._published_before = self._counts.published
            # The broker answers in order. This changes nothing: it asks to go on delivering.
            expected = Expected((ChannelSpec.FlowOk,), waiter)
            expected.quiet = True
            self._ask(ChannelSpec.Flow, (True,), expected)
        elif self._outstanding is not None:
            self._outstanding.barrier(waiter, quiet=True)
