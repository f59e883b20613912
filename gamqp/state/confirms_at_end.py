"""Publishes that were without a confirm when their channel ended: which are settled all the same, and which are lost.

State, no I/O. There may be very many, so each gets its outcome in a step of its own, or before that when somebody
looks at it. Does not belong here: the publishes of a channel that is open (``confirm_matching``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .waiter_protocols import MakeError

if TYPE_CHECKING:
    from .confirm_matching import Barrier
    from .waiter_protocols import PublishWaiter

__all__ = ('Ending', 'Observers', 'observe')

Observers = dict[int, Callable[[Any], Any]]  # tag -> who is called with the outcome of that publish


class Ending:
    """The outstanding publishes of a channel that has ended. Iterating over it settles them step by step.

    confirmed, nacked: publishes for which a confirm with multiple had come and had steps left; their waiters get
    that verdict. lost: all others; their waiters get the error.

    unsent, make_unsent: the lowest tag of those that have not been sent at all, if that is known, and their error.
    """

    __slots__ = (
        '_barriers',
        '_covered',
        '_first_lost',
        '_first_refused',
        '_make_error',
        '_make_unsent',
        '_observers',
        '_returned',
        '_unsent',
        '_waiting',
        'confirmed',
        'lost',
        'nacked',
    )

    def __init__(
        self,
        waiting: dict[int, PublishWaiter | None],
        barriers: deque[Barrier],
        covered: list[tuple[int, bool]],
        returned: dict[int, Any],
        observers: Observers,
        make_error: MakeError,
        unsent: int = 0,
        make_unsent: MakeError | None = None,
    ) -> None:
        # Tag -> waiter, in ascending order. Entries leave one by one, by a step or by settle_now().
        self._waiting = waiting
        self._barriers = barriers
        # Their tags ascend (``Confirms.settle``), so the confirm of a publish is found by bisection.
        self._covered = covered
        self._returned = returned
        self._observers = observers
        self._make_error = make_error
        self._unsent, self._make_unsent = unsent, make_unsent
        self.confirmed = self.nacked = 0
        # For a barrier these two numbers are enough: it only asks whether one of them is in front of it.
        self._first_lost = self._first_refused = 0  # the lowest tags of such; 0 if there is none
        tags, before = list(waiting), 0
        if covered:
            # A message that came back counts as refused if a confirm covers it. Without one its publish is lost.
            self._first_refused = min((tag for tag in returned if tag <= covered[-1][0]), default=0)
            for tag, ok in covered:
                # Counted by bisection, since this runs in the one step in which the channel ends.
                place = bisect_right(tags, tag)
                if ok:
                    self.confirmed += place - before
                elif place > before:
                    self.nacked += place - before
                    # 0 stands for none, so it must not be the minimum.
                    self._first_refused = min(tags[before], self._first_refused or tags[before])
                before = place
        if before < len(tags):
            self._first_lost = tags[before]
        # The three numbers add up to what was outstanding. The caller adds each to a counter of the connection.
        self.lost = len(waiting) - self.confirmed - self.nacked

    def __iter__(self) -> Iterator[bool]:
        """One step a publish and barrier. Each gives whether a greenlet that waited for that publish got the error."""
        waiting = self._waiting
        # A copy of the tags, because settle_now() removes entries between two steps. For such a one pop() gives None,
        # and this step does nothing.
        for tag in list(waiting):
            waiter, heard = waiting.pop(tag, None), False
            if self._observers:
                self._give_observer(tag)
            if waiter is not None:
                heard = waiter._awaited  # asked first: one that is settled is not awaited any more
                heard = not self._give_verdict(tag, waiter) and heard
            yield heard
        # Barriers come last. A greenlet that wakes from wait_for_confirms finds all its receipts settled. A lost
        # publish makes an error, even where another one was refused.
        for barrier in self._barriers:
            if self._first_lost and self._first_lost <= barrier.tag:
                barrier.waiter.fail(self._error_of(self._first_lost))
            else:
                barrier.waiter.succeed(not (barrier.refused or 0 < self._first_refused <= barrier.tag))
            yield False

    def settle_now(self, tag: int, waiter: PublishWaiter) -> bool:
        """Settle this publish now, before its step. Returns False if it is none of these, or was settled already."""
        # Each new channel numbers its publishes from 1, so several endings may have this tag. The waiter identifies the
        # right one.
        if self._waiting.get(tag) is not waiter:
            return False
        # Removed first, so the step of this publish will find nothing to do.
        del self._waiting[tag]
        self._give_observer(tag)
        self._give_verdict(tag, waiter)
        return True

    def _give_verdict(self, tag: int, waiter: PublishWaiter) -> bool:
        """Returns whether it was settled by a confirm; otherwise it is lost, and the waiter gets the error."""
        verdict = self._verdict(tag)
        if verdict is None:
            waiter._lose(self._error_of(tag))
            return False
        waiter._settle(verdict)
        return True

    def _give_observer(self, tag: int) -> None:
        if tag in self._observers:
            verdict = self._verdict(tag)
            observe(self._observers, tag, self._error_of(tag)() if verdict is None else verdict)

    def _error_of(self, tag: int) -> MakeError:
        """The error of this publish if it is lost; for a barrier, that of the first one in front of it."""
        return self._make_unsent if self._make_unsent is not None and 0 < self._unsent <= tag else self._make_error

    def _verdict(self, tag: int) -> Any:
        """What a confirm with multiple has said of this publish; None if none has."""
        # The first confirm whose tag is not lower than this one settles the publish.
        place = bisect_left(self._covered, (tag,))  # (tag,) is less than each (tag, ok)
        return None if place == len(self._covered) else self._returned.get(tag, self._covered[place][1])

    @property
    def any_sent(self) -> bool:
        """Whether a publish is lost that may have been sent."""
        return self._first_lost > 0 and (not self._unsent or self._first_lost < self._unsent)

    @property
    def refused(self) -> bool:
        """Whether a publish was nacked or returned, of those that a confirm has settled."""
        return self._first_refused > 0


def observe(observers: Observers, tag: int, outcome: Any) -> None:
    """Give the outcome of a publish to whoever observes it."""
    # Removed before the call: each observer is called once.
    settled = observers.pop(tag, None)
    if settled is not None:
        settled(outcome)
