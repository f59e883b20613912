"""The connections and channels of a pool in one process: leased, taken back, closed.

Layer 5. ``leases`` knows who has which channel and who waits; ``opening_connections`` opens connections and channels,
in greenlets of its own. A greenlet that leases a channel only waits here: if it is killed, that ends its wait and
nothing else. Does not belong here: what the program does with a channel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from .. import exceptions, green
from ..channel import reuse
from ..channel.channel import Channel
from ..connection.connection import Connection
from ..connection.liveness import LAST_CLOSE_TIMEOUT
from ..green import os_threads
from ..state.durations import in_seconds
from ..state.lifecycle import Reason
from .ended_leases import EndedLeases
from .leases import PoolConnection
from .opening_connections import LOOK, PoolOpening

__all__ = ('PoolConnections',)


class PoolConnections(PoolOpening):
    """The connections and channels of one pool in one process.

    make: returns a Connection, open or not. where: host and virtual host, for logs and errors.
    connections, channels: the most connections, and the most channels of each.
    confirm: have the channels in confirm mode.
    """

    def __init__(
        self, make: Callable[[], Connection], where: str, connections: int, channels: int, confirm: bool = True
    ) -> None:
        super().__init__(make, connections, channels, confirm)
        self._where = where
        self._limits = connections, connections * channels
        self._thread: int | None = None
        self._settlements = EndedLeases(self.put_back)
        self._ended: green.Event | None = None  # set when close() has returned; further calls wait for it

    def __str__(self) -> str:
        leases = self.leases
        state = 'closed' if leases.closed else 'open'
        connections, channels = self._limits
        shown = f'{leases.connections} of {connections} connections, {leases.leased} of {channels} channels leased'
        return f'{self._where} {state}: {shown}, {leases.waiting} waiting'

    # -- leasing -----------------------------------------------------------------

    def take(self, timeout: float) -> tuple[PoolConnection, Channel]:
        """Lease a channel; see ``Pool.channel``. Switches if it has to wait."""
        self.check_thread()
        leases = self.leases
        if leases.closed:
            raise _closed().make_error()
        while (held := leases.take()) is not None:
            if self._is_fit(*held):
                break
            self._give_up(*held)
        else:
            held = self._wait(timeout)
        reuse.begin_use(held[1], self._confirm)
        leases.leases += 1
        return held

    def put_back(self, member: PoolConnection, channel: Channel) -> None:
        """A lease has ended, or the broker has answered what was sent in an ended one. Does not switch."""
        if self.inherited:
            return
        leases = self.leases
        if not self._confirm and reuse.was_hindered(channel):
            self._plain_only = True
        if member not in leases.members or not self._is_fit(member, channel):
            self._give_up(member, channel)
            return
        now = time.monotonic()
        if self._settlements.begin(member, channel, now):
            if self._look is None:
                self._look_again(now, now + LOOK)
        elif leases.closed:
            self._give_up(member, channel)
        else:
            self._offer(member, channel)

    def check_thread(self) -> None:
        """Raise WrongThread in another thread than that of the first call. Does not switch."""
        if self.inherited:
            return
        if self._thread is None:
            self._thread = os_threads.get_ident()
            self._green = green.backend()
            self._returned = green.Gate(self._green)
        elif os_threads.get_ident() != self._thread:
            raise exceptions.WrongThread(f'the pool {self} belongs to another thread: make a pool for each')

    def _wait(self, timeout: float) -> tuple[PoolConnection, Channel]:
        deadline = green.Deadline(timeout)
        ticket = 0
        while True:
            if self.inherited or self.leases.closed:
                raise _closed().make_error()
            slot = green.Slot(self._green)
            ticket = self.leases.enter(slot, time.monotonic(), ticket)
            served: Any = self._await_turn(slot, deadline)
            if isinstance(served, Reason):
                raise served.make_error()
            # The connection may have been lost after the channel was offered and before this greenlet ran.
            if self._is_fit(*served):
                return served  # type: ignore[no-any-return]
            self._give_up(*served)

    def _await_turn(self, slot: green.Slot, deadline: green.Deadline) -> Any:
        leases = self.leases
        try:
            self._retire_lost()
            self._open_more()
            if not slot.wait(deadline.left()):
                leases.timeouts += 1
                raise self._late(deadline.seconds)
        except BaseException:
            if slot.done and not isinstance(slot.result(), Reason):
                self.put_back(*slot.result())
            raise
        finally:
            leases.leave(slot, time.monotonic())
        return slot.result()

    def _late(self, timeout: float | None) -> BaseException:
        if self._trouble is not None and not self.leases.connections:
            return self._trouble.make_error()
        text = f'no channel was free within {in_seconds(timeout)}; {self}'
        if self._trouble is None:
            return TimeoutError(text)
        error = TimeoutError(f'{text}; the latest attempt to open one failed: {self._trouble}')
        error.__cause__ = self._trouble.make_error()
        return error

    # -- the end -------------------------------------------------------------------

    def close(self, timeout: float, total: bool = False) -> None:
        """See ``Pool.close``. total: *timeout* includes closing the connections. Switches."""
        self.check_thread()
        deadline = green.Deadline(timeout)
        if self._ended is not None:
            self._ended.wait(deadline.left())
            return
        self._ended = green.Event(self._green)
        leases = self.leases
        leases.closed = True
        self._dismiss(_closed(), leases.ticket)
        try:
            while leases.leased and self._returned.wait(deadline.left()):
                pass
            self._close_connections(max(deadline.left() or 0.0, LAST_CLOSE_TIMEOUT) if total else None)
        finally:
            if self._look is not None:
                self._look.cancel()
                self._look = None
            for task in list(self._tasks):
                self._green.kill(task)
            for member in leases.disband():
                if member.connection is not None:
                    member.connection.collect()
            self._ended.set()

    def _close_connections(self, timeout: float | None) -> None:
        """Close all connections at the same time, since each may have to wait for its broker."""
        closing = []
        for member in self.leases.members:
            if member.connection is not None:
                slot = green.Slot(self._green)
                close = functools.partial(_close_connection, member.connection, slot, timeout)
                closing.append((self._spawn(close, None), slot))
        for task, slot in closing:
            while not slot.wait(LOOK) and not task.dead:
                pass

    def disown(self) -> None:
        """In a forked child: use nothing of this object any more. Its connections and leases are the parent's."""
        self.inherited = True
        if self._thread == os_threads.get_ident():
            # The child has copies of the waiting greenlets: they get an error.
            text = 'the channel was asked for before the process forked'
            self._dismiss(Reason(exceptions.RecoverableConnectionError(text)), self.leases.ticket)


def _close_connection(connection: Connection, slot: green.Slot, timeout: float | None) -> None:
    try:
        connection.close(timeout=timeout)
    finally:
        slot.succeed()


def _closed() -> Reason:
    return Reason(exceptions.RecoverableConnectionError('the pool is closed'), clean=True)
