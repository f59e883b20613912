"""Class basic, settling deliveries: ack, nack, reject; and giving back what the program has not seen.

Layer 3. Errors: see ``gamqp.channel``. None of these switches greenlets: each only hands a frame to the writer.
Does not belong here: which deliveries are unacked (``state.unacked``).
"""

from __future__ import annotations

from typing import Any

from ..green.os_threads import get_ident
from ..state.queue_types import has_stream_offset
from ..wire import encode_ack, encode_nack, encode_reject
from ..wire.spec import Basic
from .basic_recover import RecoverMethods

__all__ = ('AckMethods',)


class AckMethods(RecoverMethods):
    """Mixin of Channel."""

    _tag_offset: int  # what is added to the broker's delivery tags, see Channel

    @property
    def unsettled(self) -> int:
        """Deliveries that were not acked, nacked or rejected yet."""
        return self._unacked.total

    def _oldest_unsettled(self) -> tuple[int, str, float] | None:
        """(delivery tag, consumer tag, time.monotonic() of its arrival) of the delivery that waits longest."""
        return self._unacked.oldest()

    def _awaits_settlement(self, message: Any) -> bool:
        """Whether this delivery can still be acked, nacked or rejected."""
        return (
            self._usable_in is not None
            and message._incarnation == self._incarnation
            and message.delivery_tag in self._unacked
        )

    def _count_stale_settlement(self) -> None:
        """A delivery was to be settled that this channel knows no more."""
        self._counts.stale_settlements += 1

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: object = None) -> None:
        """Acknowledge a delivery, and with *multiple* all up to it (tag 0: all).

        Those of them that still wait here are settled too, and are not handed out any more.
        With *combine_acks* of the connection those that follow one another in one turn of the hub go out as one.
        """
        if get_ident() != self._usable_in:
            self._check(Basic.Ack)
        unsettled, writer = self._unacked, self._writer
        if multiple or unsettled.late is not None:
            self._ack_and_settle(delivery_tag, multiple)
            return
        ack, is_next, combines = b'', False, writer.combines
        if combines:
            # If the ack before waits in the queue and nothing behind it, one frame takes its place that settles both.
            is_next = delivery_tag == unsettled.settled_to + 1 and delivery_tag in unsettled
            if is_next and unsettled.last_ack is not None:
                ack = encode_ack(self.channel_id, delivery_tag, True)
                if not writer.replace_last(unsettled.last_ack, ack):
                    ack = b''
        if not ack:
            ack = encode_ack(self.channel_id, delivery_tag, False)
            writer.send(ack)
            is_next = is_next or (combines and not delivery_tag & 15 and unsettled.is_lowest(delivery_tag))
        try:
            del unsettled[delivery_tag]  # as ``settle``, without another call for each message
        except KeyError:
            unsettled.strays = True
        else:
            self._counts.acked += 1
            if is_next:
                unsettled.last_ack, unsettled.settled_to = ack, delivery_tag

    def _ack_and_settle(self, delivery_tag: int, multiple: bool) -> None:
        """An ack that is no simple one: for several deliveries, or one of those that have come back from disk."""
        self._writer.send(encode_ack(self.channel_id, delivery_tag, multiple))
        if multiple:
            self._cover(delivery_tag)
        self._counts.acked += self._unacked.settle(delivery_tag, multiple)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse deliveries: back to the queue, or without *requeue* dropped or dead-lettered (RabbitMQ extension).

        multiple: as basic_ack. A stream takes nothing back, and RabbitMQ before 3.13 ends the connection
        over it: AMQPNotImplementedError then, and nothing was sent. Ack what was read.
        """
        if get_ident() != self._usable_in:
            self._check(Basic.Nack)
        if self._streams is not None:
            self._streams.check_refusing(self._unacked, delivery_tag, multiple, Basic.Nack)
        self._writer.send(encode_nack(self.channel_id, delivery_tag, multiple, requeue))
        if multiple:
            self._cover(delivery_tag)
        self._counts.rejected += self._unacked.settle(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: object = None) -> None:
        """Refuse one delivery; as basic_nack, with the method of the AMQP standard. Errors as there."""
        if get_ident() != self._usable_in:
            self._check(Basic.Reject)
        if self._streams is not None:
            self._streams.check_refusing(self._unacked, delivery_tag, False, Basic.Reject)
        self._writer.send(encode_reject(self.channel_id, delivery_tag, requeue))
        self._counts.rejected += self._unacked.settle(delivery_tag, False)

    def _cover(self, tag: int) -> None:
        """A settlement with *multiple*: those of its deliveries that still wait here are not handed out any more."""
        if self._unacked.is_outgrown:
            self._replace_unsettled()
        tag = tag or self._unacked.latest()
        if self._void is not None:
            self._void.settle_to(tag)
        elif self._connection._backpressure.budget.messages:
            self._doubt().settle_to(tag)

    def _replace_unsettled(self) -> None:
        old = self._unacked
        self._unacked = old.successor()
        self._unacked.forget_settled(old)

    def _give_back(self, message: Any, of_stream: bool = False) -> None:
        """Have the broker queue a message again that the program has not seen. Does not switch, raises nothing.

        By nack where there is one: quorum queues count each reject against the message.
        of_stream: the queue is known to be a stream. Streams keep what they have, and
        RabbitMQ before 3.13 ends the connection over a nack: there it is an ack, which
        asks for more and no more than that.
        """
        self._give_back_tag(message.delivery_tag, message._incarnation, has_stream_offset(message), of_stream)

    def _give_back_tag(self, tag: int, incarnation: int, numbered: bool, of_stream: bool) -> None:
        """``_give_back`` for a message that is not at hand. numbered: whether it has a stream's offset."""
        if not self._takes_settlements or incarnation != self._incarnation:
            return
        number, known = self.channel_id, tag - self._tag_offset
        if numbered and of_stream:
            encoded = encode_ack(number, known, False)
        elif numbered and not self._connection._queue_types.takes_nack_of_any:
            # From a stream, or a copy of a message that was; an ack might lose that, so it stays unsettled.
            self._unacked.never_combine()
            return
        elif self._connection.server_capabilities.get('basic.nack'):
            encoded = encode_nack(number, known, False, True)
        else:
            encoded = encode_reject(number, known, True)
        self._unacked.settle(tag, False)
        self._counts.given_back += 1
        self._writer.send(encoded)

    def _give_back_known(self, message: Any, of_stream: bool) -> None:
        """``_give_back`` for a message that may have been settled since, by an ack or nack with *multiple*."""
        if message.delivery_tag in self._unacked:
            self._give_back(message, of_stream)
