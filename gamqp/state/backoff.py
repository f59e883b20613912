"""When a broker that could not be reached may be tried again.

State, no I/O: the time and a random number are arguments. Does not belong here: waiting and connecting.
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

__all__ = ('Backoff',)

# Seconds. The first pause lasts at most FIRST, each one after it at most twice as long, up to LONGEST. So a broker that
# comes back is found within 3 s, and a thousand clients of a broker that is down try some 700 times a second.
FIRST = 0.1
LONGEST = 3.0

# Seconds that are added to the pause after a refusal that will not change soon (e.g. a wrong password).
FIRM = 1.0

# Seconds after which an open connection counts as one that works. The loss of a younger one counts as a failure.
STEADY = 1.0


class Backoff:
    """Pauses between attempts, each drawn from 0 to a limit that doubles (full jitter).

    failures: failed attempts in a row. until: the time of the next attempt.
    """

    __slots__ = ('failures', 'until')

    def __init__(self) -> None:
        self.failures = 0
        # Earlier than any clock shows, so the first attempt waits for nothing.
        self.until = 0.0

    def failed(self, now: float, chance: float, firm: bool = False) -> None:
        """An attempt has failed. chance: a random number from 0 to 1. firm: it was refused and will be again."""
        # The exponent has a limit: 2 ** 1024 does not fit a float, and after so many failures this would raise.
        pause = chance * min(LONGEST, FIRST * 2 ** min(self.failures, 20))
        self.failures += 1
        # FIRM is added and not drawn: two refused logins are always at least that long apart.
        self.until = now + pause + (FIRM if firm else 0)

    def lost(self, now: float, lived: float, chance: float) -> None:
        """A connection was lost, *lived* seconds after it was opened."""
        # The only place where the count begins anew. A broker that accepts connections and drops them at once would be
        # tried without a pause if each opened connection reset it.
        if lived >= STEADY:
            self.failures = 0
        else:
            self.failed(now, chance)
