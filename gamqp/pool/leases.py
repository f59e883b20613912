"""Who has which channel of a pool, who waits for one, and on which connection the next is opened.

Layer 5, and state without I/O: it calls nothing of connections, channels and waiters; the time is an argument. The
rule: a free channel goes to the greenlet that waits longest, so there is never an idle channel while one waits.
Does not belong here: opening, closing and waiting (``opening_connections``, ``connections``).
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from ..connection.connection import Connection

__all__ = ('AT_ONCE', 'Leases', 'PoolConnection')

# Waiters that get an error, and channels that are begun to open, in one turn of the hub.
AT_ONCE = 500


class PoolConnection:
    """One connection of a pool, from before it is opened until it is replaced.

    * connection: the Connection, None until it is open.
    * idle: its free channels, the one used last at the end.
    * leased, opening, closing: how many of its channels are leased, are being opened, are being closed.
    * capacity: the most channels, of all these together.
    * peak: the most channels that were open at the same time.
    * since: when it was connected.
    * resting: the time before which no channel is opened on it, after one could not be opened.
    """

    __slots__ = ('capacity', 'closing', 'connection', 'idle', 'leased', 'opening', 'peak', 'resting', 'since')

    def __init__(self, capacity: int) -> None:
        self.connection: Any = None
        self.idle: list[Channel] = []
        self.leased = 0
        self.opening = 0
        self.closing = 0
        self.capacity = capacity
        self.peak = 0
        self.since = 0.0
        self.resting = 0.0

    @property
    def open(self) -> int:
        """How many of its channels are open at the broker."""
        return len(self.idle) + self.leased + self.closing

    @property
    def channels(self) -> int:
        """How many channels it has, with those that are being opened."""
        return self.open + self.opening


class Leases:
    """All connections (members), leases and waiters of one pool in one process.

    A waiter is any object that can be hashed. A channel counts as leased from
    ``take`` or ``opened`` until ``offer`` makes it idle or ``drop`` removes it.
    most: the most channels in all that the broker opens for this user, once the broker has refused one; else None.
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
        self.retired: set[PoolConnection] = set()  # members that were replaced while channels of theirs were leased
        self.most: int | None = None
        self._waiting: OrderedDict[Any, tuple[int, float]] = OrderedDict()  # waiter -> ticket, since when
        # Waiters whose channel was lost at once, by ticket: they go first.
        self._ahead: list[tuple[int, Any, float]] = []
        self.ticket = 0  # the number of the latest waiter
        self.closed = False
        self.leases = self.waits = self.timeouts = self.replaced = self.lost = 0
        self.wait_seconds = self.max_wait = 0.0

    # -- counts ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._ahead)

    @property
    def leased(self) -> int:
        # A copy, because another thread may call this while the set changes.
        return sum(one.leased for one in self.members) + sum(one.leased for one in list(self.retired))

    @property
    def opening(self) -> int:
        return sum(one.opening for one in self.members)

    @property
    def connections(self) -> int:
        """How many connections are open."""
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

    def take(self) -> tuple[PoolConnection, Channel] | None:
        """Lease an idle channel: of the connection with the fewest leases the one used last; None if none is idle."""
        best: PoolConnection | None = None
        for member in self.members:
            if member.idle and (best is None or member.leased < best.leased):
                best = member
        if best is None:
            return None
        best.leased += 1
        return best, best.idle.pop()

    def opened(self, member: PoolConnection) -> None:
        """A channel is open now. It counts as leased until it is offered."""
        member.opening -= 1
        member.leased += 1
        member.peak = max(member.peak, member.open)

    def offer(self, member: PoolConnection, channel: Channel, now: float) -> Any:
        """A leased channel is free. Returns the waiter that gets it, or None: then it is idle."""
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
        """A leased channel cannot be used any more. It counts as being closed until ``dropped``."""
        member.leased -= 1
        member.closing += 1
        self.replaced += 1
        if not member.leased:
            self.retired.discard(member)

    def dropped(self, member: PoolConnection) -> None:
        member.closing -= 1

    def retire(self, member: PoolConnection) -> bool:
        """A connection cannot be used any more: a new member replaces it, and no channel of it is leased any more.

        Returns False if that was done before.
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
        """Remove all members, at the end of the pool. Returns those that may have a connection."""
        members = [*self.members, *self.retired]
        self.retired.update(one for one in self.members if one.leased)
        self.members = []
        return members

    # -- waiters -------------------------------------------------------------------

    def enter(self, waiter: Any, now: float, ticket: int = 0) -> int:
        """Add a waiter behind all others. Returns its number in the queue, the ticket.

        ticket: that of a waiter whose channel was lost before it could use it: it gets its old place again.
        """
        if ticket:
            insort(self._ahead, (ticket, waiter, now), key=itemgetter(0))
            return ticket
        self.ticket += 1
        self.waits += 1
        self._waiting[waiter] = (self.ticket, now)
        return self.ticket

    def leave(self, waiter: Any, now: float) -> None:
        """Remove a waiter; does nothing if it has got a channel or was dismissed."""
        if waiter in self._waiting:
            _, since = self._waiting.pop(waiter)
            self._note_wait(now - since)
        for entry in self._ahead:
            if entry[1] == waiter:
                self._ahead.remove(entry)
                self._note_wait(now - entry[2])
                break

    def dismiss(self, ticket: int, now: float) -> list[Any]:
        """Remove and return the waiters with tickets up to this one, in order, at most AT_ONCE."""
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
        """Whether a waiter may get a channel without a new attempt: one is leased, is being opened, or closed."""
        return any(one.leased or one.opening or one.closing for one in self.members)

    def plan(self, now: float, connect_at: float = 0.0) -> list[PoolConnection]:
        """On which members to open channels now, so that one is being opened for each waiter: a list, one per channel.

        The members count them as being opened from now on. The next channel is planned on the connection with
        the fewest; of several on one that is open already. connect_at: the time before which no connection is
        opened. Plans at most AT_ONCE.
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
        """A member that has no connection yet and on which channels are planned."""
        return next((one for one in self.members if one.connection is None and one.opening), None)

    def connected(self, member: PoolConnection, connection: Connection, now: float, capacity: int) -> int:
        """A member has a connection, which can have *capacity* channels. Returns how many to open on it now."""
        member.connection = connection
        member.since = now
        member.capacity = min(member.capacity, capacity)
        member.opening = min(member.opening, member.capacity)
        return member.opening

    def give_up_connecting(self) -> None:
        """Connecting has failed: nothing is being opened on members without a connection."""
        for member in self.members:
            if member.connection is None:
                member.opening = 0

    def failed(self, member: PoolConnection) -> None:
        """A channel could not be opened."""
        member.opening -= 1

    def learn_limit(self, member: PoolConnection) -> bool:
        """The broker closed this connection over one channel too many: set *most*. Returns whether it has changed.

        Other programs may have channels of the same user, so *most* is the number that were open here.
        """
        known = member.peak + sum(one.open for one in self.members if one is not member)
        if not known or (self.most is not None and known >= self.most):
            return False
        self.most = known
        return True

    def next_chance(self, now: float) -> float | None:
        """The earliest time at which a resting member may be tried again; None if none rests."""
        return min((one.resting for one in self.members if one.resting > now), default=None)


def _order(member: PoolConnection) -> tuple[int, bool]:
    return member.channels, member.connection is None
