"""Who has which channel of a pool, who waits for one, and where the next is to be opened.

State, no I/O. Connections, channels and waiters are opaque here, the time comes
in as an argument. What it keeps to: whoever waits longest is served first, and
nobody is served past a waiter, so there is never an idle channel while somebody waits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ('Leases', 'Member')


class Member:
    """One connection of a pool, from before it is opened until it is replaced.

    connection: None until it is open. idle: the channels nobody has, the one used
    last at the end. leased, opening, closing: how many channels somebody has, how
    many are about to be opened and closed. capacity: of all these together.
    resting: after a failure, the time until which nothing is opened here if
    there is any other hope.
    """

    __slots__ = ('capacity', 'closing', 'connecting', 'connection', 'idle', 'leased', 'opening', 'resting')

    def __init__(self, capacity: int) -> None:
        self.connection: Any = None
        self.connecting = False
        self.idle: list[Any] = []
        self.leased = 0
        self.opening = 0
        self.closing = 0
        self.capacity = capacity
        self.resting = 0.0

    @property
    def channels(self) -> int:
        """How many channels it has, or will have at once."""
        return len(self.idle) + self.leased + self.opening + self.closing


class Leases:
    """The books of one pool in one process.

    A waiter is anything that can be hashed. A channel is counted as leased from
    ``take`` or ``opened`` until ``offer`` makes it idle or ``drop`` gives it up.
    """

    __slots__ = (
        '_limit',
        '_waiting',
        'closed',
        'leases',
        'lost',
        'max_wait',
        'members',
        'replaced',
        'retired',
        'ticket',
        'timeouts',
        'wait_seconds',
        'waits',
    )

    def __init__(self, connections: int, channels: int) -> None:
        self._limit = channels
        self.members = [Member(channels) for _ in range(connections)]
        self.retired: set[Member] = set()  # replaced, but channels of theirs are still leased
        self._waiting: OrderedDict[Any, tuple[int, float]] = OrderedDict()  # waiter -> ticket, since when
        self.ticket = 0  # of the latest waiter
        self.closed = False
        self.leases = self.waits = self.timeouts = self.replaced = self.lost = 0
        self.wait_seconds = self.max_wait = 0.0

    # -- counts ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def leased(self) -> int:
        # A list at once: other threads may ask, and the set may change meanwhile.
        return sum(one.leased for one in self.members) + sum(one.leased for one in list(self.retired))

    @property
    def opening(self) -> int:
        return sum(one.opening for one in self.members)

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(one.connection is not None for one in self.members)

    def stats(self) -> dict[str, Any]:
        idle = sum(len(one.idle) for one in self.members)
        return {
            'connections': self.connections,
            'channels': idle + self.leased,
            'leased': self.leased,
            'idle': idle,
            'waiting': self.waiting,
            'opening': self.opening,
            'leases': self.leases,
            'waits': self.waits,
            'wait_seconds': self.wait_seconds,
            'max_wait_seconds': self.max_wait,
            'timeouts': self.timeouts,
            'replaced': self.replaced,
            'lost_connections': self.lost,
        }

    # -- channels ----------------------------------------------------------------

    def take(self) -> tuple[Member, Any] | None:
        """An idle channel of the connection with the fewest leases, the one used last; None if there is none."""
        best: Member | None = None
        for member in self.members:
            if member.idle and (best is None or member.leased < best.leased):
                best = member
        if best is None:
            return None
        best.leased += 1
        return best, best.idle.pop()

    def opened(self, member: Member) -> None:
        """What was being opened is, and counts as leased until it is offered."""
        member.opening -= 1
        member.leased += 1

    def offer(self, member: Member, channel: Any, now: float) -> Any:
        """A leased channel is free. Returns the waiter who has it now, None if it is idle."""
        if self._waiting:
            waiter, (_, since) = self._waiting.popitem(last=False)
            self._note_wait(now - since)
            return waiter
        member.leased -= 1
        member.idle.append(channel)
        return None

    def drop(self, member: Member) -> None:
        """A leased channel is of no more use, and is being closed until ``dropped``."""
        member.leased -= 1
        member.closing += 1
        self.replaced += 1
        if not member.leased:
            self.retired.discard(member)

    def dropped(self, member: Member) -> None:
        member.closing -= 1

    def retire(self, member: Member) -> bool:
        """A connection is of no more use: another takes its place, and nobody gets a channel of it any more.

        Returns False if it was retired before.
        """
        if member not in self.members:
            return False
        replacement = Member(self._limit)
        replacement.resting = member.resting
        self.members[self.members.index(member)] = replacement
        self.replaced += len(member.idle)
        self.lost += 1
        member.idle.clear()
        if member.leased:
            self.retired.add(member)
        return True

    def disband(self) -> list[Member]:
        """The end: no members any more. Returns all there were that may have a connection."""
        members = [*self.members, *self.retired]
        self.retired.update(one for one in self.members if one.leased)
        self.members = []
        return members

    # -- waiters -------------------------------------------------------------------

    def enter(self, waiter: Any, now: float) -> None:
        """Somebody waits, behind all the others."""
        self.ticket += 1
        self.waits += 1
        self._waiting[waiter] = (self.ticket, now)

    def leave(self, waiter: Any, now: float) -> None:
        """It waits no more; does nothing if it was served or dismissed."""
        if waiter in self._waiting:
            _, since = self._waiting.pop(waiter)
            self._note_wait(now - since)

    def dismiss(self, ticket: int, now: float) -> list[Any]:
        """Send away those who have a ticket up to this one, i.e. the first so many. Returns them, in order."""
        gone = []
        while self._waiting:
            waiter, (number, _) = next(iter(self._waiting.items()))
            if number > ticket:
                break
            gone.append(waiter)
            self.leave(waiter, now)
        return gone

    def _note_wait(self, seconds: float) -> None:
        self.wait_seconds += seconds
        self.max_wait = max(self.max_wait, seconds)

    # -- opening ---------------------------------------------------------------------

    @property
    def hopeful(self) -> bool:
        """Whether waiting alone may bring a channel: one may be returned, is being opened, or closed for another."""
        return any(one.leased or one.opening or one.closing for one in self.members)

    def plan(self, now: float) -> list[Member]:
        """Where to open channels now, so that one is on its way for each waiter: a member for each channel.

        The members count them as being opened from now on. The connection with
        the fewest channels is the next; at a tie, one that is open already.
        """
        planned: list[Member] = []
        for _ in range(self.waiting - self.opening):
            hopeful = self.hopeful
            best: Member | None = None
            for member in self.members:
                if member.channels >= member.capacity or (hopeful and member.resting > now):
                    continue
                if best is None or _order(member) < _order(best):
                    best = member
            if best is None:
                break
            best.opening += 1
            planned.append(best)
        return planned

    def failed(self, member: Member, count: int, rest_until: float) -> None:
        """So many channels could not be opened."""
        member.opening -= count
        member.resting = rest_until

    def next_chance(self, now: float) -> float | None:
        """When the first of the members that rest now has rested; None where none does."""
        return min((one.resting for one in self.members if one.resting > now), default=None)


def _order(member: Member) -> tuple[int, bool]:
    return member.channels, member.connection is None
