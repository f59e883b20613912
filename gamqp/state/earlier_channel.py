"""What tells the frames for a channel from those for an earlier channel with the same number.

State, no I/O. A channel that the broker has closed is opened again under its number. RabbitMQ's queues go on writing to
the old channel for a while, so deliveries for both may arrive mixed. Until open-ok everything is for the old one.
After it the delivery tags tell: RabbitMQ numbers the deliveries of each channel from 1 without a gap.
Does not belong here: methods (``channel.reopening``).
"""

from __future__ import annotations

__all__ = ('EarlierChannel',)

# RabbitMQ's pseudo-queue of replies. Before 4.2 they bear the number of the next delivery, which bears it, too: once
# there are such, nothing can be told by numbers.
DIRECT_REPLIES = 'amq.rabbitmq.reply-to'


class EarlierChannel:
    """The one that had the number before. Made when there is one whose frames may still arrive.

    awaits_ok: open-ok, or the close-ok of the earlier channel, has still to come; all before it is for the earlier one.
    numbered: whether the broker is known to number deliveries without a gap.
    """

    __slots__ = ('_next', 'awaits_ok')

    def __init__(self, numbered: bool) -> None:
        # Set to False by the channel. Until then is_for_it() is not asked.
        self.awaits_ok = True
        self._next = int(numbered)  # the delivery tag that comes next on the new channel; 0 if that is not known

    def is_for_it(self, tag: int) -> bool:
        """Whether a delivery with this tag, which has come after open-ok, is for the earlier channel."""
        # A returned message has no tag, which is 0. An old delivery that happens to have the next tag is taken for a
        # new one: nothing tells them apart.
        return bool(self._next and tag and tag != self._next)

    def note_arrival(self, tag: int, queue: str) -> None:
        """The new channel has taken a delivery from this queue: the next one has the next number."""
        if self._next and tag:
            # Once it is 0 it stays 0: the number of the next delivery is not known any more.
            self._next = 0 if queue == DIRECT_REPLIES else tag + 1
