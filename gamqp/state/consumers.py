"""The consumers of one channel, by consumer tag.

State, no I/O. A consumer is entered before basic.consume is sent, because its
first delivery may arrive before the caller wakes, and leaves when nothing more
can arrive for it: when cancel-ok has come, or when the broker cancelled it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ('Consumer', 'Consumers')


class Consumer:
    """What is known of one consumer.

    callback: takes a message, or None: messages are dropped. on_cancel: takes
    the consumer tag, or None. discard: deliveries are given back instead of
    being delivered (the caller of consume gave up before it learned the tag).
    """

    __slots__ = ('callback', 'discard', 'no_ack', 'on_cancel', 'tag')

    def __init__(
        self,
        tag: str,
        callback: Callable[[Any], Any] | None,
        on_cancel: Callable[[str], Any] | None,
        no_ack: bool,
    ) -> None:
        self.tag = tag
        self.callback = callback
        self.on_cancel = on_cancel
        self.no_ack = no_ack
        self.discard = False


class Consumers(dict[str, Consumer]):
    """Tag -> Consumer, with a source of fresh tags."""

    __slots__ = ('_made',)

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    def fresh_tag(self, channel_id: int) -> str:
        """A tag no consumer of this connection has: tags made here carry the channel's number."""
        while True:
            self._made += 1
            tag = f'gamqp.{channel_id}.{self._made}'
            if tag not in self:
                return tag
