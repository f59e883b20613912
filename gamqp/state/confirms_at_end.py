"""Publishes that were without a confirm when their channel ended: which are settled all the same, and which are lost.

State, no I/O. There may be very many, so each gets its outcome in a step of its own, or before that when somebody
looks at it. Does not belong here: the publishes of a channel that is open (``confirm_matching``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .confirm_matching import Barrier

__all__ = ('Ending', 'Observers', 'observe')

Observers = dict[int, Callable[[Any], Any]]  # tag -> who is called with the outcome of that publish


class Ending:
    """The outstanding publishes of a channel that has ended. Iterating over it settles them step by step.

    confirmed, nacked: publishes for which a confirm with multiple had come and had steps left; their waiters get
    that verdict. lost: all others; their waiters get the error.
    """

    __slots__ = (
        '_barriers',
        '_covered',
        '_first_lost',
        '_first_refused',
        '_make_error',
        '_observers',
        '_returned',
        '_waiting',
        'confirmed',
        'lost',
        'nacked',
    )

    def __init__(
        self,
        waiting: dict[int, Any],
        barriers: deque[Barrier],
        covered: list[tuple[int, bool]],
        returned: dict[int, Any],
        observers: Observers,
        make_error: Callable[[], BaseException],
    ) -> None:
        self._waiting = waiting
        self._barriers = barriers
        self._covered = covered
        self._returned = returned
        self._observers = observers
        self._make_error = make_error
        self.confirmed = self.nacked = 0
        self._first_lost = self._first_refused = 0  # the lowest tags of such; 0 if there is none
        tags, before = list(waiting), 0
        if covered:
            self._first_refused = min((tag for tag in returned if tag <= covered[-1][0]), default=0)
            for tag, ok in covered:
                place = bisect_right(tags, tag)
                if ok:
                    self.confirmed += place - before
                elif place > before:
                    self.nacked += place - before
                    self._first_refused = min(tags[before], self._first_refused or tags[before])
                before = place
        if before < len(tags):
            self._first_lost = tags[before]
        self.lost = len(waiting) - self.confirmed - self.nacked

    def __iter__(self) -> Iterator[bool]:
        """One step a publish and barrier. Each gives whether a greenlet that waited for that publish got the error."""
        waiting = self._waiting
        for tag in list(waiting):
            waiter, heard = waiting.pop(tag, None), False
            if self._observers:
                self._give_observer(tag)
            if waiter is not None:
                heard = waiter.awaited  # asked first: one that is settled is not awaited any more
                heard = not self._give_verdict(tag, waiter) and heard
            yield heard
        for barrier in self._barriers:
            if self._first_lost and self._first_lost <= barrier.tag:
                barrier.waiter.fail(self._make_error)
            else:
                barrier.waiter.succeed(not (barrier.refused or 0 < self._first_refused <= barrier.tag))
            yield False

    def settle_now(self, tag: int, waiter: Any) -> bool:
        """Settle this publish now, before its step. Returns False if it is none of these, or was settled already."""
        if self._waiting.get(tag) is not waiter:
            return False
        del self._waiting[tag]
        self._give_observer(tag)
        self._give_verdict(tag, waiter)
        return True

    def _give_verdict(self, tag: int, waiter: Any) -> bool:
        """Returns whether it was settled by a confirm; otherwise it is lost, and the waiter gets the error."""
        verdict = self._verdict(tag)
        if verdict is None:
            waiter.fail(self._make_error)
            return False
        waiter.succeed(verdict)
        return True

    def _give_observer(self, tag: int) -> None:
        if tag in self._observers:
            verdict = self._verdict(tag)
            observe(self._observers, tag, self._make_error() if verdict is None else verdict)

    def _verdict(self, tag: int) -> Any:
        """What a confirm with multiple has said of this publish; None if none has."""
        place = bisect_left(self._covered, (tag,))  # (tag,) is less than each (tag, ok)
        return None if place == len(self._covered) else self._returned.get(tag, self._covered[place][1])

    @property
    def refused(self) -> bool:
        """Whether a publish was nacked or returned, of those that a confirm has settled."""
        return self._first_refused > 0


def observe(observers: Observers, tag: int, outcome: Any) -> None:
    """Give the outcome of a publish to whoever observes it."""
    settled = observers.pop(tag, None)
    if settled is not None:
        settled(outcome)
