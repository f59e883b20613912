"""Publisher confirms: which publish each ``basic.ack``, ``basic.nack`` and ``basic.return`` speaks of.

State, no I/O. The broker numbers the publishes of a channel from 1 after
confirm.select; so do we, in the same step that hands the frames to the writer.
A message that comes back does so before its ack, and carries no number: its
publish is found among those that are outstanding by what it looks like.
https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

from ..wire import Content, Decoder
from .tag_order import first, is_wide, up_to

__all__ = ('Barrier', 'Confirms', 'Ending')

# Publishes that a multiple looks up at once, and then settles one by one.
PORTION = 1000

# Holes in the dict of outstanding publishes that are not worth a new dict, see ``tag_order``.
HOLES = 5000

HEADERS = 'application_headers'

Key = tuple[str, str, int]  # exchange, routing key, size of the body


class Barrier:
    """All publishes up to a delivery tag. waiter: ``succeed(True)`` when each was acked, else ``succeed(False)``."""

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

    walk: called with the steps in which a confirm tells more than one, to be taken in this order; it may leave some
    for later, before and between other calls. A step gives True for a publish that was acked, False for one
    that was nacked, None for a barrier. None: all steps are taken at once.
    """

    __slots__ = (
        '_barriers',
        '_compact',
        '_covered',
        '_keys',
        '_mandatory',
        '_returned',
        '_waiting',
        '_walk',
        'published',
        'refused',
        'selected',
    )

    def __init__(self, walk: Callable[[Iterator[bool | None]], Any] | None = None) -> None:
        self._walk = walk or _at_once
        # Multiples whose publishes are being settled, oldest first: the tag up to which, and whether by an ack.
        self._covered: list[tuple[int, bool]] = []
        self._compact = 0  # how many were settled when the dict of outstanding ones was made anew
        self.published = 0  # the delivery tag of the latest publish
        self.selected = False  # whether the broker has said that it confirms from now on
        self.refused = False  # whether a publish was nacked or returned since somebody asked
        self._waiting: dict[int, Any] = {}
        self._mandatory: dict[Key, dict[int, Any]] = {}  # the publishes that may come back: tag -> frames, or Content
        self._keys: dict[int, Key] = {}  # where in _mandatory a tag is
        self._returned: dict[int, Any] = {}  # those that did, until their ack
        self._barriers: deque[Barrier] = deque()  # in ascending order of their tags

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, waiter: Any = None) -> int:
        """Number a publish; call it together with handing the frames over. Returns the tag."""
        self.published += 1
        self._waiting[self.published] = waiter
        return self.published

    def publish_mandatory(self, waiter: Any, exchange: str, routing_key: str, size: int, frames: Any) -> int:
        """The same for a message that may come back: its frames are kept until it is settled."""
        tag = self.publish(waiter)
        key = self._keys[tag] = (exchange, routing_key, size)
        self._mandatory.setdefault(key, {})[tag] = frames
        return tag

    def waiter(self, tag: int) -> Any:
        """Who waits for this publish, None when nobody does or it is settled."""
        return self._waiting.get(tag)

    def come_back(self, exchange: str, routing_key: str, message: Any) -> Any:
        """A message was returned. Returns who waits for the publish it belongs to, which it decides, or None.

        Among the publishes to this exchange with this routing key it is the oldest
        that looks most like it; those that look the same in everything are
        exchangeable, and returns come in the order of publishing.
        """
        candidates = self._mandatory.get((exchange, routing_key, message.size))
        if candidates and self._covered:
            # A multiple before this has settled these, and they are only still to be told.
            for tag in list(takewhile(self._covered[-1][0].__ge__, candidates)):
                self._forget_mandatory(tag)
        if not candidates:
            return None
        tag = _most_alike(candidates, message)
        if not tag:
            return None
        self._forget_mandatory(tag)
        self._returned[tag] = message
        return self._waiting[tag]

    @property
    def has_waiters(self) -> bool:
        """Whether a publish has a waiter."""
        return any(waiter is not None for waiter in self._waiting.values())

    @property
    def has_barriers(self) -> bool:
        """Whether the program waits at a barrier."""
        return any(not barrier.quiet for barrier in self._barriers)

    def barrier(self, waiter: Any, quiet: bool = False) -> Barrier:
        """Tell *waiter* when everything published so far is settled. There must be something outstanding.

        quiet: it is not the program that waits, and no error is told to it that way.
        """
        barrier = Barrier(self.published, waiter, quiet)
        barrier.refused = self.take_refused()
        self._barriers.append(barrier)
        return barrier

    def leave(self, barrier: Barrier) -> None:
        """Nobody waits for it any more. Its bad news, also if that was told already, is for whoever asks next."""
        if barrier in self._barriers:
            self._barriers.remove(barrier)
        self.refused = self.refused or barrier.refused

    def take_refused(self) -> bool:
        """Whether a publish was refused since somebody asked."""
        refused, self.refused = self.refused, False
        return refused

    def settle(self, tag: int, multiple: bool, ok: bool) -> int:
        """An ack (ok) or nack has come. Returns how many publishes it has settled, or at least 1 if it is going to.

        Tag 0 with multiple means everything outstanding. A tag that is not
        outstanding settles nothing. What it costs goes by what it settles,
        however many others were published or settled before. A multiple settles
        step by step, in the order of publishing; one that comes before the last step
        of another stands behind it, and single ones go on.
        """
        waiting = self._waiting
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
        return before - len(self._waiting)

    def covers(self, tag: int) -> bool:
        """Whether a multiple for publishes up to this tag, or one before it, has steps left."""
        return bool(self._covered) and self._covered[0][0] <= tag

    def _settle_covered(self) -> Iterator[bool | None]:
        while self._covered:
            tag, ok = self._covered[0]
            tags = up_to(self._without_holes(), tag, PORTION)
            for one in tags:
                if one not in self._waiting:
                    continue  # by a confirm of its own, or the channel has ended
                if self._barriers and self._barriers[0].tag < one:
                    yield from self._pass_up_to(one - 1)
                self._settle(one, ok)
                yield ok
            if len(tags) < PORTION and self._covered:
                self._covered.pop(0)
        if self._barriers:
            yield from self._pass_due()

    def _settle(self, tag: int, ok: bool) -> None:
        waiter = self._waiting.pop(tag)
        verdict = self._returned.pop(tag, ok) if self._returned else ok
        if self._keys:
            self._forget_mandatory(tag)
        if waiter is not None:
            waiter.succeed(verdict)
        if verdict is not True:
            self._note_refused(tag)

    def fail_all(self, make_error: Callable[[], BaseException]) -> Ending:
        """The channel is gone, nothing more will be confirmed. Returns what is left to be done: all are to be told."""
        ending = Ending(self._waiting, self._barriers, self._covered, self._returned, make_error)
        self._waiting, self._barriers, self._covered, self._returned = {}, deque(), [], {}
        self._mandatory, self._keys = {}, {}
        return ending

    def _without_holes(self) -> dict[int, Any]:
        """The outstanding publishes, in a dict whose first one is at hand."""
        waiting = self._waiting
        if is_wide(waiting):
            settled = self.published - len(waiting)
            if settled - self._compact > max(HOLES, len(waiting) // 8):
                self._compact = settled
                waiting = self._waiting = {**waiting}
        return waiting

    def _note_refused(self, tag: int) -> None:
        """It is for those who wait for this publish among others, or else for whoever asks next."""
        concerned = False
        for barrier in self._barriers:
            if tag <= barrier.tag:
                barrier.refused = concerned = True
        if not concerned:
            self.refused = True

    def _pass_barriers(self) -> None:
        """Tell those for whom nothing is outstanding any more."""
        if not self._covered and self._barriers[0].tag < (first(self._without_holes()) or self.published + 1):
            self._walk(self._pass_due())

    def _pass_due(self) -> Iterator[None]:
        return self._pass_up_to((first(self._without_holes()) or self.published + 1) - 1)

    def _pass_up_to(self, tag: int) -> Iterator[None]:
        while self._barriers and self._barriers[0].tag <= tag:
            barrier = self._barriers.popleft()
            barrier.waiter.succeed(not barrier.refused)
            yield

    def _forget_mandatory(self, tag: int) -> None:
        key = self._keys.pop(tag, None)
        if key is not None:
            candidates = self._mandatory[key]
            del candidates[tag]
            if not candidates:
                del self._mandatory[key]


def _at_once(steps: Iterator[bool | None]) -> None:
    for _ in steps:
        pass


class Ending:
    """The publishes of a channel that has ended, whose waiters are told so in steps: those of ``__iter__``.

    confirmed, nacked: how many had been, by a multiple, and their waiters hear that instead. lost: all others.
    """

    __slots__ = ('_barriers', '_covered', '_make_error', '_returned', '_waiting', 'confirmed', 'lost', 'nacked')

    def __init__(
        self,
        waiting: dict[int, Any],
        barriers: deque[Barrier],
        covered: list[tuple[int, bool]],
        returned: dict[int, Any],
        make_error: Callable[[], BaseException],
    ) -> None:
        self._waiting = waiting
        self._barriers = barriers
        self._covered = covered
        self._returned = returned
        self._make_error = make_error
        self.confirmed = self.nacked = 0
        if covered:
            tags, before = list(waiting), 0
            for tag, ok in covered:
                place = bisect_right(tags, tag)
                if ok:
                    self.confirmed += place - before
                else:
                    self.nacked += place - before
                before = place
        self.lost = len(waiting) - self.confirmed - self.nacked

    def __iter__(self) -> Iterator[bool]:
        """A step for each publish and barrier. Gives whether a greenlet waited there for its own publish."""
        waiting = self._waiting
        for tag in list(waiting):
            waiter, awaited = waiting.pop(tag, None), False
            if waiter is not None:
                awaited = waiter.awaited
                self._tell(tag, waiter)
            yield awaited
        for barrier in self._barriers:
            barrier.waiter.fail(self._make_error)
            yield False

    def tell(self, tag: int, waiter: Any) -> bool:
        """Tell this one now. Returns False if it is none of those that are still to be told."""
        if self._waiting.get(tag) is not waiter:
            return False
        del self._waiting[tag]
        self._tell(tag, waiter)
        return True

    def _tell(self, tag: int, waiter: Any) -> None:
        for covered, ok in self._covered:
            if tag <= covered:
                waiter.succeed(self._returned.get(tag, ok))
                return
        waiter.fail(self._make_error)


def _most_alike(candidates: dict[int, Any], message: Any) -> int:
    """The tag of the oldest of those that share most with the message, 0 when none has its body.

    Compared is what was sent, as it would have arrived: the program may have changed its objects since.
    """
    best, fewest = 0, -1
    body, properties = message.body, message.properties
    for tag, sent in candidates.items():
        if not isinstance(sent, Content):
            sent = candidates[tag] = Decoder().feed(sent)[0]
        if sent.body != body:
            continue
        if sent.properties == properties:
            return tag
        # A broker may take a header away (BCC) or add one (its interceptors).
        different = _differences(sent.properties, properties)
        if fewest < 0 or different < fewest:
            best, fewest = tag, different
    return best


def _differences(sent: dict[str, Any], returned: dict[str, Any]) -> int:
    """How many properties, and headers, are not the same."""
    return _unequal(sent, returned) + _unequal(sent.get(HEADERS) or {}, returned.get(HEADERS) or {})


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
