"""How much may be received and not yet handed to the program.

State, no I/O. One budget per connection: when it is spent the reader stops
reading and TCP holds the broker back. Reading goes on at half the budget, not
one message below it, so that the stop does not flap.
"""

from __future__ import annotations

import sys

__all__ = ('ReceiveBudget',)

# What a message takes in memory beside its body, measured: the object, its undecoded bytes, its place in a queue.
COST = 500


class ReceiveBudget:
    """Counts undelivered messages and their bytes: bodies, and properties where they are large.

    max_bytes: of memory, so that each message counts COST more than its body. For both 0 is no limit.
    """

    __slots__ = ('bytes', 'max_bytes', 'max_messages', 'messages')

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages or sys.maxsize
        self.max_bytes = max_bytes or sys.maxsize
        self.messages = 0
        self.bytes = 0

    def take(self, size: int) -> None:
        self.messages += 1
        self.bytes += size

    def give_back(self, size: int) -> None:
        self.messages -= 1
        self.bytes -= size

    @property
    def memory(self) -> int:
        """What these messages take, in bytes."""
        return self.bytes + self.messages * COST

    @property
    def spent(self) -> bool:
        return self.messages >= self.max_messages or self.memory >= self.max_bytes

    @property
    def overspent(self) -> bool:
        """By a quarter: what had to be read all the same, for a reply's sake, must go somewhere else."""
        return self.messages * 4 >= self.max_messages * 5 or self.memory * 4 >= self.max_bytes * 5

    @property
    def relaxed(self) -> bool:
        """At most half is in use: a reader that stopped may read again."""
        return self.messages <= self.max_messages // 2 and self.memory <= self.max_bytes // 2
