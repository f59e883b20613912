"""Pool: a few connections whose channels greenlets lease one at a time.

Layer 5. The public class: arguments, leases, stats, and the new beginning in a forked child. The connections of one
process are in ``connections``. Does not belong here: opening, waiting.
"""

from __future__ import annotations

import collections
import functools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import green
from ..basic_message import Body, Message, PublishProperties
from ..channel.channel import Channel
from ..connection.typed_keywords import ConnectionArguments
from ..green.forking import at_fork
from ..state.argument_checks import flag, given_timeout, optional_timeout, whole
from ..state.host_order import Address
from ..state.name_arguments import name
from ..state.negotiation import CHANNEL_LIMIT
from ..state.secret_hiding import discreet
from ..state.uncopyable import Uncopyable
from .connection_maker import ConnectionMaker, Source
from .connections import PoolConnections
from .leases import PoolConnection

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('Lease', 'Pool')

# Seconds to wait for a free channel, and in close() for the last lease to end.
TIMEOUT = 10.0

# Channels of one connection. A broker needs some 40 kB for each.
CHANNELS = 100

# The arguments of Pool that are not a connection's.
OWN = ('connections', 'channels_per_connection', 'timeout', 'confirm', 'shuffle')

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool(Uncopyable):
    """Connections and channels for programs of many short tasks, e.g. a web application.

    url: an AMQP URI or several, as for ``gamqp.connect``; or a callable that returns those, or
    a Connection, open or not yet, a new one each time. Of several hosts that work the one with
    the fewest connections of the pool gets the next, or with shuffle=False the first that
    is given. connections, channels_per_connection: how many at most.
    They are opened when they are needed, and stay. timeout: seconds that
    ``channel()`` waits unless it gets another number. confirm: have confirm mode on in all
    leases; False where some need transactions (tx_select), which exclude it: then it is off
    until a lease turns it on, by ``publish`` or otherwise, for itself.
    arguments: of ``gamqp.connect``, where there are URIs, but for recover: a pool replaces
    the connections that it loses.

    Making a pool opens nothing and does not switch greenlets. A pool may be made
    before a fork: parent and children get connections of their own. It belongs
    to the thread that first leases from it. Raises ValueError for a URI that
    cannot be understood, for limits below 1 and for recover.
    """

    @discreet
    def __init__(
        self,
        url: Source,
        connections: int = 1,
        channels_per_connection: int = CHANNELS,
        *,
        timeout: float = TIMEOUT,
        confirm: bool = True,
        shuffle: bool = True,
        **arguments: Unpack[ConnectionArguments],
    ) -> None:
        connections = whole(1)('connections', connections)
        channels_per_connection = whole(1, CHANNEL_LIMIT)('channels_per_connection', channels_per_connection)
        timeout = given_timeout('timeout', timeout)
        confirm = flag('confirm', confirm)
        shuffle = flag('shuffle', shuffle)
        # Weak, or the pool would be part of a circle.
        loads = functools.partial(_loads_of, weakref.ref(self))
        self._make = ConnectionMaker(url, arguments, OWN, shuffle, loads)
        self.connections = connections
        self.channels_per_connection = channels_per_connection
        self.timeout = timeout
        self.confirm = confirm
        self._pool_connections = self._make_pool_connections()
        _pools.add(self)

    def _make_pool_connections(self) -> PoolConnections:
        return PoolConnections(
            self._make, self._make.where, self.connections, self.channels_per_connection, self.confirm
        )

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._pool_connections}>'

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def channel(self, timeout: float | None = None) -> Lease:
        """A channel for a ``with`` block, that nobody else has meanwhile.

        ``with pool.channel() as channel:`` takes one that is free, at once and
        without a word to the broker; else it waits, first come first served, at
        most *timeout* seconds (None: the pool's), opening included.

        The channel is as new, except that it is in confirm mode (unless the pool was made
        with confirm=False), and counts its publishes from 1. After the block it is closed
        and another opened in its place if the broker closed it, if a consumer, an unsettled
        delivery, basic_qos, tx_select, an event handler or a returned message is left of its
        use, or an answer is still due. What was sent and not waited for, e.g. an unconfirmed publish, is no matter of
        the channel's next user: nobody gets the channel before the broker has answered, and
        after confirm_timeout without an answer it is closed.

        The block's beginning switches greenlets if it has to wait. While the broker is
        away the pool tries again and again, with pauses of up to 3 s. It raises
        TimeoutError; where there is no connection then, what the latest attempt to open
        one raised; that at once, where waiting does not help (a wrong password);
        RecoverableConnectionError when the pool is closed, and WrongThread in another
        thread. Its end does not switch. Any greenlet may end a block that another began.
        """
        return Lease(self, self.timeout if timeout is None else given_timeout('timeout', timeout))

    def publish(
        self,
        message: Message | Body,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        timeout: float | None = None,
        **properties: Unpack[PublishProperties],
    ) -> None:
        """Publish on a channel of the pool and wait for the broker's confirm. Switches greenlets.

        Arguments as ``Channel.publish``; timeout: total seconds, for a channel, for
        the broker to take messages and for the confirm, None for the pool's.
        Raises what ``channel``, ``Channel.publish`` and ``Receipt.wait`` raise.
        """
        exchange, routing_key = name('exchange', exchange), name('routing_key', routing_key)
        deadline = green.Deadline(self.timeout if timeout is None else timeout)
        with self.channel(deadline.left()) as channel:
            receipt = channel.publish(message, exchange, routing_key, mandatory, deadline.left(), **properties)
            receipt.wait(deadline.left())

    def stats(self) -> dict[str, float]:
        """Counts of this process. Does not switch; any thread may ask.

        Now: connections, channels (open), leased (those included whose block has ended
        before the broker had answered), idle, waiting (greenlets), opening (channels).
        Since the beginning: leases; waits (leases that had to), with wait_seconds and
        max_wait_seconds; timeouts; replaced (channels); lost_connections.
        """
        return self._pool_connections.leases.stats()

    def close(self, timeout: float | None = None) -> None:
        """Lease no more, wait for those who have a channel, and close everything. Switches greenlets.

        timeout: total seconds for them and to close the connections, which gets 0.5 at
        least; None for the pool's, and as long to close as ``Connection.close``
        takes by default. What they do later fails as on any closed connection. Who waits for a channel gets
        RecoverableConnectionError. Whatever happens, all connections are closed
        afterwards. Called again, it waits so long for the first call to end.
        Raises nothing of its own, but WrongThread in another thread.
        """
        timeout = optional_timeout('timeout', timeout)
        self._pool_connections.close(self.timeout if timeout is None else timeout, total=timeout is not None)

    def _renew(self) -> None:
        """Begin with no connections, in a forked child. Called by the hook at the end of this file."""
        inherited, self._pool_connections = self._pool_connections, self._make_pool_connections()
        self._pool_connections.leases.closed = inherited.leases.closed
        inherited.disown()


