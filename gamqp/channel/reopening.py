"""A channel takes the place of another with its number; what was for the old one does not reach the new one.

Layer 3, a base class of Channel. A channel that the broker has closed begins anew, and
a close that was not answered in time leaves its number to the next. RabbitMQ's queues
go on writing for a while after its channel.close: deliveries, returns, cancels, confirms, replies. Until open-ok all of
it is dropped, by a table that takes the place of the channel's own. Its old writer may
even be slower than the new channel: what still comes then is recognised by its number,
and by the replies that are due. Does not belong here: what becomes of callers and consumers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..state.expected_replies import Expected
from ..wire import METHODS, encode_method
from ..wire.spec import Channel as ChannelSpec
from .open_state import OpenState

__all__ = ('Reopening',)

# RabbitMQ's pseudo-queue of replies. Before 4.2 they bear the number of the next delivery, which bears it, too: once
# there are such, nothing can be told by numbers.
DIRECT_REPLIES = 'amq.rabbitmq.reply-to'

Methods = Mapping[tuple[int, int], Callable[..., None]]


class Reopening(OpenState):
    """Which incarnation of the channel something is for."""

    # Whether open-ok is awaited and what comes before it is not for us: the broker has closed the channel,
    # or it has not answered the close of another channel with this number.
    _is_reopening = False

    _HANDLERS: Methods
    _on_open_ok: Callable[[Any], None]
    _arriving: int
    _consumers: Any
    _next = 0  # the delivery tag that comes next, where it was reopened; 0 if that is not known
    _starting: dict[str, list[Expected]] | None

    def _is_of_before(self, message: Any) -> bool:
        """Whether this was for the channel as it was before the broker closed it.

        Not the next number is no new delivery, nor is one to a consumer before its consume-ok.
        """
        if self._is_reopening or (self._starting is not None and message.consumer_tag in self._starting):
            return self._incarnation > 0
        return bool(self._next and message.delivery_tag and message.delivery_tag != self._next)

    def _note_arrival(self, message: Any) -> None:
        """A delivery was taken: the next one has the next number."""
        if self._next and message.delivery_tag:
            consumer = self._consumers.get(message.consumer_tag)
            direct = consumer is not None and consumer.queue == DIRECT_REPLIES
            self._next = 0 if direct else message.delivery_tag + 1

    def _reopen(self) -> None:
        """Ask for the new channel. What is sent from now on stands behind that."""
        self._incarnation += 1
        self._arriving = self._incarnation
        self._is_reopening = True
        # RabbitMQ numbers the deliveries of a channel without a gap.
        self._next = 1 if self._connection.server_properties.get('product') == 'RabbitMQ' else 0
        self._HANDLERS = _WHILE_REOPENING  # a table instead of a question for each method that arrives
        self._ask(ChannelSpec.Open, ('',), Expected((ChannelSpec.OpenOk,), None, self._on_open_ok))

    def _wait_for_close_ok(self) -> None:
        """Another channel has had this number, and its close is not answered."""
        self._is_reopening = True
        self._HANDLERS = _BEFORE_CLOSE_OK

    def _hear_all(self) -> None:
        """open-ok has come, or will not."""
        if self._is_reopening:
            self._is_reopening = False
            del self._HANDLERS


def _ignore(channel: Any, *args: Any) -> None:
    """A method for the channel as it was before the broker closed it, or for another one with its number."""


def _close(channel: Any, *args: Any) -> None:
    """channel.open is refused, or the closes have crossed."""
    channel._on_close(*args)


def _crossed(channel: Any, *args: Any) -> None:
    """The broker closed the channel that had this number before, when we did."""
    channel._connection._count_answer()
    channel._writer.send(encode_method(channel.channel_id, ChannelSpec.CloseOk, ()))


def _closed_at_last(channel: Any) -> None:
    """The close of the channel that had this number before is answered."""
    channel._connection._closes_due.discard(channel.channel_id)
    channel._HANDLERS = _WHILE_REOPENING


# open-ok is a reply like any other.
_WHILE_REOPENING: Methods = {
    **{sig: _ignore for sig in METHODS if sig != ChannelSpec.OpenOk},
    ChannelSpec.Close: _close,
}
_BEFORE_CLOSE_OK = {**_WHILE_REOPENING, ChannelSpec.Close: _crossed, ChannelSpec.CloseOk: _closed_at_last}
