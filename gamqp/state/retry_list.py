"""Records that could not be restored, and are tried again while the connection is open.

State, no I/O: the time and a random number are arguments. Does not belong here: trying them, and for what reason
(``restore_errors``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from .recovery_attempts import SHORTEST
from .topology_records import Record

__all__ = ('RetryList',)


class RetryList:
    """Each record has a pause of its own, drawn from nothing to a limit that doubles.

    delay, max_delay: as for ``RecoveryAttempts``.
    """

    __slots__ = ('_due', '_failures', '_number', 'delay', 'max_delay')

    def __init__(self, delay: float = 1.0, max_delay: float = 30.0) -> None:
        self.delay = delay
        self.max_delay = max_delay
        # (time, number, record): the number keeps records of one time in the order in which they were added.
        self._due: list[tuple[float, int, Record]] = []
        self._failures: dict[Record, int] = {}  # of those in the list, and those that are being tried
        self._number = 0

    def __len__(self) -> int:
        return len(self._failures)

    def __contains__(self, record: object) -> bool:
        return record in self._failures

    def add(self, records: Iterable[Record], now: float, chance: float) -> None:
        """These were refused, perhaps once more. Together they get one pause: the later depend on the earlier."""
        added = list(records)
        failures = max((self._failures.get(record, 0) for record in added), default=0) + 1
        limit = min(self.max_delay, self.delay * 2.0 ** min(failures, 100))
        when = now + max(SHORTEST, chance * limit)
        for record in added:
            self._failures[record] = failures
            self._number += 1
            heapq.heappush(self._due, (when, self._number, record))

    def next_time(self) -> float | None:
        """When the next one is due; None if there is none."""
        while self._due and self._due[0][2] not in self._failures:
            heapq.heappop(self._due)  # removed since
        return self._due[0][0] if self._due else None

    def take(self, now: float) -> Record | None:
        """One that is due, which is to be tried, and then ``remove``d or ``add``ed again; None if none is."""
        due = self.next_time()
        return None if due is None or due > now else heapq.heappop(self._due)[2]

    def remove(self, record: Record) -> None:
        """It was restored, or is not wanted any more."""
        self._failures.pop(record, None)

    def clear(self) -> None:
        """The connection was lost: the next attempt restores everything."""
        self._due.clear()
        self._failures.clear()
