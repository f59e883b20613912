"""Publisher confirms: which publish each ``basic.ack``, ``basic.nack`` and ``basic.return`` speaks of.

State, no I/O. The broker numbers the publishes of a channel from 1 after
confirm.select; so do we, in the same step that hands the frames to the writer.
A message that comes back does so before its ack, and carries no number: its
publish is found among those that are outstanding by what it looks like.
https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ..wire import Content, Decoder
from .tag_order import first, is_wide, up_to

__all__ = ('Barrier', 'Confirms')

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
    """

    __slots__ = ('_barriers', '_keys', '_mandatory', '_returned', '_waiting', 'published', 'refused', 'selected')

    def __init__(self) -> None:
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
        if not candidates:
            return None
        tag = _most_alike(candidates, message)
        if not tag:
            return None
        self._forget_mandatory(tag)
        self._returned[tag] = message
        return self._waiting[tag]

    @property
    def unawaited(self) -> int:
        """How many of them have a waiter that no greenlet is waiting for right now."""
        return sum(waiter is not None and not waiter.awaited for waiter in self._waiting.values())

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
        """An ack (ok) or nack has come. Returns how many publishes it settled.

        Tag 0 with multiple means everything outstanding. A tag that is not
        outstanding settles nothing. What it costs goes by what it settles,
        however many others were published or settled before.
        """
        waiting = self._waiting
        if not multiple:
            if tag not in waiting:
                return 0
            self._settle(tag, ok)
            if self._barriers:
                self._pass_barriers()
            return 1
        if is_wide(waiting):
            waiting = self._without_holes()
        tags = up_to(waiting, tag) if tag else list(waiting)
        for one in tags:
            self._settle(one, ok)
        if self._barriers:
            self._pass_barriers()
        return len(tags)

    def _settle(self, tag: int, ok: bool) -> None:
        waiter = self._waiting.pop(tag)
        verdict = self._returned.pop(tag, ok) if self._returned else ok
        if self._keys:
            self._forget_mandatory(tag)
        if waiter is not None:
            waiter.succeed(verdict)
        if verdict is not True:
            self._note_refused(tag)

    def fail_all(self, make_error: Callable[[], BaseException]) -> int:
        """The channel is gone, none of these will be confirmed. Returns how many waiters were told."""
        waiting, self._waiting = self._waiting, {}
        barriers, self._barriers = self._barriers, deque()
        self._mandatory.clear()
        self._keys.clear()
        self._returned.clear()
        told = [waiter for waiter in waiting.values() if waiter is not None]
        told += [barrier.waiter for barrier in barriers]
        for waiter in told:
            waiter.fail(make_error)
        return len(told) - sum(barrier.quiet for barrier in barriers)

    def _without_holes(self) -> dict[int, Any]:
        """The outstanding publishes, in a dict whose first one is at hand."""
        if not self._waiting:
            self._waiting = {}
        elif not isinstance(self._waiting, OrderedDict):
            self._waiting = OrderedDict(self._waiting)
        return self._waiting

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
        oldest = first(self._without_holes() if is_wide(self._waiting) else self._waiting)
        while self._barriers and (not oldest or oldest > self._barriers[0].tag):
            barrier = self._barriers.popleft()
            barrier.waiter.succeed(not barrier.refused)

    def _forget_mandatory(self, tag: int) -> None:
        key = self._keys.pop(tag, None)
        if key is not None:
            candidates = self._mandatory[key]
            del candidates[tag]
            if not candidates:
                del self._mandatory[key]


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
