"""Which of the deliveries that have arrived on a channel, and were not handed out, are void.

State, no I/O. A delivery is void when the broker has taken it back (the channel was closed or told to recover), or
when the program has settled it by a *multiple* before it was handed out. Nothing is looked up for a message until
there may be void ones. Does not belong here: who passes them over and frees their memory (``connection.event_queue``,
``consuming.inbox``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .consumers import ConsumerRecord

if TYPE_CHECKING:
    from ..basic_message import Message

__all__ = ('VoidDeliveries',)


class VoidDeliveries:
    """Of one channel; made when there may be one.

    era: how often all consumers of the channel have ended with it. settled_to: the highest delivery tag of a
    settlement with *multiple*, since tags have begun at 1.
    """

    __slots__ = ('era', 'settled_to')

    def __init__(self) -> None:
        # A consumer keeps the era in which it was started (``ConsumerRecord.era``). The end of a channel changes a
        # number here and no message, so it costs the same however many messages wait.
        self.era = 0
        # Delivery tags begin at 1, so 0 covers none.
        self.settled_to = 0

    def end_era(self) -> None:
        """All consumers of the channel have ended; the broker takes back what was delivered to them."""
        self.era += 1
        self.restart_tags()

    def restart_tags(self) -> None:
        """The next delivery of the channel has the tag 1 again, in a new incarnation."""
        self.settled_to = 0

    def settle_to(self, tag: int) -> None:
        """The program has settled all deliveries up to this tag, also those that were not handed out."""
        # A later settlement may name a lower tag. It takes nothing back.
        self.settled_to = max(self.settled_to, tag)

    def covers(self, consumer: ConsumerRecord, message: Message, incarnation: int) -> bool:
        """Whether a message that was delivered to *consumer* must not be handed out any more.

        incarnation: of the channel now. With no_ack the broker takes nothing back, so an inbox still hands out what
        it has when the channel has ended. A callback of that channel is not called any more.
        """
        if consumer.era != self.era and not (consumer.no_ack and consumer.inbox is not None):
            return True
        # No_ack deliveries have tags from the same sequence, but no settlement concerns them. The incarnation grows
        # when the tags of a channel become void, so it is compared before the tag.
        return not consumer.no_ack and (message._incarnation != incarnation or message.delivery_tag <= self.settled_to)
