"""What a program learns of an outage: while it lasts (``Connection.recovery``), and by its callbacks.

Layer 4. Does not belong here: what is done about it (``engine``), and when callbacks run (``callbacks``).
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

from ..state.durations import in_seconds

__all__ = ('LostCounts', 'Outage', 'RecoveryReport')


class LostCounts(NamedTuple):
    """What a loss has cut off: the attribute ``lost`` of the error that on_lost gets.

    * receipts: publishes without their confirm.
    * unsent: publishes of which nothing had been sent, those without confirms included.
    * unsettled: deliveries that were not acked, nacked or rejected; the broker delivers them again.
    * calls: calls that waited for their reply.
    """

    receipts: int
    unsent: int
    unsettled: int
    calls: int


class Outage:
    """The time from the loss of a connection until it is open again, or given up.

    * attempt: the number of the attempt that is under way, or of the next one; from 1.
    * error: why the last attempt failed; before that, why the connection was lost.
    """

    __slots__ = ('_began', '_due', '_first_error', 'attempt', 'error')

    def __init__(self, error: BaseException) -> None:
        self._began = self._due = time.monotonic()
        self.attempt = 1
        self.error = self._first_error = error

    def __repr__(self) -> str:
        return f'<Outage of {in_seconds(round(self.since, 1))}, attempt {self.attempt}: {self.error}>'

    @property
    def since(self) -> float:
        """Seconds for which it has lasted."""
        return time.monotonic() - self._began

    @property
    def next_try(self) -> float:
        """Seconds until the attempt begins, 0 while it is under way."""
        return max(0.0, self._due - time.monotonic())

    def _wait_for(self, seconds: float) -> None:
        """The attempt begins in so many seconds."""
        self._due = time.monotonic() + seconds


@dataclasses.dataclass(frozen=True)
class RecoveryReport:
    """What on_recovered gets.

    * attempts: how many it took. seconds: from the loss on. host: of the broker that it has now.
    * consumers: how many were started again. renamed: the old names of queues that the broker had named -> the new
      ones. skipped: the records that could not be restored, as ``Connection.topology`` gives them, with the errors.
    """

    attempts: int
    seconds: float
    host: str
    consumers: int = 0
    renamed: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: list[tuple[dict[str, Any], BaseException]] = dataclasses.field(default_factory=list)
