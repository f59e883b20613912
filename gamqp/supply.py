"""The connections and channels behind a pool, in one process: opened, checked, passed on, closed.

Layer 3. Who waits for what is in ``state.leases``; ``pool`` is the public face.
Channels are opened in greenlets of their own, so whoever asks for one only waits,
and being killed meanwhile ends a wait and nothing else. What must not enter: what
is done with a channel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import greenlet

from . import exceptions, green
from .green import native
from .state.leases import Leases, Member
from .state.lifecycle import Reason

__all__ = ('Supply',)

logger = logging.getLogger('gamqp.pool')

# Seconds that a connection which could not be opened, or not another channel of it,
# is left alone while there are others.
REST = 1.0


class Supply:
    """make: returns a Connection, open or not. where: whereto, for people.

    connections, channels: how many at most, in all and of each connection.
    """

    def __init__(self, make: Callable[[], Any], where: str, connections: int, channels: int) -> None:
        self._where = where
        self._limits = connections, connections * channels
        self.leases = Leases(connections, channels)
        self.inherited = False  # the parent's, in a forked child
        self._make = make
        self._thread: int | None = None
        self._green: Any = None
        self._tasks: set[Any] = set()  # greenlets that open and close
        self._retry: Any = None  # a timer
        self._trouble: Reason | None = None  # why the latest attempt to open something failed, if it did
        self._returned: Any = None  # a Gate for close()
        self._ended: green.Event | None = None  # close() has, for others that call it

    def __str__(self) -> str:
        leases = self.leases
        state = 'closed' if leases.closed else 'open'
        connections, channels = self._limits
        shown = f'{leases.connections} of {connections} connections, {leases.leased} of {channels} channels leased'
        return f'{self._where} {state}: {shown}, {leases.waiting} waiting'

    # -- leasing -----------------------------------------------------------------

    def take(self, timeout: float) -> tuple[Member, Any]:
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
        held[1].forget_refusals()
        leases.leases += 1
        return held

    def put_back(self, member: Member, channel: Any) -> None:
        """A lease has ended. Does not switch."""
        if self.inherited:
            return
        if self.leases.closed or member not in self.leases.members or not self._is_fit(member, channel):
            self._give_up(member, channel)
        else:
            self._offer(member, channel)

    def check_thread(self) -> None:
        """Raise WrongThread if it belongs to another one; the first to ask decides. Does not switch."""
        if self.inherited:
            return
        if self._thread is None:
            self._thread = native.get_ident()
            self._green = green.backend()
            self._returned = green.Gate(self._green)
        elif native.get_ident() != self._thread:
            raise exceptions.WrongThread(f'the pool {self} belongs to another thread: make a pool for each')

    def _is_fit(self, member: Member, channel: Any) -> bool:
        return bool(channel.is_as_new and member.connection.is_alive())

    def _offer(self, member: Member, channel: Any) -> None:
        waiter = self.leases.offer(member, channel, time.monotonic())
        if waiter is not None:
            waiter.succeed((member, channel))

    def _wait(self, timeout: float) -> tuple[Member, Any]:
        leases = self.leases
        slot = green.Slot(self._green)
        leases.enter(slot, time.monotonic())
        try:
            for member in list(leases.members):
                # Nobody may come back to tell that its connection was lost.
                if member.connection is not None and not member.connection.is_alive():
                    self._retire(member)
            self._open_more()
            if not slot.wait(timeout):
                leases.timeouts += 1
                raise self._late(timeout)
        except BaseException:
            if slot.done and not isinstance(slot.result(), Reason):
                self.put_back(*slot.result())
            raise
        finally:
            leases.leave(slot, time.monotonic())
        served: Any = slot.result()
        if isinstance(served, Reason):
            raise served.make_error()
        return served  # type: ignore[no-any-return]

    def _late(self, timeout: float) -> TimeoutError:
        text = f'no channel was free within {timeout:g} s; {self}'
        if self._trouble is None:
            return TimeoutError(text)
        error = TimeoutError(f'{text}; the latest attempt to open one failed: {self._trouble}')
        error.__cause__ = self._trouble.make_error()
        return error

    # -- giving up -----------------------------------------------------------------

    def _give_up(self, member: Member, channel: Any) -> None:
        """A leased channel is of no more use: close it in the background. Does not switch."""
        leases = self.leases
        leases.drop(member)
        if leases.closed:
            self._returned.wake_all()
        if not member.connection.is_alive():
            self._retire(member)
        if member in leases.members:
            self._spawn(self._close_channel, member, channel)
            return
        if not member.leased:
            member.connection.collect()
        self._open_more()

    def _close_channel(self, member: Member, channel: Any) -> None:
        try:
            channel.close()
        except (TimeoutError, exceptions.AMQPError):
            pass  # it cannot be used any more, whatever the broker says
        finally:
            self.leases.dropped(member)
            self._open_more()

    def _retire(self, member: Member) -> None:
        """Its connection is of no more use; those who have channels of it will be told by the connection."""
        if self.leases.retire(member) and not member.leased:
            member.connection.collect()

    # -- opening -----------------------------------------------------------------

    def _open_more(self) -> None:
        """Have a channel on its way for each waiter, as far as the limits go. Does not switch."""
        leases = self.leases
        if self.inherited or leases.closed:
            return
        now = time.monotonic()
        for member in leases.plan(now):
            if member.connection is not None:
                self._spawn(self._open_channel, member)
            elif not member.connecting:
                member.connecting = True
                self._spawn(self._connect, member)
        chance = leases.next_chance(now)
        if chance is not None and self._retry is None and leases.waiting > leases.opening:
            self._retry = self._green.call_later(chance - now, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._open_more()

    def _connect(self, member: Member) -> None:
        leases = self.leases
        ticket = leases.ticket  # those who wait now are told if it fails
        try:
            connection = self._make()
            if not connection.connected:
                connection.connect()
        except BaseException as exc:
            member.connecting = False
            self._on_failure(member, member.opening, ticket, exc)
            if not isinstance(exc, Exception):
                raise
            return
        member.connecting = False
        if self.inherited or leases.closed:
            connection.collect()
            return
        self._trouble = None
        member.resting = 0.0
        member.connection = connection
        member.capacity = min(member.capacity, connection.channel_max or member.capacity)
        member.opening = min(member.opening, member.capacity)
        for _ in range(member.opening):
            self._spawn(self._open_channel, member)
        self._open_more()

    def _open_channel(self, member: Member) -> None:
        leases = self.leases
        ticket = leases.ticket
        try:
            channel = member.connection.channel()
        except BaseException as exc:
            self._on_failure(member, 1, ticket, exc)
            if not isinstance(exc, Exception):
                raise
            return
        leases.opened(member)
        if leases.closed or member not in leases.members:
            self._give_up(member, channel)
        else:
            self._offer(member, channel)

    def _on_failure(self, member: Member, count: int, ticket: int, exc: BaseException) -> None:
        """Something could not be opened: who has nothing else to hope for is told, for the others it is tried again."""
        leases = self.leases
        now = time.monotonic()
        leases.failed(member, count, now + REST)
        if self.inherited or leases.closed:
            return
        if member.connection is not None and not member.connection.is_alive():
            self._retire(member)
        self._trouble = _reason(exc)
        if leases.hopeful:
            logger.warning('pool %s; could not open a channel: %s', self, self._trouble)
        else:
            for waiter in leases.dismiss(ticket, now):
                waiter.succeed(self._trouble)
        self._open_more()

    def _spawn(self, fn: Callable[..., None], *args: Any) -> None:
        self._tasks.add(self._green.spawn(self._run, fn, *args))

    def _run(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            fn(*args)
        finally:
            self._tasks.discard(greenlet.getcurrent())

    # -- the end -------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        """See ``Pool.close``. Switches."""
        self.check_thread()
        deadline = green.Deadline(timeout)
        if self._ended is not None:
            self._ended.wait(deadline.left())
            return
        self._ended = green.Event(self._green)
        leases = self.leases
        leases.closed = True
        self._dismiss_all(_closed())
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        try:
            while leases.leased and self._returned.wait(deadline.left()):
                pass
            self._close_connections()
        finally:
            for task in list(self._tasks):
                self._green.kill(task)
            for member in leases.disband():
                if member.connection is not None:
                    member.connection.collect()
            self._ended.set()

    def _close_connections(self) -> None:
        """All at the same time, since each may have to wait for its broker."""
        slots = []
        for member in self.leases.members:
            if member.connection is not None:
                slots.append(green.Slot(self._green))
                self._spawn(_close_connection, member.connection, slots[-1])
        for slot in slots:
            slot.wait()

    def disown(self) -> None:
        """In a forked child: what was opened, leased and is waited for is the parent's."""
        self.inherited = True
        if self._thread == native.get_ident():
            # The child has copies of the greenlets that wait.
            text = 'the channel was asked for before the process forked'
            self._dismiss_all(Reason(exceptions.RecoverableConnectionError(text)))

    def _dismiss_all(self, reason: Reason) -> None:
        for waiter in self.leases.dismiss(self.leases.ticket, time.monotonic()):
            waiter.succeed(reason)


def _close_connection(connection: Any, slot: green.Slot) -> None:
    try:
        connection.close()
    finally:
        slot.succeed()


def _closed() -> Reason:
    return Reason(exceptions.RecoverableConnectionError('the pool is closed'), clean=True)


def _reason(exc: BaseException) -> Reason:
    """Why something could not be opened, as each of several waiters can be told."""
    if isinstance(exc, Exception):
        try:
            return Reason(Reason(exc).make_error())  # without the traceback, and what that refers to
        except Exception:
            pass  # one of the program's that cannot be copied
    return Reason(exceptions.RecoverableConnectionError(f'could not open a channel: {str(exc) or type(exc).__name__}'))
