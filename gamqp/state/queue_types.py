"""Which queues of a connection are streams or quorum queues, and which calls RabbitMQ refuses for those.

State, no I/O. RabbitMQ answers some calls that a queue's type does not support by
closing the connection, with all its channels. The checks here raise before such a call is
sent. They go by what is known of a queue: how it was declared over this connection, that it was
consumed from with a stream's argument, that its messages have a stream's header. They refuse what the
broker in use refuses, and nothing else. Does not belong here: the calls (``channel``).
https://www.rabbitmq.com/docs/streams https://www.rabbitmq.com/docs/quorum-queues
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from .. import exceptions
from ..wire.spec import Basic, Queue

__all__ = ('CLASSIC', 'OFFSET', 'QUORUM', 'STREAM', 'QueueTypes', 'check_offset')

CLASSIC, QUORUM, STREAM = 'classic', 'quorum', 'stream'

# An argument of consume, and a header of each message that a stream delivers.
OFFSET = 'x-stream-offset'

# How many classic queues are remembered. Programs may declare a new reply queue for each request.
REMEMBERED = 1000

OFFSET_NAMES = ('first', 'last', 'next')
# A positive number and a unit. M is a month, m a minute.
INTERVAL = re.compile('0*[1-9][0-9]*[YMDhms]')


class QueueTypes:
    """Queue name -> type, as far as it is known; the name '' has no type.

    version: RabbitMQ's, by ``negotiation.rabbitmq_version``; () for another broker, for which nothing is refused.
    """

    __slots__ = ('_classic', '_types', '_version')

    def __init__(self, version: tuple[int, ...] = ()) -> None:
        self._version = version
        # Streams and quorum queues. Never cut: a program has few of them, and one that was forgotten could cost the
        # connection. A queue is in at most one of the two dicts.
        self._types: dict[str, str] = {}
        self._classic: dict[str, None] = {}  # oldest first

    # -- learning ------------------------------------------------------------------

    def declare(self, queue: str, arguments: Mapping[str, Any] | None) -> None:
        """A queue was declared with these arguments, which name its type or none."""
        kind = (arguments or {}).get('x-queue-type')
        # What was known before is void: the queue may have been deleted and declared anew by another program.
        self.forget(queue)
        # A type that is not known here, perhaps of a plugin, is not entered. Then nothing is refused.
        if kind in (QUORUM, STREAM):
            self._types[queue] = kind
        # Since 3.11 a virtual host may have another default.
        elif kind == CLASSIC or (kind is None and () < self._version < (3, 11)):
            # forget() has removed an older entry, so this one stands at the end.
            self._classic[queue] = None
            if len(self._classic) > REMEMBERED:
                del self._classic[next(iter(self._classic))]

    def is_stream(self, queue: str) -> None:
        """A stream's argument was accepted for this queue, or a message of it has a stream's header."""
        if queue:
            # It may be there from a declaration. Since then another program may have declared the queue anew.
            self._classic.pop(queue, None)
            self._types[queue] = STREAM

    def forget(self, queue: str) -> None:
        """The queue was deleted, or declared again."""
        self._types.pop(queue, None)
        self._classic.pop(queue, None)

    def type_of(self, queue: str) -> str:
        """The type of a queue, '' where it is not known."""
        return self._types.get(queue) or (CLASSIC if queue in self._classic else '')

    # -- what the broker refuses -------------------------------------------------------

    @property
    def streams_refuse_nack(self) -> bool:
        """Whether RabbitMQ closes the connection over nack, reject and recover of a stream's message (before 3.13)."""
        # () is another broker, and is less than each version.
        return () < self._version < (3, 13)

    @property
    def takes_nack_of_any(self) -> bool:
        """Whether every message can be nacked, also a stream's (RabbitMQ from 3.13 on)."""
        return self._version >= (3, 13)

    def check_get(self, queue: str) -> None:
        """Raise AMQPNotImplementedError if the broker refuses basic.get for this queue."""
        # Another broker may know what RabbitMQ does not: it is asked itself.
        if self._version and self.type_of(queue) == STREAM:
            raise _refusal(f'{queue!r} is a stream, which knows no basic.get: use a consumer', Basic.Get)

    def check_purge(self, queue: str) -> None:
        """Raise AMQPNotImplementedError if this queue cannot be purged."""
        if self._version and self.type_of(queue) == STREAM:
            raise _refusal(
                f'{queue!r} is a stream, which cannot be purged: its retention limits drop messages', Queue.Purge
            )

    def check_delete(self, queue: str, if_unused: bool, if_empty: bool) -> None:
        """Raise AMQPNotImplementedError if this queue cannot be deleted in that way."""
        if (if_unused or if_empty) and self._version and self.type_of(queue) == QUORUM:
            # The error names one argument, also where both were given.
            name = 'if_unused' if if_unused else 'if_empty'
            raise _refusal(f'{queue!r} is a quorum queue, which is deleted without {name} only', Queue.Delete)

    def check_consume(
        self, queue: str, no_ack: bool, prefetch: int, channel_limit: bool, arguments: Mapping[str, Any] | None
    ) -> None:
        """Raise if this queue cannot be consumed from in that way: ValueError, or AMQPNotImplementedError.

        prefetch: of the consumer, 0 for none. channel_limit: whether the channel as a whole has one.
        """
        kind = self.type_of(queue)
        if not self._version:
            return
        if arguments and OFFSET in arguments:
            # With this argument the queue is taken for a stream, unless it is known to be none.
            check_offset(arguments[OFFSET])
            if kind in (CLASSIC, QUORUM):
                raise ValueError(f'arguments: {OFFSET} is for streams, and {queue!r} is a {kind} queue')
            kind = STREAM
        if channel_limit and kind in (QUORUM, STREAM) and self._version < (4, 3):
            raise _refusal(
                f'{queue!r} is a quorum queue or a stream, which has no limit for a whole channel: '
                'call basic_qos with a_global=False',
                Basic.Consume,
            )
        if kind == STREAM:
            if no_ack:
                raise ValueError(f'no_ack: {queue!r} is a stream, which is read with acks')
            if not prefetch and not channel_limit:  # RabbitMQ 4.3 takes a channel's limit for that of each consumer
                raise ValueError(f'prefetch: {queue!r} is a stream, which is read with a prefetch above 0 (basic_qos)')
            if 'x-priority' in (arguments or ()):
                raise ValueError(f'arguments: {queue!r} is a stream, whose consumers have no x-priority')


