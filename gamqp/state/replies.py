"""The replies a channel still owes us, in order.

State, no I/O. A broker answers the synchronous methods of one channel in the
order in which they were sent, so the first expected reply is the one that comes
next; but RabbitMQ lets consume-ok and cancel-ok, which come from the queue, be
overtaken by later replies, so these are told by their consumer tag. A caller
that gave up leaves its entry here: the late reply is then recognised and
dropped instead of reaching the next caller.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

from .. import exceptions

__all__ = ('Expected', 'Replies', 'fail_each')

Sig = tuple[int, int]
Hook = Callable[[Any], Any] | None


class Expected:
    """One reply to come.

    sigs: the methods that may answer. slot: who waits (``succeed``/``fail``), or
    None when nobody does. arrived: called with the reply, whether or not
    anybody still waits; this is where state follows what the broker has done.
    undo: called with a reply whose caller is gone. tag: the consumer tag that the
    reply begins with, for a reply that others may overtake; None for one in order.
    quiet: it is not the program that waits, and no error is told to it that way.
    """

    __slots__ = ('_reply', 'abandoned', 'arrived', 'number', 'quiet', 'sig', 'sigs', 'slot', 'tag', 'undo')

    def __init__(
        self,
        sigs: tuple[Sig, ...],
        slot: Any = None,
        arrived: Hook = None,
        undo: Hook = None,
        tag: str | None = None,
    ) -> None:
        self.sigs = sigs
        self.tag = tag
        self.number = 0  # in the order of asking
        self.sig: Sig | None = None  # the one that came
        self.slot = slot
        self.arrived = arrived
        self.undo = undo
        self.quiet = False
        self.abandoned = False  # the caller was killed or timed out
        self._reply: tuple[Any, ...] = ()  # empty, or the reply alone

    def arrive(self, reply: Any) -> None:
        """The reply has come."""
        self._reply = (reply,)
        if self.arrived is not None:
            self.arrived(reply)
        if self.abandoned:
            self._take_back()
        elif self.slot is not None:
            self.slot.succeed(reply)

    def abandon(self) -> None:
        """The caller is gone. It may have been killed when its reply had come but it had not yet run."""
        self.abandoned = True
        self._take_back()

    def _take_back(self) -> None:
        reply, self._reply = self._reply, ()
        if reply and self.undo is not None:
            self.undo(reply[0])


class Replies:
    """FIFO of Expected. Those with a tag are found by it: a program may cancel thousands of consumers at once."""

    __slots__ = ('_asked', '_queue', '_tagged')

    def __init__(self) -> None:
        # A list, short as it is: an empty deque takes 600 bytes, times every channel.
        self._queue: list[Expected] = []  # those without a tag
        self._tagged: dict[str, list[Expected]] | None = None  # made when needed
        self._asked = 0

    def __len__(self) -> int:
        return len(self._queue) + sum(map(len, (self._tagged or {}).values()))

    def expect(self, expected: Expected) -> None:
        """Must happen before the method is sent."""
        self._asked += 1
        expected.number = self._asked
        if expected.tag is None:
            self._queue.append(expected)
        else:
            tagged = self._tagged = self._tagged or {}
            tagged.setdefault(expected.tag, []).append(expected)

    def due(self, sig: Sig) -> bool:
        """Whether *sig*, no consume-ok or cancel-ok, would answer any expectation."""
        # From the end: a channel's close, of which this is asked, stands behind thousands of others.
        return any(sig in expected.sigs for expected in reversed(self._queue))

    @property
    def awaited(self) -> bool:
        """Whether ``fail_all`` would tell somebody of the program."""
        everything = itertools.chain(self._queue, *(self._tagged or {}).values())
        return any(one.slot is not None and not one.abandoned and not one.quiet for one in everything)

    def awaits_only(self, sig: Sig) -> bool:
        """Whether nothing is expected that *sig* does not answer."""
        return not self._tagged and all(sig in expected.sigs for expected in self._queue)

    def match(self, sig: Sig, reply: Any = ()) -> Expected:
        """The expectation that *reply* answers. Raises UnexpectedFrame when it answers none or another."""
        queue = self._queue
        expected = self._match_tagged(sig, reply) if self._tagged is not None else None
        if expected is None and queue and sig in queue[0].sigs:
            expected = queue.pop(0)
        if expected is not None:
            expected.sig = sig
            return expected
        due = queue[0] if queue else next((ones[0] for ones in (self._tagged or {}).values()), None)
        if due is None:
            raise exceptions.UnexpectedFrame('the peer sent a reply that nobody asked for', sig)
        wanted = ' or '.join(exceptions.METHOD_NAME_MAP.get(s, str(s)) for s in due.sigs)
        raise exceptions.UnexpectedFrame(f'the peer sent this while {wanted} was due', sig)

    def _match_tagged(self, sig: Sig, reply: Any) -> Expected | None:
        """The oldest with the reply's tag, if nothing that must come in order was asked before it."""
        tagged = self._tagged
        if tagged is None or not isinstance(reply, tuple) or not reply:
            return None
        tag = reply[0]
        for place, expected in enumerate(tagged.get(tag, ())):
            if sig in expected.sigs:
                if self._queue and self._queue[0].number < expected.number:
                    return None
                del tagged[tag][place]
                if not tagged[tag]:
                    del tagged[tag]
                    if not tagged:
                        self._tagged = None
                return expected
        return None

    def fail_all(self, make_error: Callable[[], BaseException], but: Sig | None = None) -> Iterator[None]:
        """The channel or connection is gone: nothing is expected any more, and every waiter gets the error.

        but: an expectation of this reply, the one of the latest question, stays, for it will still come.
        Returns the steps, one for each, in which they get it, about in the order of asking.
        """
        lost, tagged = self._queue, self._tagged
        self._queue, self._tagged = [], None
        if but is not None and lost and but in lost[-1].sigs:
            self._queue.append(lost.pop())
        with_tag = itertools.chain.from_iterable((tagged or {}).values())
        return fail_each(heapq.merge(lost, with_tag, key=attrgetter('number')), make_error)


def fail_each(lost: Iterable[Expected], make_error: Callable[[], BaseException]) -> Iterator[None]:
    """In steps: those who wait for these get the error."""
    for expected in lost:
        if expected.slot is not None and not expected.abandoned:
            expected.slot.fail(make_error)
        yield
