"""The Consumer that ``Channel.subscribe`` returns: what a program sees of a subscription.

Layer 3. The channel holds the inbox with its workers (``subscription``), and the program holds this object. Dropping it
ends nothing. Does not belong here: how messages are handled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state.uncopyable import Uncopyable

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from .subscription import SubscriptionInbox

__all__ = ('Consumer',)


class Consumer(Uncopyable):
    """A running subscription, made by ``Channel.subscribe``. It goes on when this object is dropped."""

    __slots__ = ('_inbox',)

    def __init__(self, inbox: SubscriptionInbox) -> None:
        self._inbox = inbox

    def __repr__(self) -> str:
        inbox = self._inbox
        state = 'ended' if inbox.over else 'ending' if inbox.entry.discard else 'running'
        return f'<Consumer {inbox.tag} {state}: {inbox.delivered} delivered, {inbox.in_flight} in flight>'

    @property
    def tag(self) -> str:
        """The consumer tag."""
        return self._inbox.tag

    @property
    def channel(self) -> Channel:
        """The channel that it was started on."""
        return self._inbox.channel

    @property
    def delivered(self) -> int:
        """Messages that have arrived."""
        return self._inbox.delivered

    @property
    def acked(self) -> int:
        """Messages that were handled, and acked here."""
        return self._inbox.acked

    @property
    def failed(self) -> int:
        """Messages whose handler raised."""
        return self._inbox.failed

    @property
    def in_flight(self) -> int:
        """Messages that are being handled now."""
        return self._inbox.in_flight

    def cancel(self, wait: bool = True, timeout: float | None = None) -> None:
        """Take no more messages; what no handler has begun goes back to the queue. Twice does no harm.

        wait: also wait for the running handlers, and for those of messages that came
        with no_ack. timeout: seconds, None for as long as they take; TimeoutError
        then, and the handlers run on. In one of its own handlers it waits for those
        others that do not wait here, too. Raises why the channel ended if the cancel
        could not be sent. Switches greenlets.
        """
        self._inbox.cancel(wait, timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the consumer has ended and its handlers have returned. Switches greenlets.

        timeout: seconds, None for ever (TimeoutError). Returns after a cancel of
        ours; raises ConsumerCancelled when the broker cancelled it, why the channel
        or connection ended, and with on_error='stop' what the handler raised.
        """
        self._inbox.join(timeout)