class Lease(Uncopyable):
    """What ``Pool.channel`` returns: a context manager that gives a channel and takes it back."""

    __slots__ = ('_held', '_pool', '_timeout')

    def __init__(self, pool: Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._held: tuple[PoolConnections, PoolConnection, Channel] | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f'a lease has no {name!r}; pool.channel() is for a with block, which gives the channel: '
                f'with pool.channel() as channel: channel.{name} …'
            )

    def __enter__(self) -> Channel:
        if self._held is not None:
            raise RuntimeError('this lease has begun already: call pool.channel() for another')
        pool_connections = self._pool._pool_connections
        held = self._held = (pool_connections, *pool_connections.take(self._timeout))
        return held[2]

    def __exit__(self, *exc_info: object) -> None:
        if self._held is not None:
            pool_connections, member, channel = self._held
            pool_connections.check_thread()
            self._held = None
            pool_connections.put_back(member, channel)


def _loads_of(ref: weakref.ref[Pool]) -> Mapping[Address, int]:
    """How many open connections the pool has to each host. Does not switch."""
    pool = ref()
    members = [] if pool is None else pool._pool_connections.leases.members
    connections = [one.connection for one in members if one.connection is not None and one.connection.is_open]
    return collections.Counter(one._host_settings.address for one in connections)


def _renew_all_after_fork() -> None:
    for pool in list(_pools):
        pool._renew()


at_fork('pools', in_child=_renew_all_after_fork)
