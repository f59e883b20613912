"""How much may be received and not yet handed to the program.

State, no I/O. One budget per connection: when it is spent the reader stops
reading and TCP holds the broker back. Reading goes on at half the budget, not
one message below it, so that the stop does not flap.
"""

from __future__ import annotations

__all__ = ('Budget',)


class Budget:
    """Counts undelivered messages and their body bytes."""

    __slots__ = ('bytes', 'max_bytes', 'max_messages', 'messages')

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0

    def take(self, size: int) -> None:
        self.messages += 1
        self.bytes += size

    def give_back(self, size: int) -> None:
        self.messages -= 1
        self.bytes -= size

    def clear(self) -> None:
        self.messages = self.bytes = 0

    @property
    def spent(self) -> bool:
        return self.messages >= self.max_messages or self.bytes >= self.max_bytes

    @property
    def relaxed(self) -> bool:
        """At most half is in use: a reader that stopped may read again."""
        return self.messages <= self.max_messages // 2 and self.bytes <= self.max_bytes // 2
