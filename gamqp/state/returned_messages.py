"""``Channel.returned_messages``: mandatory messages that came back, for programs that look there as in py-amqp.

State, no I/O. Does not belong here: what becomes of them otherwise: an event handler is called, a Receipt or
basic_publish_confirm gets them, or drain_events raises them (``pending_events``, ``channel.events``).
"""

from __future__ import annotations

import queue
from collections import deque

from ..protocol import basic_return_t

__all__ = ('PendingReturns',)

KEPT_RETURNS = 100  # most programs never read them


class PendingReturns(deque[basic_return_t]):
    """Returned messages, oldest first: a deque that also has the verbs of queue.Queue, as in py-amqp. None waits.

    ``get``, ``get_nowait``: take the oldest. ``put``: add one. ``empty``, ``qsize``: whether there is none, how many.
    """

    def __init__(self) -> None:
        # A full deque drops its oldest entry, so memory has a limit although nobody may ever look.
        super().__init__(maxlen=KEPT_RETURNS)

    # It never waits, as the put() of a queue with a limit would: the reader calls it.
    put = deque.append

    def get(self, block: bool = False, timeout: float | None = None) -> basic_return_t:
        """The oldest. Raises queue.Empty at once when there is none, whatever the arguments."""
        # Nothing switches between this line and the next, so another greenlet cannot take the last one.
        if not self:
            raise queue.Empty
        return self.popleft()

    get_nowait = get

    def empty(self) -> bool:
        return not self

    def qsize(self) -> int:
        return len(self)
