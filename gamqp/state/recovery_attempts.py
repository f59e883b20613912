"""When a lost connection is tried again, and when it is given up.

State, no I/O: the time and a random number are arguments. Full jitter: each pause is drawn from nothing to a limit that
doubles, so that the clients of a broker that is back do not come all at once.
Does not belong here: waiting and connecting. Pauses of the pool: ``backoff``.
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from collections import deque

__all__ = ('RecoveryAttempts',)

# Seconds. After a failure there is always some pause, or a broker that refuses at once would be tried in a loop.
SHORTEST = 0.1

# So often may the peer's bytes make no sense, within ``stable_after``, until it is given up.
GARBLED = 3

# Errors of one outage that are known when they come again: some take turns.
MOST_ERRORS = 10


class RecoveryAttempts:
    """The attempts of one connection, over all its outages.

    * number: how many attempts were begun since the connection was open for ``stable_after`` seconds.
    * since: when the present outage began.

    first_delay: seconds, from and to, before attempt 1. delay, max_delay: before attempt n from 0 to
    ``delay * 2 ** n`` seconds, and not more than max_delay. attempts: how many, None for no limit. give_up_after:
    seconds of one outage, None for no limit.
    """

    __slots__ = (
        '_errors',
        '_garbled',
        'attempts',
        'delay',
        'first_delay',
        'give_up_after',
        'max_delay',
        'number',
        'since',
        'stable_after',
    )

    def __init__(
        self,
        first_delay: tuple[float, float] = (0.0, 1.0),
        delay: float = 1.0,
        max_delay: float = 30.0,
        attempts: int | None = None,
        give_up_after: float | None = None,
        stable_after: float = 60.0,
    ) -> None:
        self.first_delay = first_delay
        self.delay = delay
        self.max_delay = max_delay
        self.attempts = attempts
        self.give_up_after = give_up_after
        self.stable_after = stable_after
        self.number = 0
        self.since = 0.0
        self._garbled: list[float] = []  # when the peer's bytes made no sense
        self._errors: deque[str] = deque(maxlen=MOST_ERRORS)  # of this outage, each once

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.number} made>'

    def lost(self, now: float, lived: float) -> None:
        """An outage begins. lived: seconds for which the connection was open."""
        self.since = now
        self._errors.clear()
        # Counted on after a short life: a connection that is lost as soon as it is open would be tried without end.
        if lived >= self.stable_after:
            self.number = 0

    def pause(self, now: float, chance: float, firm: bool = False) -> float | None:
        """Seconds to wait before the next attempt; None: no further attempt is due. chance: random, from 0 to 1.

        firm: the broker has refused what it will refuse for some time (a login, a virtual host): about max_delay.
        """
        if self.attempts is not None and self.number >= self.attempts:
            return None
        left = None if self.give_up_after is None else self.since + self.give_up_after - now
        if left is not None and left <= 0:
            return None
        if firm:
            pause = self.max_delay * (0.5 + chance / 2)
        elif self.number == 0:
            low, high = self.first_delay
            pause = low + (high - low) * chance
        else:
            # The exponent has a limit: 2.0 ** 1024 does not fit a float.
            pause = max(SHORTEST, chance * min(self.max_delay, self.delay * 2.0 ** min(self.number + 1, 100)))
        return pause if left is None else min(pause, left)

    def begin(self) -> int:
        """An attempt begins. Returns its number, from 1 on."""
        self.number += 1
        return self.number

    def is_news(self, error: BaseException) -> bool:
        """Whether no attempt of this outage has failed with this error before: then the log says so."""
        text = f'{type(error).__name__}: {error}'
        if text in self._errors:
            return False
        self._errors.append(text)
        return True

    def garbled(self, now: float) -> bool:
        """The peer's bytes made no sense. Returns whether that was so too often: then it is given up."""
        self._garbled = [*(then for then in self._garbled if now - then < self.stable_after), now]
        return len(self._garbled) >= GARBLED
