"""What a channel knows of the streams it reads: what they refuse, and what they leave behind.

Layer 3, a base class of Channel. A stream keeps its messages: an ack asks for
more, and there is nothing to give back. What RabbitMQ refuses, by version, is in
``state.queue_types``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import exceptions
from ..green.yielding import in_turns
from ..state.consumers import ConsumerRecord
from ..state.counters import Counters
from ..state.queue_types import OFFSET, STREAM, has_stream_offset
from ..state.unacked import Unacked, WideUnacked
from .request import Requester

__all__ = ('StreamMethods',)

_IF_NONE = 'if it is none, declare it over this connection'


class StreamMethods(Requester):
    """Mixin of Channel."""

    incarnation: int
    _counts: Counters
    _declared: str
    _unacked: Unacked | WideUnacked

    _limits_channel = 0  # messages, by basic_qos(a_global=True)
    _streams: set[str] | None = None  # tags of the consumers that read a stream; None when there never was one
    _left_of_streams = False  # their consumer has ended, and nobody had acked them

    def _check_queue(
        self, consumer: ConsumerRecord, queue: str, prefetch: int, arguments: Mapping[str, Any] | None
    ) -> None:
        """Raise if the queue cannot be consumed from in that way; else note what is known of it."""
        consumer.queue = queue or self._declared
        types = self._connection.queue_types
        types.check_consume(consumer.queue, consumer.no_ack, prefetch, self._limits_channel > 0, arguments)
        if (arguments and OFFSET in arguments) or types.type_of(consumer.queue) == STREAM:
            consumer.of_stream = True

    def look_at_first(self, consumer: ConsumerRecord, message: Any) -> None:
        """The first delivery of a consumer that acks: does it come from a stream? Does not switch."""
        consumer.books = True
        types = self._connection.queue_types
        # What was delivered before is no stream's, but a copy of a message that was.
        if has_stream_offset(message) and not message.redelivered and not types.type_of(consumer.queue):
            consumer.numbered = True
            types.is_stream(consumer.queue)
            self._reads_stream(consumer)

    def _reads_stream(self, consumer: ConsumerRecord) -> None:
        if self._streams is None:
            self._streams = set()
        self._streams.add(consumer.tag)

    def _check_refusing(self, tag: int, multiple: bool, sig: tuple[int, int]) -> None:
        """Raise AMQPNotImplementedError if the broker would end the connection over this nack or reject."""
        streams = self._streams
        if streams is None or not self._connection.queue_types.streams_refuse_nack:
            return
        if multiple:
            entries = (self._unacked.get(known) for known in self._unacked.covered(tag))
            refused = self._left_of_streams or any(entry is not None and entry[0] in streams for entry in entries)
        else:
            entry = self._unacked.get(tag)
            # One that is not known has been settled, or a stream gave it whose consumer has ended.
            refused = entry is None or entry[0] in streams
        if refused:
            raise exceptions.AMQPNotImplementedError(
                f'delivery {tag}: a stream takes nothing back; ack what was read ({_IF_NONE})', sig
            )

    def _check_recovering(self, sig: tuple[int, int]) -> None:
        if self._connection.queue_types.streams_refuse_nack and (self._streams or self._left_of_streams):
            raise exceptions.AMQPNotImplementedError(
                f'channel {self.channel_id} reads a stream, which takes nothing back ({_IF_NONE})', sig
            )

    def close_books(self, consumer: ConsumerRecord) -> None:
        """A consumer has ended: what a stream gave it and nobody acked awaits nothing any more. Does not switch.

        The program may ack it all the same; the broker knows it until the channel is closed.
        """
        if self._streams is None or not (consumer.of_stream or consumer.numbered):
            return
        self._streams.discard(consumer.tag)
        in_turns(self._connection.green, self._take_out_of_books(consumer.tag))

    def _take_out_of_books(self, tag: str) -> Iterator[None]:
        """A step for each delivery of the channel."""
        incarnation = self.incarnation
        for known, entry in list(self._unacked.items()):
            yield
            if self.incarnation != incarnation:
                return  # and the numbers are those of other deliveries
            if entry[0] == tag and self._unacked.settle(known, False):
                self._left_of_streams = True
                self._counts.given_back += 1
