"""Group: recovering connections spread over the nodes of a cluster, with one interface.

Layer 5. Does not belong here: one connection of it (``member``), and one consumer (``group_consumer``).
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import greenlet

from .. import exceptions, green
from ..basic_message import Body, Message, PublishProperties
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from ..connection.by_uri import connection_to
from ..connection.connection import Connection
from ..connection.hosts import URL, Hosts, hosts_of
from ..connection.typed_keywords import ConnectionArguments
from ..consuming.subscription import OnError
from ..state.argument_checks import flag, optional_timeout, seconds, whole
from ..state.host_order import Address
from ..state.name_arguments import name
from ..state.secret_hiding import discreet
from ..state.uncopyable import Uncopyable
from .group_consumer import GroupConsumer
from .member import Member
from .side_by_side import side_by_side

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..channel.request import Arguments

__all__ = ('Group',)

logger = logging.getLogger('gamqp.group')

OWN = ('connections', 'max_age', 'consumers_per_channel', 'shuffle')

COUNT = whole(1)
AGE = seconds(none=None)

# Consumers of one channel. A channel is one process of the broker, and one that many share is slow.
CONSUMERS_PER_CHANNEL = 500

# By how much the age at which a connection is moved differs at random, so that the groups of many processes do not move
# at the same time; and seconds between two looks, as a part of that age.
JITTER = 0.2
LOOKS = 20

# Seconds that a connection which is moved away from gets for its handlers and confirms.
MOVE_TIMEOUT = 300.0


class Group(Uncopyable):
    """Several connections that recover, to the nodes of one cluster, with one interface.

    url: AMQP URIs, as for ``gamqp.connect``; give all nodes. connections: how many are opened, at the first use; more
    where the broker's limits of channels leave no room for a further consumer. Each goes to the node to which the group
    has the fewest. consumers_per_channel: at most. max_age: seconds after which a connection moves to another node, if
    the group has fewer connections there; 20 % more or less, and one at a time; None: never. So, after each node was
    restarted in turn, the load spreads again by itself.
    arguments: those of Connection; ``recover`` is True where it is not given.

    Belongs to the thread of its first use. Making one opens nothing and does not switch greenlets. Raises ValueError
    and TypeError for bad arguments. A forked child makes a group of its own.
    """

    @discreet
    def __init__(
        self,
        url: URL,
        connections: int = 4,
        *,
        max_age: float | None = None,
        consumers_per_channel: int = CONSUMERS_PER_CHANNEL,
        shuffle: bool = True,
        **arguments: Unpack[ConnectionArguments],
    ) -> None:
        self._wanted = COUNT('connections', connections)
        self._max_age = AGE('max_age', max_age)
        self._limit = COUNT('consumers_per_channel', consumers_per_channel)
        given: dict[str, Any] = {'recover': True, **arguments}
        if not given['recover']:
            raise ValueError('recover: the connections of a group recover; give True or a Recovery')
        self._hosts: Hosts = hosts_of(url, given, 'Group', OWN, flag('shuffle', shuffle), self._loads)
        connection_to(self._hosts)  # raises now if an argument is wrong
        self._members: list[Member] = []
        self._turns = itertools.count()
        self._opening: green.Gate | None = None  # greenlets wait here for the one that opens
        self._is_opening = False
        self._is_closed = False
        self._moving: Any = None  # the greenlet that moves a connection
        self._leaving: Member | None = None  # its consumers were started elsewhere, and it finishes what it has begun
        self._mover: Any = None  # the greenlet that looks at ages

    def __repr__(self) -> str:
        return f'<Group of {len(self._members)} connections, {self.consumer_count} consumers>'

    def __enter__(self) -> Group:
        self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- what there is ---------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that there are at present, to look at."""
        return tuple(member.connection for member in self._members)

    @property
    def consumer_count(self) -> int:
        """How many consumers the group has."""
        return sum(len(member.consumers) for member in self._members)

    def stats(self) -> dict[str, dict[str, float]]:
        """``Connection.stats`` of the present connections, summed by host, with ``connections``. Does not switch."""
        sums: dict[str, dict[str, float]] = {}
        for member in self._members:
            of_host = sums.setdefault(member.connection.host, {'connections': 0})
            of_host['connections'] += 1
            for key, value in member.connection.stats().items():
                of_host[key] = of_host.get(key, 0) + value
        return sums

    def _loads(self) -> Mapping[Address, int]:
        loads: dict[Address, int] = {}
        for member in self._members:
            if member.connection.state == 'open':
                address = member.connection._host_settings.address
                loads[address] = loads.get(address, 0) + 1
        return loads

    # -- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the connections, if they are not; or wait while another greenlet does. Switches. Raises why not."""
        if len(self._members) >= self._wanted:
            return
        self._check_open()
        if self._opening is None:
            self._opening = green.Gate(green.backend())
        while self._is_opening:
            self._opening.wait()
            self._check_open()
        if len(self._members) >= self._wanted:
            return
        self._is_opening = True
        try:
            while len(self._members) < self._wanted:
                self._add_member()
        finally:
            self._is_opening = False
            self._opening.wake_all()
        if self._max_age is not None and self._mover is None:
            self._mover = green.backend().spawn(self._move_the_old)

    def _add_member(self, avoid: Connection | None = None) -> Member:
        """Open one more connection. avoid: not to the host of this one, if there is another. Switches."""
        connection = connection_to(self._hosts)
        if avoid is not None:
            connection._hosts = self._hosts.avoiding(avoid._host_settings)
        connection.connect()
        connection._hosts = self._hosts
        if self._is_closed:
            connection.close()
            self._check_open()
        member = Member(connection, self._limit)
        self._members.append(member)
        return member

    def _check_open(self) -> None:
        if self._is_closed:
            raise exceptions.RecoverableConnectionError('the group is closed')

    # -- use -------------------------------------------------------------------------------------

    def channel(self) -> Channel:
        """A new channel of the connection with the fewest consumers, e.g. to declare; it is the caller's to close.

        Its calls raise RecoverableConnectionError when that connection moves (*max_age*, ``move``). Switches greenlets.
        Raises what ``Connection.channel`` raises, and why no connection could be opened.
        """
        self._open()
        return self._least_loaded().connection.channel()

    def subscribe(
        self,
        queue: str,
        handler: Callable[[Message], object],
        concurrency: int = 1,
        prefetch: int | None = None,
        on_error: OnError = 'requeue',
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments = None,
    ) -> GroupConsumer:
        """``Channel.subscribe`` on the connection with the fewest consumers. Returns the GroupConsumer.

        While a connection moves to another node a consumer has two places for a moment, and messages of its queue may
        be handled in both: where their order counts, declare the queue with x-single-active-consumer. One that is
        exclusive cannot have two places, and stays where it is. Switches greenlets. Raises what ``Channel.subscribe``
        raises, and why no connection could be opened.
        """
        queue = name('queue', queue)
        given = {
            'concurrency': concurrency,
            'prefetch': prefetch,
            'on_error': on_error,
            'no_ack': no_ack,
            'exclusive': exclusive,
            'arguments': arguments,
        }
        consumer = GroupConsumer(queue, handler, given)
        self._open()
        while True:
            member = self._least_loaded()
            if not member.has_room:
                member = self._add_member()
            try:
                consumer._start_on(member)
                return consumer
            except exceptions.ResourceError:
                if member.has_room:
                    raise  # not for want of channels

    def publish(
        self,
        message: Message | Body,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        timeout: float | None = None,
        **properties: Unpack[PublishProperties],
    ) -> Receipt:
        """``Channel.publish`` on the connections in turn; those that are lost are left out while another is open.

        Switches greenlets where that does, and to open the connections. Raises what it raises.
        """
        self._open()
        channel = self._next_to_publish().publishing_channel()
        return channel.publish(message, exchange, routing_key, mandatory, timeout, **properties)

    def _least_loaded(self) -> Member:
        usable = [member for member in self._members if member.is_usable] or self._members
        # Those that are open before those that recover, and of these the one with the fewest consumers.
        return min(usable, key=lambda one: (not one.has_room, one.connection.state != 'open', len(one.consumers)))

    def _next_to_publish(self) -> Member:
        members = self._members
        start = next(self._turns)
        ordered = [members[(start + offset) % len(members)] for offset in range(len(members))]
        return next((one for one in ordered if one.connection.state == 'open'), ordered[0])

    # -- moving ----------------------------------------------------------------------------------

    def move(self, timeout: float = MOVE_TIMEOUT) -> bool:
        """Move the connection that is open for the longest time to another node. Returns whether one was moved.

        A connection to the node with the fewest of the group is opened first, and the consumers are started there; then
        those on the old one are cancelled, its handlers finish, its confirms come, and it is closed. Nothing is lost,
        and no queue is without a consumer. timeout: seconds for the end of the old one; what is not finished then is
        delivered again. False where another move is under way. Switches greenlets. Raises why the new connection could
        not be opened, or a consumer not be started there; then everything is as before.
        """
        self._check_open()
        if self._moving is not None or not self._members:
            return False
        self._moving = greenlet.getcurrent()
        try:
            oldest = min((one for one in self._members if one.is_usable), key=lambda one: one.since, default=None)
            if oldest is None:
                return False
            self._move(oldest, timeout)
            return True
        finally:
            self._moving = None

    def _move(self, old: Member, timeout: float) -> None:
        new = self._add_member(avoid=old.connection)
        moved: list[GroupConsumer] = []
        try:
            for consumer in [one for one in old.consumers if not one._arguments['exclusive']]:
                if consumer._member is old:  # it may have been cancelled meanwhile
                    consumer._start_on(new)
                    moved.append(consumer)
        except BaseException:
            self._undo(old, new, moved)
            raise
        deadline = green.Deadline(timeout)
        if old.consumers:
            new.since = old.since = time.monotonic()  # exclusive ones stay, and their connection with them
        elif old in self._members:  # else the group has ended
            self._members.remove(old)
            self._leaving = old
        try:
            for consumer in moved:
                try:
                    consumer._leave_older(deadline.left())
                except (TimeoutError, exceptions.AMQPError) as exc:
                    logger.warning('%r: the consumer before it has not ended in time: %s', consumer, exc)
            if self._leaving is old:
                old.connection.drain(deadline.left())
        finally:
            # Where this greenlet was killed, and exclusive ones keep the connection: no consumer stays in two places.
            for consumer in moved:
                consumer._cancel_older()
            # Nobody else knows this connection any more; only the end of the group takes it over.
            if self._leaving is old:
                self._leaving = None
                old.connection.collect()

    def _undo(self, old: Member, new: Member, moved: list[GroupConsumer]) -> None:
        """The new connection cannot take them all. Does not wait."""
        if new not in self._members:
            return  # the group is closed, and has closed it
        self._members.remove(new)
        for consumer in moved:
            consumer._member = old
            old.consumers[consumer] = None
            consumer._consumers.pop().cancel(wait=False)
        new.connection.collect()

    def _move_the_old(self) -> None:
        """Body of a greenlet: one connection after the other, when its time has come. Switches."""
        assert self._max_age is not None
        backend = green.backend()
        ages: dict[Member, float] = {}
        while not self._is_closed:
            backend.sleep(self._max_age / LOOKS)
            now = time.monotonic()
            for member in list(self._members):
                limit = ages.setdefault(member, self._max_age * random.uniform(1 - JITTER, 1 + JITTER))
                if now - member.since >= limit and self._moving is None and not self._is_closed:
                    self._move_one(member)
            ages = {member: limit for member, limit in ages.items() if member in self._members}

    def _move_one(self, member: Member) -> None:
        if not self._is_worth_it(member):
            member.since = time.monotonic()
            return
        self._moving = greenlet.getcurrent()
        try:
            self._move(member, MOVE_TIMEOUT)
        except (OSError, exceptions.AMQPError) as exc:
            member.since = time.monotonic()
            logger.warning('%r could not be moved: %s', member, exc)
        finally:
            self._moving = None

    def _is_worth_it(self, member: Member) -> bool:
        """Whether another node has fewer connections, or nobody can know."""
        addresses = [settings.address for settings in self._hosts.attempt_order()]
        if len(addresses) == 1:
            return True  # a balancer, or one node: it decides where the next one goes
        loads = self._loads()
        own = loads.get(member.connection._host_settings.address, 0)
        return any(loads.get(address, 0) + 1 < own for address in addresses)

    # -- ending ----------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> bool:
        """``Connection.drain`` of all connections at once. Returns whether everything was finished. Switches greenlets.

        timeout: total seconds, None for as long as handlers take. The group is closed then. Raises why a connection was
        lost meanwhile, when all have ended.
        """
        optional_timeout('timeout', timeout)
        return all(self._end_all(lambda connection: connection.drain(timeout)))

    def close(self) -> None:
        """Close all connections at once; what is unacked goes back to its queue. Twice does no harm. Switches."""
        self._end_all(lambda connection: connection.close())

    def _end_all(self, end: Callable[[Connection], Any]) -> list[Any]:
        self._is_closed = True
        members, self._members = self._members, []
        if self._leaving is not None:
            members.append(self._leaving)
            self._leaving = None
        mover, self._mover = self._mover, None
        if mover is not None and mover is not greenlet.getcurrent():
            green.backend().kill(mover)  # a greenlet of the program that is in move() gets why its connection has ended
        return side_by_side(end, [member.connection for member in members])