def check_offset(offset: Any) -> None:
    """Raise ValueError for an x-stream-offset over which RabbitMQ would close the channel or connection."""
    if isinstance(offset, str):
        if offset not in OFFSET_NAMES and not INTERVAL.fullmatch(offset):
            raise ValueError(
                f'{OFFSET}: {", ".join(OFFSET_NAMES)}, a number, a datetime or an interval '
                f"such as '30m' (units Y M D h m s), not {offset!r}"
            )
    elif isinstance(offset, bytes):
        if offset not in [name.encode() for name in OFFSET_NAMES]:
            raise ValueError(f'{OFFSET}: of bytes there are {", ".join(OFFSET_NAMES)} only, not {offset!r}')
    elif isinstance(offset, bool) or not isinstance(offset, (int, datetime.datetime)):
        # A bool is an int for Python, but has a type of its own on the wire.
        raise ValueError(f'{OFFSET}: a str, an int or a datetime, not {type(offset).__name__}')


def _refusal(text: str, sig: tuple[int, int]) -> exceptions.AMQPNotImplementedError:
    return exceptions.AMQPNotImplementedError(text, sig)


def has_stream_offset(message: Any) -> bool:
    """Whether this message has the header in which a stream numbers its messages."""
    try:
        # Properties of a delivery are decoded when they are first used. Faults in them are found here.
        return OFFSET in message.headers
    except exceptions.AMQPError:
        return False  # its properties cannot be decoded
