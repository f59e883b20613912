"""Which messages a handler has failed on, and how often in a row.

State, no I/O. AMQP gives messages no identity, so two messages with the same body, exchange and
routing key count as one here. Only failures cost anything: a message that was handled is looked for
by nobody, and one that was not delivered before begins anew.
"""

from __future__ import annotations

from typing import Any

__all__ = ('HandlerFailures',)

# Seconds that a message which failed is kept before it goes back to its queue: at first, and at most.
SHORTEST, LONGEST = 0.01, 10.0

# Messages that are remembered, the latest.
REMEMBERED = 1000


class HandlerFailures:
    """Of one consumer."""

    __slots__ = ('_counts',)

    def __init__(self) -> None:
        self._counts: dict[Any, tuple[int, Any]] = {}  # message -> how often in a row, and what the latest was

    def note(self, message: Any, redelivered: bool, what: Any) -> tuple[int, bool]:
        """A handler has failed on this message. Returns how often in a row, and whether it was of another kind before.

        message: what tells it from others. what: the kind of failure.
        """
        count, before = self._counts.pop(message, (0, None)) if redelivered else (0, None)
        self._counts[message] = count + 1, what
        if len(self._counts) > REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return count + 1, what != before


def delay(count: int) -> float:
    """Seconds to keep a message that has failed so often in a row."""
    return min(LONGEST, SHORTEST * 2.0 ** min(count - 1, 20))
