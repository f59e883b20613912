"""Whether a channel that one greenlet has used can be given to another.

Layer 3, a base class of Channel. What must not enter: what is done with one that cannot.
"""

from __future__ import annotations

from typing import Any

from .state.confirms import Confirms
from .state.consumers import Consumers
from .state.notices import Notices
from .state.replies import Replies
from .state.unsettled import Unsettled, WideUnsettled
from .wire.spec import Confirm

__all__ = ('Reusable',)


class Reusable:
    """Looks at everything that a use may leave behind."""

    auto_decode: bool
    outstanding_limit: int
    incarnation: int
    events: dict[str, Any]
    return_taker: Any
    _confirms: Confirms | None
    _consumers: Consumers
    _notices: Notices
    _prefetch_sent: int | None
    _replies: Replies
    _returned: Any
    _streams: set[str] | None
    _unsettled: Unsettled | WideUnsettled

    _altered = False  # by tx_select or a global basic_qos, which no later call takes back

    def _root(self) -> Any:
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        raise NotImplementedError

    @property
    def is_as_new(self) -> bool:
        """Whether somebody else can use it as if it were new, but for confirm mode and unconfirmed publishes."""
        return (
            self.is_open
            and not self.incarnation
            and not (self._altered or self._consumers or self._unsettled or self._notices or self._returned)
            and self._prefetch_sent is None
            and self._streams is None
            and not any(self.events.values())
            and self.auto_decode
            and self.outstanding_limit == self._root().outstanding_limit
            and self.return_taker is None
            and self._replies.awaits_only(Confirm.SelectOk)
        )

    def forget_refusals(self) -> None:
        """For a new user: ``wait_for_confirms`` is not to tell it what became of earlier publishes."""
        if self._confirms is not None:
            self._confirms.take_refused()
