"""The named tuples that queue_declare and returned messages have, under py-amqp's names.

Layer 1: plain data. Does not belong here: methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .basic_message import Message

__all__ = ('basic_return_t', 'queue_declare_ok_t')


class queue_declare_ok_t(NamedTuple):
    """What queue_declare returns.

    queue: its name. message_count, consumer_count: how many there are, where the queue was there before.
    """

    queue: str
    message_count: int
    consumer_count: int


class basic_return_t(NamedTuple):
    """One returned message.

    reply_code, reply_text: why it came back. exchange, routing_key: where it was to go. message: the Message.
    """

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    message: Message
