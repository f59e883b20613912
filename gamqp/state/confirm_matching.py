"""Publisher confirms: which publish each ``basic.ack`` and ``basic.nack`` speaks of.

State, no I/O. The broker numbers the publishes of a channel from 1 after
confirm.select. So do we, in the same step that hands the frames to the writer.
The broker returns a message before it acks it. Does not belong here: which publish a returned message
belongs to (``return_matching``); who waits and how (waiters have ``succeed`` and ``fail``).
https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from .return_matching import MandatoryPublishes
from .tag_order import first, is_wide, up_to

__all__ = ('Barrier', 'Confirms', 'Ending')

# An ack with multiple looks up so many publishes at once, and then settles them one by one.
PORTION = 1000

# Settled publishes leave holes in the dict (see ``tag_order``). With fewer holes than this it is not copied.
HOLES = 5000

# tag -> what a tracer wants called with the outcome: the verdict, or why none came.
Observers = dict[int, Callable[[Any], Any]]


class Barrier:
    """Waits for all publishes up to a delivery tag. waiter: gets ``succeed(True)`` if each was acked, else False.

    quiet: not the program waits here, but the pool: its waiter is no place to report an error to the program.
    """

    __slots__ = ('quiet', 'refused', 'tag', 'waiter')

    def __init__(self, tag: int, waiter: Any, quiet: bool) -> None:
        self.tag = tag
        self.waiter = waiter
        self.quiet = quiet
        self.refused = False


class Confirms:
    """Outstanding publishes of one channel, oldest first.

    A waiter has ``succeed(verdict)``: True for an ack, False for a nack, the
    returned message for one that no queue took; ``fail(make_error)``; and ``awaited``,
    whether a greenlet waits there right now. None stands for a publish on which nobody waits.

    walk: called with an iterator when a confirm with multiple settles several publishes. It takes the steps in order,
    some of them in later turns of the hub; other methods may be called in between. A step gives True for a publish that
    was acked, False for one that was nacked, None for a barrier. Without *walk* all steps are taken at once.
    """

    __slots__ = (
        '_barriers',
        '_compact',
        '_covered',
        '_mandatory',
        '_observers',
        '_returned',
        '_walk',
        'published',
        'refused',
        'selected',
        'waiting',
    )

    def __init__(self, walk: Callable[[Iterator[bool | None]], Any] | None = None) -> None:
        self._walk = walk or _at_once
        # Confirms with multiple that still have steps left, oldest first: (highest tag, whether it is an ack).
        self._covered: list[tuple[int, bool]] = []
        self._compact = 0  # how many were settled when the dict was last copied, see _without_holes
        self.published = 0  # the delivery tag of the latest publish
        self.selected = False  # whether confirm.select-ok has come
        self.refused = False  # whether a publish was nacked or returned since the last take_refused()
        self.waiting: dict[int, Any] = {}  # tag -> who waits, of the publishes that have no confirm yet
        self._mandatory: MandatoryPublishes | None = None  # made when there is a publish that may come back
        self._returned: dict[int, Any] = {}  # tag -> message that came back, until its ack comes
        self._barriers: deque[Barrier] = deque()  # in ascending order of their tags
        self._observers: Observers | None = None  # made when somebody observes

    def __len__(self) -> int:
        return len(self.waiting)

    def publish(self, waiter: Any = None) -> int:
        """Number a publish; call it together with handing the frames over. Returns the tag."""
        self.published += 1
        self.waiting[self.published] = waiter
        return self.published

    def publish_mandatory(self, waiter: Any, exchange: str, routing_key: str, size: int, frames: Any) -> int:
        """The same for a message that may come back: its frames are kept until it is settled."""
        tag = self.publish(waiter)
        if self._mandatory is None:
            self._mandatory = MandatoryPublishes()
        self._mandatory.add(tag, exchange, routing_key, size, frames)
        return tag

    def observe(self, tag: int, settled: Callable[[Any], Any]) -> None:
        """Have ``settled(outcome)`` called with the verdict, see above, or the error of this publish; whoever waits."""
        if self._observers is None:
            self._observers = {}
        self._observers[tag] = settled

    def waiter(self, tag: int) -> Any:
        """The waiter of this publish; None when it has none or is settled."""
        return self.waiting.get(tag)

    def come_back(self, exchange: str, routing_key: str, message: Any) -> Any:
        """A message was returned. Finds its publish and returns that one's waiter, or None."""
        if self._mandatory is None:
            return None
        # A confirm with multiple may have come before that has steps left: what it settles does not come back any more.
        covered = self._covered[-1][0] if self._covered else 0
        tag = self._mandatory.take(exchange, routing_key, message, covered)
        if not tag:
            return None
        self._returned[tag] = message
        return self.waiting[tag]

    @property
    def has_waiters(self) -> bool:
        """Whether a publish that has no confirm yet has a waiter."""
        covered = self._covered[-1][0] if self._covered else 0
        return any(waiter is not None and tag > covered for tag, waiter in self.waiting.items())

    @property
    def has_barriers(self) -> bool:
        """Whether the program waits in wait_for_confirms for a publish that has no confirm yet."""
        if not self._barriers:
            return False
        covered = self._covered[-1][0] if self._covered else 0
        lost = next((tag for tag in self.waiting if tag > covered), self.published + 1)
        return any(not barrier.quiet and barrier.tag >= lost for barrier in self._barriers)

    def barrier(self, waiter: Any, quiet: bool = False) -> Barrier:
        """Have *waiter* called when all publishes up to now are settled. There must be one that is not.

        quiet: see Barrier.
        """
        barrier = Barrier(self.published, waiter, quiet)
        barrier.refused = self.take_refused()
        self._barriers.append(barrier)
        return barrier

    def leave(self, barrier: Barrier) -> None:
        """Its caller was interrupted. A refusal that the barrier has noted is reported by the next one instead."""
        if barrier in self._barriers:
            self._barriers.remove(barrier)
        self.refused = self.refused or barrier.refused

    def take_refused(self) -> bool:
        """Whether a publish was nacked or returned since the last call of this."""
        refused, self.refused = self.refused, False
        return refused

    def settle(self, tag: int, multiple: bool, ok: bool) -> int:
        """An ack (ok) or nack has come. Returns how many publishes it has settled, at least 1 if it will settle some.

        Tag 0 with multiple means all outstanding publishes. A tag that is not outstanding settles nothing. It takes
        time for each publish that it settles, not for the others. A confirm with multiple settles step by step, in the
        order of publishing; the next one with multiple begins after the last step. Single confirms settle at once.
        """
        waiting = self.waiting
        if not multiple:
            if tag not in waiting:
                return 0
            self._settle(tag, ok)
            if self._barriers:
                self._pass_barriers()
            return 1
        tag = min(tag or self.published, self.published)
        if self._covered:
            if tag <= self._covered[-1][0]:
                return 0
            self._covered.append((tag, ok))
            return 1
        before = len(waiting)
        self._covered.append((tag, ok))
        self._walk(self._settle_covered())
        return before - len(self.waiting)

    def covers(self, tag: int) -> bool:
        """Whether a confirm with multiple for publishes up to this tag, or to a lower one, has steps left."""
        return bool(self._covered) and self._covered[0][0] <= tag

    def _settle_covered(self) -> Iterator[bool | None]:
        while self._covered:
            tag, ok = self._covered[0]
            tags = up_to(self._without_holes(), tag, PORTION)
            for one in tags:
                if self._barriers and self._barriers[0].tag < one:
                    yield from self._pass_up_to(one - 1)
                if one not in self.waiting:
                    continue  # a confirm of its own has settled it, or the channel has ended
                self._settle(one, ok)
                yield ok
            if len(tags) < PORTION and self._covered:
                self._covered.pop(0)
        if self._barriers:
            yield from self._pass_due()

    def _settle(self, tag: int, ok: bool) -> None:
        waiter = self.waiting.pop(tag)
        verdict = self._returned.pop(tag, ok) if self._returned else ok
        if self._mandatory is not None and self._mandatory.forget(tag):
            self._mandatory = None
        if self._observers:
            _observe(self._observers, tag, verdict)
        if waiter is not None:
            waiter.succeed(verdict)
        if verdict is not True:
            self._note_refused(tag)

    def fail_all(self, make_error: Callable[[], BaseException]) -> Ending:
        """The channel has ended: no confirm will come. Returns the Ending, whose steps give the waiters the error."""
        observers, self._observers = self._observers or {}, None
        ending = Ending(self.waiting, self._barriers, self._covered, self._returned, observers, make_error)
        self.waiting, self._barriers, self._covered, self._returned = {}, deque(), [], {}
        self._mandatory = None
        return ending

    def _without_holes(self) -> dict[int, Any]:
        """The outstanding publishes; the dict is copied first if it begins with too many holes."""
        waiting = self.waiting
        if is_wide(waiting):
            settled = self.published - len(waiting)
            if settled - self._compact > max(HOLES, len(waiting) // 8):
                self._compact = settled
                waiting = self.waiting = {**waiting}
        return waiting

    def _note_refused(self, tag: int) -> None:
        """A publish was refused: note it at the barriers behind it; without one, for the next take_refused()."""
        concerned = False
        for barrier in self._barriers:
            if tag <= barrier.tag:
                barrier.refused = concerned = True
        if not concerned:
            self.refused = True

    def _pass_barriers(self) -> None:
        """Wake the waiters of barriers in front of which everything is settled."""
        if not self._covered and self._barriers[0].tag < (first(self._without_holes()) or self.published + 1):
            self._walk(self._pass_due())

    def _pass_due(self) -> Iterator[None]:
        return self._pass_up_to((first(self._without_holes()) or self.published + 1) - 1)

    def _pass_up_to(self, tag: int) -> Iterator[None]:
        while self._barriers and self._barriers[0].tag <= tag:
            barrier = self._barriers.popleft()
            barrier.waiter.succeed(not barrier.refused)
            yield


def _observe(observers: Observers, tag: int, outcome: Any) -> None:
    settled = observers.pop(tag, None)
    if settled is not None:
        settled(outcome)


def _at_once(steps: Iterator[bool | None]) -> None:
    for _ in steps:
        pass


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
                self._tell_observer(tag)
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
        self._tell_observer(tag)
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

    def _tell_observer(self, tag: int) -> None:
        if tag in self._observers:
            verdict = self._verdict(tag)
            _observe(self._observers, tag, self._make_error() if verdict is None else verdict)

    def _verdict(self, tag: int) -> Any:
        """What a confirm with multiple has said of this publish; None if none has."""
        place = bisect_left(self._covered, (tag,))  # (tag,) is less than each (tag, ok)
        return None if place == len(self._covered) else self._returned.get(tag, self._covered[place][1])

    @property
    def refused(self) -> bool:
        """Whether a publish was nacked or returned, of those that a confirm has settled."""
        return self._first_refused > 0
