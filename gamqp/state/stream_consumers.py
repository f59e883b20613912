"""The consumers of a channel that read a stream, and which calls the broker refuses because of them.

State, no I/O. A stream keeps its messages: an ack only asks for more, and a nack cannot give a message back.
``queue_types`` knows which version of RabbitMQ refuses what. Does not belong here: the calls (``channel``).
"""

from __future__ import annotations

from .. import exceptions
from .queue_types import QueueTypes
from .unacked import Unacked, WideUnacked

__all__ = ('StreamConsumers',)

_IF_NONE = 'if it is none, declare it over this connection'


class StreamConsumers:
    """The stream consumers of one channel; made when the first one starts."""

    __slots__ = ('_left_unacked', '_queue_types', '_tags')

    def __init__(self, queue_types: QueueTypes) -> None:
        self._queue_types = queue_types
        # Of consumers that have not ended. For what an ended one left unacked there is only the flag below.
        self._tags: set[str] = set()
        # Those tags are kept nowhere, so it stays True. The channel drops this object when it ends or begins anew.
        self._left_unacked = False

    def enter(self, tag: str) -> None:
        """This consumer reads a stream."""
        self._tags.add(tag)

    def leave(self, tag: str) -> None:
        """It has ended."""
        self._tags.discard(tag)

    def note_left_unacked(self) -> None:
        """A consumer has ended, and a delivery of it was forgotten that nobody had acked."""
        self._left_unacked = True

    def check_refusing(self, unacked: Unacked | WideUnacked, tag: int, multiple: bool, sig: tuple[int, int]) -> None:
        """Raise AMQPNotImplementedError if the broker would end the connection over this nack or reject."""
        if not self._queue_types.streams_refuse_nack:
            return
        tags = self._tags
        if multiple:
            # get(), since the garbage collector may settle some meanwhile. This takes time for each delivery that the
            # nack covers, as settling them does.
            entries = (unacked.get(known) for known in unacked.covered(tag))
            # What an ended consumer left is in no list, so any nack with multiple may cover it.
            refused = self._left_unacked or any(entry is not None and entry[0] in tags for entry in entries)
        else:
            entry = unacked.get(tag)
            # One that is not known has been settled, or a stream gave it whose consumer has ended.
            refused = entry is None or entry[0] in tags
        if refused:
            raise exceptions.AMQPNotImplementedError(
                f'delivery {tag}: a stream takes nothing back; ack what was read ({_IF_NONE})', sig
            )

    def check_recovering(self, channel_id: int, sig: tuple[int, int]) -> None:
        """Raise AMQPNotImplementedError if the broker would end the connection over a recover."""
        # recover concerns all unacked deliveries of a channel, so no tag is looked at.
        if self._queue_types.streams_refuse_nack and (self._tags or self._left_unacked):
            raise exceptions.AMQPNotImplementedError(
                f'channel {channel_id} reads a stream, which takes nothing back ({_IF_NONE})', sig
            )
