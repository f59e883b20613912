"""Publisher confirms: which publish each ``basic.ack`` and ``basic.nack`` speaks of.

State, no I/O. The broker numbers the publishes of a channel from 1 after
confirm.select. So do we, in the same step that hands the frames to the writer.
The broker returns a message before it acks it. Does not belong here: which publish a returned message
belongs to (``return_matching``); who waits and how (``waiter_protocols``).
https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ..wire import Content
from .confirms_at_end import Ending, Observers, observe
from .return_matching import Frames, MandatoryPublishes
from .tag_order import first, is_wide, up_to
from .waiter_protocols import MakeError, PublishWaiter, Waiter

__all__ = ('Barrier', 'Confirms')

# An ack with multiple looks up so many publishes at once, and then settles them one by one.
PORTION = 1000

# Settled publishes leave holes in the dict (see ``tag_order``). With fewer holes than this it is not copied.
HOLES = 5000


class Barrier:
    """Waits for all publishes up to a delivery tag. waiter: gets ``succeed(True)`` if each was acked, else False.

    quiet: not the program waits here, but the pool: its waiter is no place to report an error to the program.
    """

    __slots__ = ('quiet', 'refused', 'tag', 'waiter')

    def __init__(self, tag: int, waiter: Waiter, quiet: bool) -> None:
        self.tag = tag
        self.waiter = waiter
        self.quiet = quiet
        # Whether a publish up to *tag* was nacked or returned, also before the barrier was made. It never goes back to
        # False.
        self.refused = False


class Confirms:
    """Outstanding publishes of one channel, oldest first.

    A waiter is a PublishWaiter. None stands for a publish on which nobody waits.

    A publish takes the next tag by counting ``published`` up, is sent, and is entered, all in one step. If it cannot
    be sent it is not entered: it is not outstanding, and cannot be lost.

    walk: called with an iterator when a confirm with multiple settles several publishes. It takes the steps in order,
    some of them in later turns of the hub; other methods may be called in between. A step gives True for a publish that
    was acked, False for one that was nacked, None for a barrier. Without *walk* all steps are taken at once.
    """

    __slots__ = (
        '_barriers',
        '_compact',
        '_covered',
        '_make_error',
        '_mandatory',
        '_noted',
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
        # It counts each publish that took a tag. The writer may have failed on the last one, which then has a tag and
        # no entry.
        self.published = 0  # the delivery tag of the latest publish
        # On a channel that was reopened, confirms that come before this is True are for the channel as it was before.
        self.selected = False  # whether confirm.select-ok has come
        self.refused = False  # whether a publish was nacked or returned since the last take_refused()
        # Tag -> who waits, of the publishes that have no confirm yet. An entry is made in the step that sends the
        # publish. It leaves with the confirm, or with the end of the channel. Tags ascend in it: first() and up_to()
        # rely on that.
        self.waiting: dict[int, PublishWaiter | None] = {}
        self._mandatory: MandatoryPublishes | None = None  # made when there is a publish that may come back
        # Each of these tags is also in ``waiting``; _settle() removes it from both.
        self._returned: dict[int, Content] = {}  # tag -> message that came back, until its ack comes
        # Each barrier takes ``published`` of its moment, which only grows. So only the first barrier has to be looked
        # at.
        self._barriers: deque[Barrier] = deque()  # in ascending order of their tags
        self._observers: Observers | None = None  # made when somebody observes
        # The latest barrier at which a refused publish was noted, and its tag: it is noted at all barriers behind that.
        self._noted: tuple[Barrier | None, int] = None, 0
        self._make_error: MakeError | None = None  # of the end of the channel

    def __len__(self) -> int:
        return len(self.waiting)

    def enter(self, tag: int, waiter: PublishWaiter | None = None, frames: Frames | None = None) -> None:
        """The publish that took this tag was sent, in the same step: it is outstanding.

        frames: what was sent, for a subclass that keeps it.
        """
        # The tag is nearly always the latest one, and a dict keeps the order in which keys are added. One comparison
        # finds the other case. fail_all() sets ``published`` to 0, so it finds the end of the channel, too.
        self.waiting[tag] = waiter
        if tag != self.published:
            self._enter_late(tag)

    def enter_mandatory(
        self, tag: int, waiter: PublishWaiter | None, exchange: str, routing_key: str, size: int, frames: Frames
    ) -> None:
        """The same for a message that may come back: its frames are kept until it is settled."""
        if self._mandatory is None:
            self._mandatory = MandatoryPublishes()
        self._mandatory.add(tag, exchange, routing_key, size, frames)
        # After the line above: if this publish is late, enter() sorts both dicts.
        self.enter(tag, waiter, frames)

    def _enter_late(self, tag: int) -> None:
        """While it was being sent, a signal handler or a finalizer has published on this channel, or ended it."""
        if self._make_error is not None:
            waiter = self.waiting.pop(tag)
            if waiter is not None:
                waiter._lose(self._make_error)
            return
        # Later tags were entered before this one. Sorting takes time for all that is outstanding, but it happens hardly
        # ever.
        self.waiting = dict(sorted(self.waiting.items()))
        if self._mandatory is not None:
            self._mandatory.sort(tag)

    def observe(self, tag: int, settled: Callable[[Any], Any]) -> None:
        """Have ``settled(outcome)`` called with the verdict (``PublishWaiter``) or the error; whoever waits."""
        if self._observers is None:
            self._observers = {}
        self._observers[tag] = settled

    def waiter(self, tag: int) -> PublishWaiter | None:
        """The waiter of this publish; None when it has none or is settled."""
        return self.waiting.get(tag)

    def come_back(self, exchange: str, routing_key: str, message: Content) -> PublishWaiter | None:
        """A message was returned. Finds its publish and returns that one's waiter, or None."""
        if self._mandatory is None:
            return None
        # A confirm with multiple may have come before that has steps left: what it settles does not come back any more.
        covered = self._covered[-1][0] if self._covered else 0
        tag = self._mandatory.take(exchange, routing_key, message, covered)
        if not tag:
            return None
        self._returned[tag] = message
        # The tag is there: _settle() removes it from MandatoryPublishes and from ``waiting`` in one step.
        return self.waiting[tag]

    @property
    def has_waiters(self) -> bool:
        """Whether a publish that has no confirm yet has a waiter."""
        if not self._covered:
            return any(self.waiting.values())  # quick, for there may be very many, all without a waiter
        # Publishes up to there have their verdict already, though some waiters get it in a later turn.
        covered = self._covered[-1][0]
        return any(waiter is not None and tag > covered for tag, waiter in self.waiting.items())

    @property
    def has_barriers(self) -> bool:
        """Whether the program waits in wait_for_confirms for a publish that has no confirm yet."""
        if not self._barriers:
            return False
        covered = self._covered[-1][0] if self._covered else 0
        # The lowest tag without a verdict. The remaining steps of the walk pass all barriers in front of it.
        lost = next((tag for tag in self.waiting if tag > covered), self.published + 1)
        return any(not barrier.quiet and barrier.tag >= lost for barrier in self._barriers)

    def barrier(self, waiter: Waiter, quiet: bool = False) -> Barrier:
        """Have *waiter* called when all publishes up to now are settled. There must be one that is not.

        quiet: see Barrier.
        """
        barrier = Barrier(self.published, waiter, quiet)
        # What was refused before belongs to this barrier now, and the next one does not report it again.
        barrier.refused = self.take_refused()
        self._barriers.append(barrier)
        return barrier

    def leave(self, barrier: Barrier) -> None:
        """Its caller was interrupted. A refusal that the barrier has noted is reported by the next one instead."""
        # The barrier may be gone: all its publishes were settled before the interrupted caller ran.
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
        # A tag from beyond is a fault of the peer, which the caller has refused already; here it must do no
        # harm.
        tag = min(tag or self.published, self.published)
        if self._covered:
            # An earlier confirm covers these, though its steps may not have been taken yet: the first
            # verdict counts.
            if tag <= self._covered[-1][0]:
                return 0
            # The walk that is under way reaches this entry after those before it. The tags in the list ascend.
            self._covered.append((tag, ok))
            return 1
        before = len(waiting)
        self._covered.append((tag, ok))
        self._walk(self._settle_covered())
        # Not the local name: _without_holes() may have put a copy in the place of that dict.
        return before - len(self.waiting)

    def covers(self, tag: int) -> bool:
        """Whether a confirm with multiple for publishes up to this tag, or to a lower one, has steps left."""
        # The first entry has the lowest tag.
        return bool(self._covered) and self._covered[0][0] <= tag

    def _settle_covered(self) -> Iterator[bool | None]:
        while self._covered:
            tag, ok = self._covered[0]
            # In portions: one list of all tags would take a long time in one step where a million publishes are
            # outstanding.
            tags = up_to(self._without_holes(), tag, PORTION)
            for one in tags:
                # Everything in front of this barrier is settled, so it is passed before the publishes behind it are
                # settled.
                if self._barriers and self._barriers[0].tag < one:
                    yield from self._pass_up_to(one - 1)
                if one not in self.waiting:
                    continue  # a confirm of its own has settled it, or the channel has ended
                self._settle(one, ok)
                yield ok
            # After a full portion there may be more up to this tag, so the entry stays for another look. The list is
            # empty if the channel has ended between two steps.
            if len(tags) < PORTION and self._covered:
                self._covered.pop(0)
        if self._barriers:
            yield from self._pass_due()

    def _settle(self, tag: int, ok: bool) -> None:
        waiter = self.waiting.pop(tag)
        # A return comes before the ack of its message, and is the verdict then: the ack only says that the
        # broker is done.
        verdict: bool | Content = self._returned.pop(tag, ok) if self._returned else ok
        if self._mandatory is not None and self._mandatory.forget(tag):
            self._mandatory = None
        if self._observers:
            observe(self._observers, tag, verdict)
        if waiter is not None:
            waiter._settle(verdict)
        if verdict is not True:
            # Before any barrier is passed: a barrier reports what is noted at it at that moment.
            self._note_refused(tag)

    def latest(self, count: int) -> list[int]:
        """The tags of the latest *count* publishes without a verdict, or of all if they are less; ascending."""
        covered = self._covered[-1][0] if self._covered else 0
        return [tag for tag in islice(reversed(self.waiting), count) if tag > covered][::-1]

    def settle_returned(self) -> Iterator[int]:
        """The acks of messages that came back will not come, and say no more. Gives what ``settle`` returns."""
        for tag in list(self._returned):
            if not self.covers(tag):
                yield self.settle(tag, False, True)

    def fail_all(self, make_error: MakeError, unsent: int = 0, make_unsent: MakeError | None = None) -> Ending:
        """The channel has ended: no confirm will come. Returns the Ending, whose steps give the waiters the error.

        unsent, make_unsent: see Ending.
        """
        # New containers take the place of the old ones in one step. A walk that is still under way finds nothing more.
        observers, self._observers = self._observers or {}, None
        what = self.waiting, self._barriers, self._covered, self._returned, observers
        ending = Ending(*what, make_error, unsent, make_unsent)
        self._make_error, self.published = make_error, 0
        self.waiting, self._barriers, self._covered, self._returned = {}, deque(), [], {}
        self._mandatory = None
        return ending

    def _without_holes(self) -> dict[int, PublishWaiter | None]:
        """The outstanding publishes; the dict is copied first if it begins with too many holes."""
        waiting = self.waiting
        if is_wide(waiting):
            # How many publishes were settled in all. The copy takes time for each outstanding publish. It is made after
            # at least an eighth as many settlements, so each settlement pays for at most eight entries.
            settled = self.published - len(waiting)
            if settled - self._compact > max(HOLES, len(waiting) // 8):
                self._compact = settled
                waiting = self.waiting = {**waiting}
        return waiting

    def _note_refused(self, tag: int) -> None:
        """A publish was refused: note it at the barriers behind it; without one, for the next take_refused()."""
        if not self._barriers or self._barriers[-1].tag < tag:
            self.refused = True
            return
        latest, lowest = self._noted
        if latest is self._barriers[-1] and lowest <= tag:
            return  # it is noted at all of them: there may be thousands, and thousands of refused publishes
        for barrier in self._barriers:
            if tag <= barrier.tag:
                barrier.refused = True
        self._noted = self._barriers[-1], tag

    def _pass_barriers(self) -> None:
        """Wake the waiters of barriers in front of which everything is settled."""
        # A walk that is under way passes the barriers itself. With nothing outstanding each barrier is due, as none has
        # a tag above ``published``.
        if not self._covered and self._barriers[0].tag < (first(self._without_holes()) or self.published + 1):
            self._walk(self._pass_due())

    def _pass_due(self) -> Iterator[None]:
        return self._pass_up_to((first(self._without_holes()) or self.published + 1) - 1)

    def _pass_up_to(self, tag: int) -> Iterator[None]:
        while self._barriers and self._barriers[0].tag <= tag:
            barrier = self._barriers.popleft()
            barrier.waiter.succeed(not barrier.refused)
            yield


def _at_once(steps: Iterator[bool | None]) -> None:
    for _ in steps:
        pass
