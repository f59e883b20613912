"""Which messages a handler has failed on, and how often in a row.

State, no I/O. AMQP messages have no identity, so two messages with the same body, exchange and routing key
count as one here. Only failures cost time: nothing is looked up for a message whose handler succeeds. A message
that is not redelivered begins at one again. Does not belong here: what is done with the message (``consuming``).
"""

from __future__ import annotations

from typing import Any

__all__ = ('HandlerFailures',)

# Seconds before a message whose handler failed goes back to its queue: after the first failure, and at most.
SHORTEST, LONGEST = 0.01, 10.0

# How many messages are remembered: those that failed last.
REMEMBERED = 1000


class HandlerFailures:
    """The failed messages of one consumer."""

    __slots__ = ('_counts',)

    def __init__(self) -> None:
        # The message that failed last is at the end. An entry leaves when REMEMBERED others have failed after it.
        self._counts: dict[Any, tuple[int, Any]] = {}  # message -> (failures in a row, kind of the last one)

    def note(self, message: Any, redelivered: bool, what: Any) -> tuple[int, bool]:
        """A handler has failed on this message. Returns how often in a row, and whether the failure is of a new kind.

        message: a key that identifies it. what: the kind of failure, e.g. class and place of the error.
        """
        # Taken out and put in again below: so the dict is ordered by the latest failure, and the oldest one
        # is dropped.
        known = self._counts.pop(message, None)
        count, before = known if known is not None and redelivered else (0, None)
        self._counts[message] = count + 1, what
        if len(self._counts) > REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return count + 1, what != before


def delay(count: int) -> float:
    """Seconds before a message that has failed *count* times in a row goes back to its queue."""
    # The exponent has a limit, since 2.0 ** 1024 raises OverflowError.
    return min(LONGEST, SHORTEST * 2.0 ** min(count - 1, 20))
