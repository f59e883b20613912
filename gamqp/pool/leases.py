"""Who has which channel of a pool, who waits for one, and where the next is to be opened.

State, no I/O. Connections, channels and waiters are opaque here, the time comes
in as an argument. What it keeps to: whoever waits longest is served first, and
nobody is served past a waiter, so there is never an idle channel while somebody waits.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from operator import itemgetter
from typing import Any

__all__ = ('AT_ONCE', 'Leases', 'PoolConnection')

# Waiters sent away, and channels planned, in one turn of the hub.
AT_ONCE = 500


class PoolConnection:
    """One connection of a pool, from before it is opened until it is replaced.

    connection: None until it is open. idle: the channels nobody has, the one used
    last at the end. leased, opening, closing: how many channels somebody has, how
    many are about to be opened and closed. capacity: of all these together. peak: the
    most that were open at the same time. since: when it was connected. resting: after a
    channel could not be opened, the time until which no other is tried.
    """

    __slots__ = ('capacity', 'closing', 'connection', 'idle', 'leased', 'opening', 'peak', 'resting', 'since')

    def __init__(self, capacity: int) -> None:
        self.connection: Any = None
        self.idle: list[Any] = []
        self.leased = 0
        self.opening = 0
        self.closing = 0
        self.capacity = capacity
        self.peak = 0
        self.since = 0.0
        self.resting = 0.0

    @property
    def open(self) -> int:
        """How many channels of it the broker knows."""
        return len(self.idle) + self.leased + self.closing

    @property
    def channels(self) -> int:
        """How many channels it has, or will have at once."""
        return self.open + self.opening


class Leases:
    """The books of one pool in one process.

    A waiter is anything that can be hashed. A channel is counted as leased from
    ``take`` or ``opened`` until ``offer`` makes it idle or ``drop`` gives it up.
    most: channels in all beyond which the broker opens none, once it has shown that.
    """

    __slots__ = (
        '_ahead',
        '_limit',
        '_waiting',
        'closed',
        'leases',
        'lost',
        'max_wait',
        'members',
        'most',
        'replaced',
        'retired',
        'ticket',
        'timeouts',
        'wait_seconds',
        'waits',
    )

    def __init__(self, connections: int, channels: int) -> None:
        self._limit = channels
        self.members = [PoolConnection(channels) for _ in range(connections)]
        self.retired: set[PoolConnection] = set()  # replaced, but channels of theirs are still leased
        self.most: int | None = None
        self._waiting: OrderedDict[Any, tuple[int, float]] = OrderedDict()  # waiter -> ticket, since when
        self._ahead: list[tuple[int, Any, float]] = []  # those who were served in vain, by ticket: before all others
        self.ticket = 0  # of the latest waiter
        self.closed = False
        self.leases = self.waits = self.timeouts = self.replaced = self.lost = 0
        self.wait_seconds = self.max_wait = 0.0

    # -- counts ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._ahead)

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

    def stats(self) -> dict[str, float]:
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

    def take(self) -> tuple[PoolConnection, Any] | None:
        """An idle channel of the connection with the fewest leases, the one used last; None if there is none."""
        best: PoolConnection | None = None
        for member in self.members:
            if member.idle and (best is None or member.leased < best.leased):
                best = member
        if best is None:
            return None
        best.leased += 1
        return best, best.idle.pop()

    def opened(self, member: PoolConnection) -> None:
        """What was being opened is, and counts as leased until it is offered."""
        member.opening -= 1
        member.leased += 1
        member.peak = max(member.peak, member.open)

    def offer(self, member: PoolConnection, channel: Any, now: float) -> Any:
        """A leased channel is free. Returns the waiter who has it now, None if it is idle."""
        if self._ahead:
            _, waiter, since = self._ahead.pop(0)
        elif self._waiting:
            waiter, (_, since) = self._waiting.popitem(last=False)
        else:
            member.leased -= 1
            member.idle.append(channel)
            return None
        self._note_wait(now - since)
        return waiter

    def drop(self, member: PoolConnection) -> None:
        """A leased channel is of no more use, and is being closed until ``dropped``."""
        member.leased -= 1
        member.closing += 1
        self.replaced += 1
        if not member.leased:
            self.retired.discard(member)

    def dropped(self, member: PoolConnection) -> None:
        member.closing -= 1

    def retire(self, member: PoolConnection) -> bool:
        """A connection is of no more use: another takes its place, and nobody gets a channel of it any more.

        Returns False if it was retired before.
        """
        if member not in self.members:
            return False
        self.members[self.members.index(member)] = PoolConnection(self._limit)
        self.replaced += len(member.idle)
        self.lost += 1
        member.idle.clear()
        if member.leased:
            self.retired.add(member)
        return True

    def disband(self) -> list[PoolConnection]:
        """The end: no members any more. Returns all there were that may have a connection."""
        members = [*self.members, *self.retired]
        self.retired.update(one for one in self.members if one.leased)
        self.members = []
        return members

    # -- waiters -------------------------------------------------------------------

    def enter(self, waiter: Any, now: float, ticket: int = 0) -> int:
        """Somebody waits, behind all the others. Returns its ticket.

        ticket: its own, if it was served, but in vain: then it waits where it has waited before.
        """
        if ticket:
            insort(self._ahead, (ticket, waiter, now), key=itemgetter(0))
            return ticket
        self.ticket += 1
        self.waits += 1
        self._waiting[waiter] = (self.ticket, now)
        return self.ticket

    def leave(self, waiter: Any, now: float) -> None:
        """It waits no more; does nothing if it was served or dismissed."""
        if waiter in self._waiting:
            _, since = self._waiting.pop(waiter)
            self._note_wait(now - since)
        for entry in self._ahead:
            if entry[1] == waiter:
                self._ahead.remove(entry)
                self._note_wait(now - entry[2])
                break

    def dismiss(self, ticket: int, now: float) -> list[Any]:
        """Send away those who have a ticket up to this one, no more than AT_ONCE. Returns them, in order."""
        gone = [waiter for number, waiter, _ in self._ahead if number <= ticket][:AT_ONCE]
        for waiter, (number, _) in self._waiting.items():
            if number > ticket or len(gone) >= AT_ONCE:
                break
            gone.append(waiter)
        for waiter in gone:
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

    def plan(self, now: float, connect_at: float = 0.0) -> list[PoolConnection]:
        """Where to open channels now, so that one is on its way for each waiter: a member for each channel.

        The members count them as being opened from now on. The connection with
        the fewest channels is the next; at a tie, one that is open already. connect_at:
        the time before which none is to be connected. Plans no more than AT_ONCE.
        """
        planned: list[PoolConnection] = []
        for _ in range(min(self.waiting - self.opening, AT_ONCE)):
            if self.most is not None and sum(one.channels for one in self.members) >= self.most:
                break
            best: PoolConnection | None = None
            for member in self.members:
                if member.channels >= member.capacity:
                    continue
                if now < (connect_at if member.connection is None else member.resting):
                    continue
                if best is None or _order(member) < _order(best):
                    best = member
            if best is None:
                break
            best.opening += 1
            planned.append(best)
        return planned

    def next_to_connect(self) -> PoolConnection | None:
        """A member that channels are planned for and that has no connection yet."""
        return next((one for one in self.members if one.connection is None and one.opening), None)

    def connected(self, member: PoolConnection, connection: Any, now: float, capacity: int) -> int:
        """It has a connection, of so many channels. Returns how many are to be opened on it."""
        member.connection = connection
        member.since = now
        member.capacity = min(member.capacity, capacity)
        member.opening = min(member.opening, member.capacity)
        return member.opening

    def give_up_connecting(self) -> None:
        """No connection can be had now."""
        for member in self.members:
            if member.connection is None:
                member.opening = 0

    def failed(self, member: PoolConnection) -> None:
        """A channel could not be opened."""
        member.opening -= 1

    def learn_limit(self, member: PoolConnection) -> bool:
        """The broker ended this connection, because of one channel too many. Returns whether that is news.

        Other programs may have channels of the same user, so what counts is how many were open here.
        """
        known = member.peak + sum(one.open for one in self.members if one is not member)
        if not known or (self.most is not None and known >= self.most):
            return False
        self.most = known
        return True

    def next_chance(self, now: float) -> float | None:
        """When the first of the members that rest now has rested; None where none does."""
        return min((one.resting for one in self.members if one.resting > now), default=None)


def _order(member: PoolConnection) -> tuple[int, bool]:
    return member.channels, member.connection is None
