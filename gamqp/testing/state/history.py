"""What was published, for tests to look at.

Layer 5, pure. Bounded: by number and by bytes, the oldest goes first, and asking for what is gone is an error.
Does not belong here: queues.
"""

from __future__ import annotations

from collections import deque

from .message import StoredMessage

__all__ = ('History', 'KeptMessages')

Name = str | bytes
_COST = 300  # bytes of a message beside its own


class KeptMessages:
    """What is kept of one exchange, the oldest first."""

    __slots__ = ('dropped', 'messages')

    def __init__(self) -> None:
        self.messages: deque[StoredMessage] = deque()
        self.dropped = 0


class History:
    """The messages that clients have published, by virtual host and exchange. limit: bytes that are kept, about."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._bytes = 0
        self._by_exchange: dict[tuple[str, Name], KeptMessages] = {}
        self._order: deque[KeptMessages] = deque()

    def of(self, vhost: str, exchange: Name) -> KeptMessages:
        """Where the messages to one exchange are kept, for ``record``; the same for good."""
        key = (vhost, exchange)
        kept = self._by_exchange.get(key)
        if kept is None:
            kept = self._by_exchange[key] = KeptMessages()
        return kept

    def record(self, kept: KeptMessages, message: StoredMessage) -> None:
        """A message was published. kept: of its exchange."""
        kept.messages.append(message)
        self._order.append(kept)
        self._bytes += len(message.body) + _COST
        while self._bytes > self.limit:
            oldest = self._order.popleft()
            oldest.dropped += 1
            self._bytes -= len(oldest.messages.popleft().body) + _COST

    def published(self, vhost: str, exchange: Name) -> list[StoredMessage]:
        """What was published to an exchange, oldest first. Raises LookupError if some of it is not kept any more."""
        kept = self._by_exchange.get((vhost, exchange))
        if kept is None:
            return []
        if kept.dropped:
            raise LookupError(
                f'{kept.dropped} messages to exchange {exchange!r} are not kept any more: give Broker a larger history'
            )
        return list(kept.messages)

    def clear(self) -> None:
        """Forget what was published until now."""
        for kept in self._by_exchange.values():
            kept.messages.clear()
            kept.dropped = 0
        self._order.clear()
        self._bytes = 0
