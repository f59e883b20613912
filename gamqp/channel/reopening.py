"""A channel takes the place of another with its number; what was for the old one does not reach the new one.

Layer 3, a base class of Channel. A channel that the broker has closed begins anew, and a close that was not answered in
time leaves its number to the next. RabbitMQ's queues go on writing for a while after its channel.close: deliveries,
returns, cancels, confirms, replies. Until open-ok all of it is dropped, by a table of handlers that takes the place of
the channel's own. What comes even later is recognised by its delivery tag (``state.earlier_channel``), and by the
replies that are due. Does not belong here: what becomes of callers and consumers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import green
from ..state.consumers import ConsumerTable
from ..state.earlier_channel import EarlierChannel
from ..state.expected_replies import Expected
from ..state.lifecycle import Reason
from ..state.void_deliveries import VoidDeliveries
from ..wire import METHODS, encode_method
from ..wire.spec import Channel as ChannelSpec
from .open_state import OpenState
from .waiting_for_confirms import ChannelConfirms

__all__ = ('Reopening',)

Methods = Mapping[tuple[int, int], Callable[..., None]]


class Reopening(OpenState):
    """Mixin of Channel."""

    _HANDLERS: Methods  # of what arrives; for a time one of the tables below
    _arriving: int
    _closed_reason: Callable[[], Reason]
    _confirms: ChannelConfirms | None
    _consumers: ConsumerTable
    _earlier: EarlierChannel | None
    _end_unanswered: Callable[[], None]
    _give_up: Callable[[Any], None]
    _on_open_ok: Callable[[Any], None]
    _owes_close_ok: bool
    _send_prefetch_again: Callable[[], None]
    _set_active: Callable[[bool], None]
    _void: VoidDeliveries | None

    @property
    def _is_reopening(self) -> bool:
        """Whether what arrives is for the channel that had this number before, until open-ok."""
        return self._earlier is not None and self._earlier.awaits_ok

    def _is_of_before(self, message: Any) -> bool:
        """Whether this content was for the channel as it was before the broker closed it.

        So is a delivery to a consumer whose consume-ok has still to come: its tag was in use before.
        """
        if self._earlier is None:
            return False  # as on a new socket, where a broker may say consume-ok late
        if self._is_reopening or self._consumers.is_starting(message.consumer_tag):
            return self._incarnation > 0
        return self._earlier.is_for_it(message.delivery_tag)

    def _note_arrival(self, message: Any) -> None:
        """A delivery was taken."""
        if self._earlier is not None:
            consumer = self._consumers.get(message.consumer_tag)
            self._earlier.note_arrival(message.delivery_tag, '' if consumer is None else consumer.queue)

    def _reopen(self) -> None:
        """Ask for the new channel. What is sent from now on stands behind that. Does not switch."""
        self._begin_incarnation()
        # Only RabbitMQ is known to number the deliveries of a channel without a gap.
        self._earlier = EarlierChannel(self._connection.server_properties.get('product') == 'RabbitMQ')
        self._HANDLERS = _WHILE_REOPENING  # a table instead of a question for each method that arrives
        self._ask(ChannelSpec.Open, ('',), Expected((ChannelSpec.OpenOk,), None, self._on_open_ok))

    def _begin_incarnation(self) -> None:
        """Delivery tags begin at 1 again, and older ones are void."""
        if self._void is not None:
            self._void.restart_tags()
        self._incarnation += 1
        self._arriving = self._incarnation

    def _close_and_open_again(self) -> None:
        """Have the broker forget all about this channel, which has no consumers and no unacked deliveries. Switches.

        The prefetch is sent again, and the queue name '' stands for no queue any more. No other greenlet may use the
        channel meanwhile. If the caller is killed, or the broker does not answer in time, the channel ends.
        """
        slot = green.Slot(self._connection._green)
        opening = Expected((ChannelSpec.OpenOk,), slot, self._on_open_ok, self._give_up)
        self._life.move('close')
        self._usable_in = None
        try:
            self._call(ChannelSpec.Close, (0, '', 0, 0), arrived=lambda _: self._open_again(opening))
        except BaseException:
            opening.abandon()  # close-ok may have come, and channel.open have gone out, right before this
            self._end_unanswered()
            raise
        self._await_reply(opening, ChannelSpec.Open, None)
        self._send_prefetch_again()

    def _open_again(self, opening: Expected) -> None:
        """close-ok has come, behind which RabbitMQ sends nothing more that is for the channel as it was."""
        self._send_owed_close_ok()
        if self._confirms is not None:
            self._confirms.end(self._closed_reason(), None)
        if self._declared:
            self._declared = ''
        self._set_active(True)
        self._begin_incarnation()
        self._life.move('reopen')
        self._ask(ChannelSpec.Open, ('',), opening)

    def _send_owed_close_ok(self) -> None:
        """Our close is answered, or will not be: now the broker's own, which crossed it, is answered, too."""
        if self._owes_close_ok:
            self._owes_close_ok = False
            self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))

    def _wait_for_close_ok(self) -> None:
        """Another channel has had this number, and its close is not answered."""
        self._earlier = EarlierChannel(False)
        self._HANDLERS = _BEFORE_CLOSE_OK

    def _hear_all(self) -> None:
        """open-ok has come, or will not: what arrives is for this channel now, unless its tag tells otherwise."""
        if self._earlier is not None and self._earlier.awaits_ok:
            self._earlier.awaits_ok = False
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
