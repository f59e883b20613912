"""The limits of unacked deliveries on one channel (basic.qos): what the program asked for, what the broker was told.

State, no I/O. https://www.rabbitmq.com/docs/consumer-prefetch
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ('NO_PREFETCH', 'Prefetch')


class Prefetch(NamedTuple):
    """A value: each change makes a new one, so channels without a limit share one object.

    wanted: messages for each consumer to come, as the program asked for. sent: what the broker was told
    last about those; None: nothing yet. of_channel: messages for the channel as a whole. unreported: the same
    until the log has said that this limit is used up. 0 is no limit.
    """

    wanted: int = 0
    sent: int | None = None
    of_channel: int = 0
    unreported: int = 0

    def ask_for(self, count: int) -> Prefetch:
        """The program wants this limit for its consumers to come, and the broker is told so."""
        return self._replace(wanted=count, sent=count)

    def limit_channel(self, count: int) -> Prefetch:
        """The program wants this limit for the whole channel, and the broker is told so."""
        return self._replace(of_channel=count, unreported=count)

    def differs_from(self, count: int) -> bool:
        """Whether the broker has to be told before a consumer with this limit is started."""
        return count != (self.sent or 0)

    def tell(self, count: int) -> Prefetch:
        """The broker is told so for one consumer; what the program wants for others stays."""
        return self._replace(sent=count)

    def report(self) -> Prefetch:
        """The log has said that the limit of the channel is used up."""
        return self._replace(unreported=0)


NO_PREFETCH = Prefetch()
