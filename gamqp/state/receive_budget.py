"""How much may be received and not yet handed to the program.

State, no I/O. There is one budget a connection. When it is spent, the reader stops
reading, and TCP stops the broker. The reader goes on when half of the budget is free; if it
went on at the first free message, it would stop and start all the time.
Does not belong here: stopping and starting (``connection.receive_backpressure``).
"""

from __future__ import annotations

import sys

__all__ = ('ReceiveBudget',)

# Bytes of memory for a message beside its body (measured): the object, its undecoded bytes, its place in a queue.
COST = 500


class ReceiveBudget:
    """Counts undelivered messages and their bytes: of bodies, and of properties where they are large.

    max_bytes: bytes of memory, so each message counts COST more than its body. 0 is no limit, for both.
    """

    __slots__ = ('bytes', 'max_bytes', 'max_messages', 'messages')

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        # No limit is a number that is never reached. So the properties below need no case of their own for it.
        self.max_messages = max_messages or sys.maxsize
        self.max_bytes = max_bytes or sys.maxsize
        # The two change together. Each message is subtracted with the size with which it was added; a difference would
        # last as long as the connection. The event queue changes them itself, to save a call for each message.
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
        """Bytes of memory that these messages take."""
        # Computed when it is asked for, so that a delivery costs two additions and no more.
        return self.bytes + self.messages * COST

    @property
    def spent(self) -> bool:
        # The reader asks before each read, so one read goes beyond the limit at most, unless a call waits for its
        # reply.
        return self.messages >= self.max_messages or self.memory >= self.max_bytes

    @property
    def overspent(self) -> bool:
        """Whether the limit is exceeded by a quarter, because the reader goes on while a call waits for its reply.

        Further deliveries then go to a temporary file.
        """
        # In whole numbers, since a limit may be as large as sys.maxsize.
        return self.messages * 4 >= self.max_messages * 5 or self.memory * 4 >= self.max_bytes * 5

    @property
    def relaxed(self) -> bool:
        """Whether at most half is in use, so that a reader that has stopped may read again."""
        # With a limit of 1 this is 0: the reader goes on when the last message is handed out.
        return self.messages <= self.max_messages // 2 and self.memory <= self.max_bytes // 2
