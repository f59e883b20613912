"""When a broker that could not be reached may be tried again.

State, no I/O. The time and the draw of lots come in as arguments.
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

__all__ = ('Backoff',)

# Seconds: the most that the first pause lasts, each one after it twice as much, up to the longest. A broker that
# comes back is found within that, and a thousand clients of a broker that is away try some 700 times a second.
FIRST = 0.1
LONGEST = 3.0

# Seconds that no other attempt is made after a refusal that another one cannot be expected to change.
FIRM = 1.0

# Seconds after which a connection counts as one that works: whoever loses it earlier pauses as after a failure.
STEADY = 1.0


class Backoff:
    """Pauses between attempts, each drawn from 0 to a limit that doubles (full jitter).

    failures: attempts in a row that came to nothing. until: time before which there is to be no other.
    """

    __slots__ = ('failures', 'until')

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0

    def failed(self, now: float, chance: float, firm: bool = False) -> None:
        """An attempt has failed. chance: a random number from 0 to 1. firm: it was refused for good."""
        pause = chance * min(LONGEST, FIRST * 2 ** min(self.failures, 20))
        self.failures += 1
        self.until = now + pause + (FIRM if firm else 0)

    def lost(self, now: float, lived: float, chance: float) -> None:
        """A connection was lost after so many seconds."""
        if lived >= STEADY:
            self.failures = 0
        else:
            self.failed(now, chance)
