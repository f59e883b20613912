"""The limits of unacked deliveries on one channel (basic.qos): those that the program wants and those sent last.

State, no I/O. Does not belong here: sending (``channel.basic_qos``). https://www.rabbitmq.com/docs/consumer-prefetch
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ('NO_PREFETCH', 'Prefetch')


class Prefetch(NamedTuple):
    """A value: each change makes a new one, so channels without a limit share one object.

    * wanted: messages for each new consumer, set by the program with basic_qos.
    * sent: the limit for new consumers in the last basic.qos that was sent; None: none was sent yet.
    * of_channel: messages for the channel as a whole.
    * unreported: the same as of_channel until the log has said that this limit is used up, then 0.

    0 is no limit.
    """

    wanted: int = 0
    sent: int | None = None
    of_channel: int = 0
    unreported: int = 0

    def ask_for(self, count: int) -> Prefetch:
        """The program wants this limit for new consumers; the caller sends it."""
        # Both change, because basic_qos sends the limit at once.
        return self._replace(wanted=count, sent=count)

    def limit_channel(self, count: int) -> Prefetch:
        """The program wants this limit for the whole channel; the caller sends it."""
        # ``sent`` stays: RabbitMQ keeps the limit of a channel apart from the one for new consumers.
        return self._replace(of_channel=count, unreported=count)

    def differs_from(self, count: int) -> bool:
        """Whether basic.qos has to be sent before a consumer with this limit is started."""
        # A channel on which no basic.qos was sent has no limit, which is 0.
        return count != (self.sent or 0)

    def note_sent(self, count: int) -> Prefetch:
        """This limit is sent for one consumer; the program still wants another one for other consumers."""
        # A later consumer without a limit of its own is compared with ``sent`` and has ``wanted`` sent again.
        return self._replace(sent=count)

    def report(self) -> Prefetch:
        """The log has said that the limit of the channel is used up."""
        # ``of_channel`` stays, as the limit still holds. A new limit is reported again.
        return self._replace(unreported=0)


# One object for all channels, which is safe since a tuple cannot be changed.
NO_PREFETCH = Prefetch()
