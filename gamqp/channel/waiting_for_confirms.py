"""The publisher confirms of one channel: who waits for them, whether there is room for more, and why some were lost.

Layer 3, held by Channel from its first receipt, or the first time that confirm mode is turned on. What the reader
calls never switches. Does not belong here: which publish a confirm speaks of (``state.confirm_matching``), and event
handlers (``events``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import green
from ..green.yielding import in_turns
from ..state.confirm_matching import Confirms
from ..state.confirms_at_end import Ending
from ..state.durations import in_seconds
from ..state.lifecycle import Reason

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('ChannelConfirms',)


class ChannelConfirms:
    """connection: the Connection. number: of the channel, for messages of errors.

    outstanding: the publishes without a confirm; None while confirm mode is off, also because the channel began anew.
    is_on: whether the broker confirms publishes. It may be on for the broker, and off for the program: when an earlier
    user of a pool's channel has turned it on.
    before: publishes that the broker has numbered before the first one of ``outstanding``.
    was_in_the_way: a user of the channel wanted a transaction, which the broker refused since confirm mode was on.
    endings: of the channel as it was before it ended, until the last of their publishers has got the reason.
    """

    __slots__ = (
        '_lost',
        '_number',
        '_room',
        'before',
        'connection',
        'endings',
        'is_on',
        'outstanding',
        'was_in_the_way',
    )

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self._number = number
        self.outstanding: Confirms | None = None
        self.endings: list[Ending] = []
        self.is_on = False
        self.before = 0
        self.was_in_the_way = False
        # Which publishes have got no confirm, and why, until ``wait`` has raised it.
        self._lost: tuple[Confirms, Reason] | None = None
        self._room: green.Gate | None = None  # made when a publish waits for others to be confirmed

    def __len__(self) -> int:
        """Publishes whose confirm has not come yet."""
        return 0 if self.outstanding is None else len(self.outstanding)

    def begin(self) -> bool:
        """Confirm mode is being turned on, if it is off. Returns whether the broker has to be asked for that."""
        was_on = self.is_on
        if self.outstanding is None:
            self.outstanding = self._new_outstanding()
            self.outstanding.selected = was_on
        self.is_on = True
        return not was_on

    def _new_outstanding(self) -> Confirms:
        return Confirms(self._walk)

    def go_on_from(self, published: int) -> None:
        """The broker counts from 1 on a new socket, and the program goes on from the publish with this number."""
        assert self.outstanding is not None  # begin() was called
        self.outstanding.published, self.before = published, -published

    def begin_use(self, confirm: bool) -> None:
        """A pool gives the channel to another user, who counts publishes from 1.

        confirm: confirm mode is to be on. If not, it is off for the program, although it stays on for the broker.
        """
        outstanding = self.outstanding
        if outstanding is not None and not outstanding and (outstanding.published or not confirm):
            # Another object, because the steps of a confirm with multiple may not have come to their end.
            self.before += outstanding.published
            self.outstanding = None
        if confirm and self.is_inherited:
            self.begin()

    @property
    def is_inherited(self) -> bool:
        """Whether confirm mode is on for the broker and off for the program."""
        return self.is_on and self.outstanding is None

    def own_tag(self, tag: int) -> int | None:
        """How the user of the channel counts the publish with this tag of the broker; None for an earlier user's."""
        if not tag:
            return None if self.outstanding is None else 0
        return tag - self.before if tag > self.before else None

    def selected(self) -> None:
        """The broker confirms from now on."""
        if self.outstanding is not None:
            self.outstanding.selected = True

    @property
    def has_waiters(self) -> bool:
        """Whether somebody asks for the outcome of a publish."""
        return self.outstanding is not None and self.outstanding.has_waiters

    @property
    def has_barriers(self) -> bool:
        """Whether the program is in ``wait``."""
        return self.outstanding is not None and self.outstanding.has_barriers

    # -- room --------------------------------------------------------------------------------

    def is_crowded(self, limit: int) -> bool:
        """Whether there is no room for another publish."""
        outstanding, room = self.outstanding, self._room
        if outstanding is None:
            return False
        # Places are reserved for greenlets that are woken already. Otherwise one that publishes in a loop
        # would take every place first.
        return len(outstanding.waiting) + (0 if room is None else room.woken) >= limit

    def wait_for_room(self, limit: int, deadline: green.Deadline) -> None:
        """Wait until a confirm has come, or the channel began anew. Raises TimeoutError. Switches greenlets."""
        if self._room is None:
            self._room = green.Gate(self.connection._green)
        woken = self._room.wait_by(self.connection._wait_for, deadline.left())
        if not woken and self.is_crowded(limit):
            raise TimeoutError(
                f'publish: {limit} publishes of channel {self._number} are without a confirm, '
                f'and no room came within {in_seconds(deadline.seconds)}'
            )

    def give_up_room(self, limit: int) -> None:
        """A publish that there was room for will not be made: the next greenlet gets its place."""
        if self._room is not None and not self.is_crowded(limit):
            self._room.wake()

    # -- waiting for all ------------------------------------------------------------------------

    def wait(self, limit: float) -> bool:
        """``Channel.wait_for_confirms``, for at most *limit* seconds. Switches greenlets."""
        lost, self._lost = self._lost, None
        if lost is not None:
            lost[1].throw()
        outstanding = self.outstanding
        if not outstanding:
            return outstanding is None or not outstanding.take_refused()
        slot = green.Slot(self.connection._green)
        barrier = outstanding.barrier(slot)
        try:
            if not self.connection._wait_for(slot, limit):
                raise TimeoutError(f'{len(outstanding)} publishes are still without a confirm')
        except BaseException:
            outstanding.leave(barrier)
            raise
        try:
            return bool(slot.result())
        except BaseException:
            if self._lost is not None and self._lost[0] is outstanding:
                self._lost = None  # the caller gets it here
            raise

    # -- from the reader ------------------------------------------------------------------------

    def settle(self, tag: int, multiple: bool, ok: bool) -> int:
        """A confirm of outstanding publishes has come. Returns how many it settles, or at least 1 if it is going to."""
        count = 0 if self.outstanding is None else self.outstanding.settle(tag, multiple, ok)
        if not multiple and count:  # the publishes of a multiple are counted step by step
            if ok:
                self.connection._counts.confirmed += 1
            else:
                self.connection._counts.nacked += 1
            if self._room:
                self._room.wake()
        return count

    def _walk(self, steps: Iterator[bool | None]) -> None:
        """For Confirms: take these steps, 1000 of them now. Does not switch."""
        in_turns(self.connection._green, self._count_steps(steps))

    def _count_steps(self, steps: Iterator[bool | None]) -> Iterator[None]:
        counts = self.connection._counts
        for ok in steps:
            if ok is not None:
                if ok:  # as in ``settle``: a call for each publish would cost more than these lines
                    counts.confirmed += 1
                else:
                    counts.nacked += 1
                if self._room:
                    self._room.wake()
            yield

    def settle_now(self, tag: int, receipt: Any) -> bool:
        """If this publish awaits the end of its channel, settle it before its turn. Returns whether it did."""
        return self.connection._affinity.is_here() and any(ending.settle_now(tag, receipt) for ending in self.endings)

    def end(self, reason: Reason, unheard: Callable[[], Any] | None) -> None:
        """The channel has ended: all whose publishes are without a confirm get the reason. Does not switch.

        unheard: called when all have got it and no greenlet waited for a publish of its own, perhaps some turns later.
        """
        connection, outstanding = self.connection, self.outstanding
        self.is_on, self.before = False, 0
        if outstanding is None:
            if unheard is not None:
                unheard()
        else:
            self.outstanding = None
            ending = outstanding.fail_all(reason.make_error)
            if ending.lost or ending.refused or outstanding.refused:
                self._lost = outstanding, reason
            self._begin_ending(ending, unheard)
        if self._room is not None:
            connection._work_in_turns.add(self._room.wake_each())

    def _begin_ending(self, ending: Ending, unheard: Callable[[], Any] | None) -> None:
        counts = self.connection._counts
        counts.confirmed += ending.confirmed
        counts.nacked += ending.nacked
        counts.lost += ending.lost
        self.endings.append(ending)
        self.connection._work_in_turns.add(self._fail_each(ending, unheard))

    def _fail_each(self, ending: Ending, unheard: Callable[[], Any] | None) -> Iterator[None]:
        heard = False
        for awaited in ending:
            heard = heard or awaited
            yield
        self.endings.remove(ending)
        if unheard is not None and not heard:
            unheard()
