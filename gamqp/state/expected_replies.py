"""The replies of the broker that one channel still expects, in order.

State, no I/O. A broker answers the synchronous methods of one channel in the
order in which they were sent, so the next reply belongs to the oldest entry here.
There is one exception: in RabbitMQ later replies may overtake consume-ok and cancel-ok, which
come from the queue; these two are found by their consumer tag. A caller that gave up
leaves its entry here: its late reply is then recognised and dropped, and does not
reach the next caller. Does not belong here: encoding, sending, waiting (``channel.request``).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

from .. import exceptions
from .topology_records import RecordedConsumer
from .waiter_protocols import MakeError, Waiter

__all__ = ('Expected', 'Replies', 'fail_each')

Sig = tuple[int, int]
Hook = Callable[[Any], Any] | None


class Expected:
    """One expected reply.

    * sigs: the methods that may be the reply.
    * slot: the waiter (``succeed``, ``fail``); None when nobody waits.
    * arrived: called with the reply even if nobody waits any more; it updates state by what the broker has done.
    * undo: called with a reply whose caller was killed or timed out, to undo what the broker has done for it.
    * tag: the consumer tag at the beginning of a reply that others may overtake; None for a reply in order.
    * quiet: not the program waits, but the pool: its waiter is no place to report an error to the program.
    * consumer: the record of a consumer that is being started, None where it is not recorded, and for all else.
    """

    __slots__ = ('_reply', 'abandoned', 'arrived', 'consumer', 'number', 'quiet', 'sig', 'sigs', 'slot', 'tag', 'undo')

    def __init__(
        self,
        sigs: tuple[Sig, ...],
        slot: Waiter | None = None,
        arrived: Hook = None,
        undo: Hook = None,
        tag: str | None = None,
        consumer: RecordedConsumer | None = None,
    ) -> None:
        # More than one for basic.get, which get-ok or get-empty answers.
        self.sigs = sigs
        self.tag = tag
        self.number = 0  # 1 for the first question of the channel, 2 for the second …
        self.sig: Sig | None = None  # the method that came as the reply
        self.slot = slot
        self.arrived = arrived
        self.undo = undo
        self.consumer = consumer
        self.quiet = False
        self.abandoned = False  # the caller was killed or timed out
        # Wrapped in a tuple, because a reply without arguments is an empty tuple itself.
        self._reply: tuple[Any, ...] = ()  # empty, or the reply alone

    def arrive(self, reply: Any) -> None:
        """The reply has come."""
        # Kept for a caller that is killed between this moment and its waking: ``abandon`` undoes it then.
        self._reply = (reply,)
        # State before the waiter: what wakes must see what the broker has done.
        if self.arrived is not None:
            self.arrived(reply)
        # After ``arrived``: undo may close what the reply has opened, and asks the state whether it is open.
        if self.abandoned:
            self._take_back()
        elif self.slot is not None:
            self.slot.succeed(reply)

    def abandon(self) -> None:
        """The caller was killed or timed out, perhaps when the reply had come and the caller had not run yet."""
        self.abandoned = True
        self._take_back()

    def _take_back(self) -> None:
        # Emptied first, so that undo is called at most once. The reply and the end of the caller may come in either
        # order.
        reply, self._reply = self._reply, ()
        if reply and self.undo is not None:
            self.undo(reply[0])


class Replies:
    """FIFO of Expected. Those with a tag stand in a dict: a program may cancel thousands of consumers at once."""

    __slots__ = ('_asked', '_queue', '_tagged')

    def __init__(self) -> None:
        # A list, since it is short and an empty deque takes 600 bytes in each channel.
        self._queue: list[Expected] = []  # those without a tag
        # Tag -> entries, oldest first. There is more than one if a consumer is cancelled twice. A tag without entries
        # is removed, and the dict is removed with its last tag.
        self._tagged: dict[str, list[Expected]] | None = None  # made when needed
        # One count for both containers. It gives their entries a common order.
        self._asked = 0

    def __len__(self) -> int:
        return len(self._queue) + sum(map(len, (self._tagged or {}).values()))

    def expect(self, expected: Expected) -> None:
        """Add an expected reply. To be called before the method is sent."""
        self._asked += 1
        expected.number = self._asked
        if expected.tag is None:
            self._queue.append(expected)
        else:
            tagged = self._tagged = self._tagged or {}
            tagged.setdefault(expected.tag, []).append(expected)

    def due(self, sig: Sig) -> bool:
        """Whether a reply *sig* (not consume-ok or cancel-ok) is expected."""
        # From the end, because callers ask for the reply to what was sent last: a close, or the commit on a channel
        # that one greenlet has to itself.
        return any(sig in expected.sigs for expected in reversed(self._queue))

    @property
    def awaited(self) -> bool:
        """Whether a greenlet of the program waits for one of these, so that ``fail_all`` reports an error to it."""
        everything = itertools.chain(self._queue, *(self._tagged or {}).values())
        return any(one.slot is not None and not one.abandoned and not one.quiet for one in everything)

    def awaits_only(self, sig: Sig) -> bool:
        """Whether *sig* is the only reply that is expected, or none is."""
        return not self._tagged and all(sig in expected.sigs for expected in self._queue)

    def match(self, sig: Sig, reply: Any = ()) -> Expected:
        """Remove and return the entry of this reply. Raises UnexpectedFrame when another one, or none, is expected."""
        queue = self._queue
        # consume-ok and cancel-ok are always asked for with a tag, so they are never in the queue.
        expected = self._match_tagged(sig, reply) if self._tagged is not None else None
        if expected is None and queue and sig in queue[0].sigs:
            # pop(0) moves all others, but a greenlet waits for nearly each entry, so they are few.
            expected = queue.pop(0)
        if expected is not None:
            expected.sig = sig
            return expected
        # For the text of the error. Where only replies with a tag are expected, any of them can be named.
        due = queue[0] if queue else next((ones[0] for ones in (self._tagged or {}).values()), None)
        if due is None:
            raise exceptions.UnexpectedFrame('the peer sent a reply that nobody asked for', sig)
        wanted = ' or '.join(exceptions.METHOD_NAME_MAP.get(s, str(s)) for s in due.sigs)
        raise exceptions.UnexpectedFrame(f'the peer sent this while {wanted} was due', sig)

    def _match_tagged(self, sig: Sig, reply: Any) -> Expected | None:
        """The oldest entry with the reply's tag, unless a reply that comes in order was asked for before it."""
        tagged = self._tagged
        # The message of a get-ok is not a tuple. It has no tag in front and comes in order.
        if tagged is None or not isinstance(reply, tuple) or not reply:
            return None
        tag = reply[0]
        for place, expected in enumerate(tagged.get(tag, ())):
            if sig in expected.sigs:
                # A reply in order was asked for before, so this one cannot be the answer to that
                # later question.
                if self._queue and self._queue[0].number < expected.number:
                    return None
                del tagged[tag][place]
                if not tagged[tag]:
                    del tagged[tag]
                    if not tagged:
                        self._tagged = None
                return expected
        return None

    def expects(self, tag: str, sig: Sig) -> bool:
        """Whether this reply is expected for the consumer *tag*, perhaps by a caller that has gone."""
        return any(sig in one.sigs for one in (self._tagged or {}).get(tag, ()))

    def oldest_tagged(self, sig: Sig) -> Expected | None:
        """The one with a tag that was asked for first, of those for which this reply is expected."""
        found = (one for entries in (self._tagged or {}).values() for one in entries if sig in one.sigs)
        return min(found, key=attrgetter('number'), default=None)

    def take_tagged(self, sig: Sig) -> list[Expected]:
        """Remove and return those with a tag for which this reply is expected, and whose caller is still there."""
        taken: list[Expected] = []
        for tag, entries in list((self._tagged or {}).items()):
            assert self._tagged is not None
            taken += [one for one in entries if sig in one.sigs and not one.abandoned]
            left = [one for one in entries if sig not in one.sigs or one.abandoned]
            if left:
                self._tagged[tag] = left
            else:
                del self._tagged[tag]
        self._tagged = self._tagged or None
        return taken

    def fail_all(self, make_error: MakeError, but: Sig | None = None) -> Iterator[None]:
        """The channel or connection has ended: remove all entries. Returns steps; each gives one waiter the error.

        but: an entry for this reply stays if it is the latest, since that reply will still come. The waiters get
        the error about in the order in which they have asked.
        """
        # Replaced before the first step: what is asked from now on is not part of this end.
        lost, tagged = self._queue, self._tagged
        self._queue, self._tagged = [], None
        # A close is the last thing that is sent on a channel, so only the last entry can be its reply.
        if but is not None and lost and but in lost[-1].sigs:
            self._queue.append(lost.pop())
        # The chain is ordered within each tag only, so the merge is not exact. It sorts nothing, because there may be
        # thousands of entries and this is one step.
        with_tag = itertools.chain.from_iterable((tagged or {}).values())
        return fail_each(heapq.merge(lost, with_tag, key=attrgetter('number')), make_error)


def fail_each(lost: Iterable[Expected], make_error: MakeError) -> Iterator[None]:
    """Steps, one for each of *lost*, that give its waiter the error."""
    for expected in lost:
        if expected.slot is not None and not expected.abandoned:
            expected.slot.fail(make_error)
        yield
