"""The connections and channels behind a pool, in one process: opened, checked, passed on, closed.

Layer 3. Who waits for what is in ``state.leases``; ``pool`` is the public face.
Channels are opened in greenlets of their own, so whoever asks for one only waits,
and being killed meanwhile ends a wait and nothing else. What must not enter: what
is done with a channel.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import greenlet

from . import exceptions, green
from .green import native
from .liveness import LAST_CLOSE_TIMEOUT
from .settlement import Settlements
from .state.backoff import Backoff
from .state.durations import in_seconds
from .state.leases import AT_ONCE, Leases, Member
from .state.lifecycle import Reason

__all__ = ('Supply',)

logger = logging.getLogger('gamqp.pool')

# Seconds that a connection is left alone after another channel of it could not be opened.
REST = 1.0

# Seconds between two looks, while somebody waits, for connections whose loss nobody has noticed.
LOOK = 1.0

# Seconds between two warnings that nothing can be opened.
COMPLAIN_EVERY = 60.0

# Seconds that RabbitMQ may go on counting a channel that is closed; where the user may have no more than
# are there, another one opened meanwhile would end the connection.
UNCOUNTED_AFTER = 0.1


class Supply:
    """make: returns a Connection, open or not. where: whereto, for people.

    connections, channels: how many at most, in all and of each connection.
    confirm: have the channels in confirm mode.
    """

    def __init__(
        self, make: Callable[[], Any], where: str, connections: int, channels: int, confirm: bool = True
    ) -> None:
        self._where = where
        self._limits = connections, connections * channels
        self.leases = Leases(connections, channels)
        self._confirm = confirm
        self._settlements = Settlements(self.put_back)
        self.inherited = False  # the parent's, in a forked child
        self._make = make
        self._thread: int | None = None
        self._green: Any = None
        self._tasks: dict[
            Any, Callable[[], None] | None
        ] = {}  # greenlet -> what to do if it is killed before it begins
        self._connector: Any = None  # the greenlet that opens connections, one after the other
        self._backoff = Backoff()
        self._look: Any = None  # a timer
        self._look_at = 0.0
        self._trouble: Reason | None = None  # why the latest attempt to open something failed, if it did
        self._may_complain_at = 0.0
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
        held[1].begin_use()
        leases.leases += 1
        return held

    def put_back(self, member: Member, channel: Any) -> None:
        """A lease has ended, or what it has left to be answered is. Does not switch."""
        if self.inherited:
            return
        leases = self.leases
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
            # Its connection may have been lost between the offer and this greenlet's turn.
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
            self._spawn(lambda: self._close_channel(member, channel), lambda: self._dropped(member))
            return
        if not member.leased:
            member.connection.collect()
        self._open_more()

    def _close_channel(self, member: Member, channel: Any) -> None:
        try:
            channel.close()
            if self.leases.most is not None:
                self._green.sleep(UNCOUNTED_AFTER)
        except (TimeoutError, exceptions.AMQPError):
            pass  # it cannot be used any more, whatever the broker says
        finally:
            self._dropped(member)

    def _dropped(self, member: Member) -> None:
        self.leases.dropped(member)
        self._open_more()

    def _retire(self, member: Member) -> None:
        """Its connection is of no more use; those who have channels of it will be told by the connection."""
        if self.leases.retire(member):
            now = time.monotonic()
            self._backoff.lost(now, now - member.since, random.random())
            if not member.leased:
                member.connection.collect()

    def _retire_lost(self) -> None:
        """Nobody may come back to tell that a connection was lost."""
        for member in list(self.leases.members):
            if member.connection is not None and not member.connection.is_alive():
                self._retire(member)

    # -- opening -----------------------------------------------------------------

    def _open_more(self) -> None:
        """Have a channel on its way for each waiter, as far as the limits go. Does not switch."""
        leases = self.leases
        if self.inherited or leases.closed:
            return
        now = time.monotonic()
        planned = leases.plan(now, self._backoff.until)
        for member in planned:
            if member.connection is not None:
                self._spawn_opening(member)
        if self._connector is None and leases.next_to_connect() is not None:
            self._connector = self._spawn(self._connect_in_turn, self._not_connected)
        if len(planned) == AT_ONCE:
            self._green.run_soon(self._open_more)
        elif leases.waiting:
            chances = (now + LOOK, self._backoff.until, leases.next_chance(now) or 0)
            self._look_again(now, min(one for one in chances if one > now))

    def _look_again(self, now: float, at: float) -> None:
        if self._look is None or at < self._look_at:
            if self._look is not None:
                self._look.cancel()
            self._look_at = at
            self._look = self._green.call_later(at - now, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if self.inherited:
            return  # a copy of the parent's timer
        for task, make_up in list(self._tasks.items()):
            if task.dead and make_up is not None:
                del self._tasks[task]
                make_up()
        now = time.monotonic()
        for late in self._settlements.give_up_late(now):
            self._give_up(*late)
        if len(self._settlements):
            self._look_again(now, now + LOOK)
        if self.leases.waiting:
            self._retire_lost()
            self._open_more()

    def _connect_in_turn(self) -> None:
        """Body of the one greenlet that connects."""
        try:
            while not self.inherited and not self.leases.closed and self._backoff.until <= time.monotonic():
                member = self.leases.next_to_connect()
                if member is None or not self._connect(member):
                    break
        finally:
            self._not_connected()

    def _not_connected(self) -> None:
        """The greenlet that connects has ended."""
        self._connector = None
        self.leases.give_up_connecting()
        self._open_more()

    def _connect(self, member: Member) -> bool:
        leases = self.leases
        try:
            connection = self._make()
            if not connection.connected:
                connection.connect()
        except BaseException as exc:
            passing = isinstance(exc, (OSError, exceptions.RecoverableConnectionError))
            firm = isinstance(exc, Exception) and not passing
            self._backoff.failed(time.monotonic(), random.random(), firm)
            leases.give_up_connecting()
            self._tell_failure(exc, firm)
            if not isinstance(exc, Exception):
                raise
            return False
        if self.inherited or leases.closed:
            connection.collect()
            return False
        self._trouble = None
        capacity = connection.channel_max or member.capacity
        for _ in range(leases.connected(member, connection, time.monotonic(), capacity)):
            self._spawn_opening(member)
        return True

    def _spawn_opening(self, member: Member) -> None:
        self._spawn(lambda: self._open_channel(member), lambda: self._not_opened(member))

    def _not_opened(self, member: Member) -> None:
        self.leases.failed(member)
        self._open_more()

    def _open_channel(self, member: Member) -> None:
        leases = self.leases
        try:
            channel = member.connection.channel()
            if self._confirm:
                channel.confirm_select_unawaited()
        except BaseException as exc:
            leases.failed(member)
            self._on_no_channel(member, exc)
            if not isinstance(exc, Exception):
                raise
            return
        leases.opened(member)
        if leases.closed or member not in leases.members or not self._is_fit(member, channel):
            self._give_up(member, channel)
        else:
            self._offer(member, channel)

    def _on_no_channel(self, member: Member, exc: BaseException) -> None:
        """A channel could not be opened; perhaps the connection was lost by that."""
        leases = self.leases
        if self.inherited or leases.closed:
            return
        now = time.monotonic()
        if member.connection.is_alive():
            member.resting = now + REST
            self._tell_failure(exc, isinstance(exc, Exception))
        elif _is_limit(exc):
            news = leases.learn_limit(member)
            if member in leases.members:
                self._retire(member)
                self._backoff.failed(now, random.random(), True)
            if news:
                # The broker does not say what of it others have: this is what there is.
                self._trouble = _reason(exc)
                logger.warning(
                    'pool %s: the user has no more than %s channels here: %s', str(self), leases.most, str(exc)
                )
            else:
                self._tell_failure(exc, not leases.most)
        else:
            self._retire(member)
            self._tell_failure(exc, False)
        self._open_more()

    def _tell_failure(self, exc: BaseException, firm: bool) -> None:
        """Something could not be opened. firm: those who have nothing else to hope for are told."""
        leases = self.leases
        if self.inherited or leases.closed:
            return
        self._trouble = _reason(exc)
        if firm and not leases.hopeful:
            self._dismiss(self._trouble, leases.ticket)
            return
        now = time.monotonic()
        if leases.waiting and now >= self._may_complain_at:
            self._may_complain_at = now + COMPLAIN_EVERY
            logger.warning('pool %s; could not open a channel: %s', str(self), str(self._trouble))

    def _spawn(self, fn: Callable[[], None], make_up: Callable[[], None] | None) -> Any:
        task = self._green.spawn(self._run, fn)
        self._tasks[task] = make_up
        return task

    def _run(self, fn: Callable[[], None]) -> None:
        me = greenlet.getcurrent()
        self._tasks[me] = None
        try:
            fn()
        finally:
            del self._tasks[me]

    # -- the end -------------------------------------------------------------------

    def close(self, timeout: float, total: bool = False) -> None:
        """See ``Pool.close``. total: *timeout* is for the connections' own close, too. Switches."""
        self.check_thread()
        deadline = green.Deadline(timeout)
        if self._ended is not None:
            self._ended.wait(deadline.left())
            return
        self._ended = green.Event(self._green)
        leases = self.leases
        leases.closed = True
        self._dismiss(_closed(), leases.ticket)
        if self._look is not None:
            self._look.cancel()
            self._look = None
        try:
            while leases.leased and self._returned.wait(deadline.left()):
                pass
            self._close_connections(max(deadline.left() or 0.0, LAST_CLOSE_TIMEOUT) if total else None)
        finally:
            for task in list(self._tasks):
                self._green.kill(task)
            for member in leases.disband():
                if member.connection is not None:
                    member.connection.collect()
            self._ended.set()

    def _close_connections(self, timeout: float | None) -> None:
        """All at the same time, since each may have to wait for its broker."""
        slots = []
        for member in self.leases.members:
            if member.connection is not None:
                slots.append(green.Slot(self._green))
                close = functools.partial(_close_connection, member.connection, slots[-1], timeout)
                self._spawn(close, slots[-1].succeed)
        for slot in slots:
            slot.wait()

    def disown(self) -> None:
        """In a forked child: what was opened, leased and is waited for is the parent's."""
        self.inherited = True
        if self._thread == native.get_ident():
            # The child has copies of the greenlets that wait.
            text = 'the channel was asked for before the process forked'
            self._dismiss(Reason(exceptions.RecoverableConnectionError(text)), self.leases.ticket)

    def _dismiss(self, reason: Reason, ticket: int) -> None:
        """Tell everybody who waits and has a ticket up to this one; many of them by and by."""
        gone = self.leases.dismiss(ticket, time.monotonic())
        for waiter in gone:
            waiter.succeed(reason)
        if len(gone) == AT_ONCE:
            self._green.run_soon(self._dismiss, reason, ticket)


def _close_connection(connection: Any, slot: green.Slot, timeout: float | None) -> None:
    try:
        connection.close(timeout=timeout)
    finally:
        slot.succeed()


def _closed() -> Reason:
    return Reason(exceptions.RecoverableConnectionError('the pool is closed'), clean=True)


def _is_limit(exc: BaseException) -> bool:
    """Whether the broker ended a connection because the user, or the node, has all the channels it may have."""
    return (
        isinstance(exc, exceptions.NotAllowed) and exc.method_sig == (0, 0) and 'channels opened' in str(exc.reply_text)
    )


def _reason(exc: BaseException) -> Reason:
    """Why something could not be opened, as each of several waiters can be told."""
    if isinstance(exc, Exception):
        try:
            return Reason(Reason(exc).make_error())  # without the traceback, and what that refers to
        except Exception:
            pass  # one of the program's that cannot be copied
    return Reason(exceptions.RecoverableConnectionError(f'could not open a channel: {str(exc) or type(exc).__name__}'))
