"""How the connections and channels of a pool are opened, and replaced when they cannot be used any more.

Layer 5, the base class of ``connections.PoolConnections``. One greenlet connects. Each channel is opened in
a greenlet of its own. A timer finds lost connections and killed greenlets.
Does not belong here: the program's calls (``connections``), the order of waiters (``leases``).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import greenlet

from .. import exceptions
from ..channel import reuse
from ..channel.channel import Channel
from ..connection.connection import Connection
from ..state.backoff import Backoff
from ..state.lifecycle import Reason
from .ended_leases import EndedLeases
from .leases import AT_ONCE, Leases, PoolConnection

__all__ = ('LOOK', 'PoolOpening')

logger = logging.getLogger('gamqp.pool')

# Seconds in which no channel is opened on a connection after one could not be opened.
REST = 1.0

# Seconds between two runs of the timer that looks for lost connections while a greenlet waits.
LOOK = 1.0

# Seconds for which RabbitMQ may go on counting a channel that is closed. Where the user may have no more channels
# than there are, RabbitMQ would close the connection over another one that is opened sooner.
UNCOUNTED_AFTER = 0.1

# Seconds between two warnings that nothing can be opened.
COMPLAIN_EVERY = 60.0


class PoolOpening:
    """Opens connections and channels for one pool. make, connections, channels, confirm: as for PoolConnections."""

    inherited = False  # in a forked child: this object is a copy of the parent's

    _settlements: EndedLeases

    def __init__(self, make: Callable[[], Connection], connections: int, channels: int, confirm: bool) -> None:
        self.leases = Leases(connections, channels)
        self._make = make
        self._confirm = confirm
        # Without *confirm*: whether a channel that a lease has put into confirm mode is given to no other. Most
        # programs do not notice; one that gets messages and then begins a transaction does.
        self._plain_only = False
        self._returned: Any = None  # a Gate that wakes close() when a lease has ended
        self._green: Any = None
        # greenlet -> function to call if the greenlet was killed before it has begun; None: it has begun
        self._tasks: dict[Any, Callable[[], None] | None] = {}
        self._connector: Any = None  # the greenlet that opens connections, one after the other
        self._backoff = Backoff()
        self._look: Any = None  # the timer
        self._look_at = 0.0
        self._trouble: Reason | None = (
            None  # why the latest attempt to open a connection or channel has failed, None if it has not
        )
        self._may_complain_at = 0.0

    def _open_more(self) -> None:
        """Begin to open a channel for each waiter, within the limits. Does not switch."""
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
        """Run by the one greenlet that opens connections, one after the other."""
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

    def _connect(self, member: PoolConnection) -> bool:
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
            self._note_failure(exc, firm)
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

    def _spawn_opening(self, member: PoolConnection) -> None:
        self._spawn(lambda: self._open_channel(member), lambda: self._not_opened(member))

    def _not_opened(self, member: PoolConnection) -> None:
        self.leases.failed(member)
        self._open_more()

    def _open_channel(self, member: PoolConnection) -> None:
        leases = self.leases
        try:
            channel = member.connection.channel()
            if self._confirm:
                channel._confirm_select_unawaited()
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

    def _on_no_channel(self, member: PoolConnection, exc: BaseException) -> None:
        """A channel could not be opened. The broker may have closed the connection over it."""
        leases = self.leases
        if self.inherited or leases.closed:
            return
        now = time.monotonic()
        if member.connection.is_alive():
            member.resting = now + REST
            self._note_failure(exc, isinstance(exc, Exception))
        elif _is_limit(exc):
            news = leases.learn_limit(member)
            if member in leases.members:
                self._retire(member)
                self._backoff.failed(now, random.random(), True)
            if news:
                # The limit is the user's. Other programs may have channels, too; this is how many the pool can have.
                self._trouble = _reason(exc)
                logger.warning(
                    'pool %s: the user has no more than %s channels here: %s', str(self), leases.most, str(exc)
                )
            else:
                self._note_failure(exc, not leases.most)
        else:
            self._retire(member)
            self._note_failure(exc, False)
        self._open_more()

    def _note_failure(self, exc: BaseException, firm: bool) -> None:
        """Keep and log why nothing could be opened. firm: waiters get the error if no channel can become free."""
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

    def _is_fit(self, member: PoolConnection, channel: Channel) -> bool:
        if self._plain_only and reuse.is_confirming(channel):
            return False
        return reuse.is_as_new(channel) and bool(member.connection.is_alive())

    def _offer(self, member: PoolConnection, channel: Channel) -> None:
        waiter = self.leases.offer(member, channel, time.monotonic())
        if waiter is not None:
            waiter.succeed((member, channel))

    def _give_up(self, member: PoolConnection, channel: Channel) -> None:
        """A leased channel cannot be used any more: close it in the background. Does not switch."""
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

    def _close_channel(self, member: PoolConnection, channel: Channel) -> None:
        try:
            channel.close()
            if self.leases.most is not None:
                self._green.sleep(UNCOUNTED_AFTER)
        except (TimeoutError, exceptions.AMQPError):
            pass  # the channel was given up anyway
        finally:
            self._dropped(member)

    def _dropped(self, member: PoolConnection) -> None:
        self.leases.dropped(member)
        self._open_more()

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

    def _retire(self, member: PoolConnection) -> None:
        """Replace a connection that cannot be used any more. The users of its channels get the error from it."""
        if self.leases.retire(member):
            now = time.monotonic()
            self._backoff.lost(now, now - member.since, random.random())
            if not member.leased:
                member.connection.collect()

    def _retire_lost(self) -> None:
        """Look for lost connections: without leased channels no user notices the loss."""
        for member in list(self.leases.members):
            if member.connection is not None and not member.connection.is_alive():
                self._retire(member)

    def _dismiss(self, reason: Reason, ticket: int) -> None:
        """Give the waiters with tickets up to this one the error, AT_ONCE of them in each turn of the hub."""
        gone = self.leases.dismiss(ticket, time.monotonic())
        for waiter in gone:
            waiter.succeed(reason)
        if len(gone) == AT_ONCE:
            self._green.run_soon(self._dismiss, reason, ticket)


def _is_limit(exc: BaseException) -> bool:
    """Whether the broker closed a connection because the user, or the node, has reached its limit of channels."""
    return (
        isinstance(exc, exceptions.NotAllowed) and exc.method_sig == (0, 0) and 'channels opened' in str(exc.reply_text)
    )


def _reason(exc: BaseException) -> Reason:
    """The Reason that makes an exception for each of several waiters."""
    if isinstance(exc, Exception):
        try:
            return Reason(Reason(exc).make_error())  # a copy without the traceback, which would keep its frames alive
        except Exception:
            pass  # an exception class of the program whose objects cannot be copied
    return Reason(exceptions.RecoverableConnectionError(f'could not open a channel: {str(exc) or type(exc).__name__}'))
