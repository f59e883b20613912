"""Partitions: the public object, and ``partitions``, which declares and returns it.

Layer 5. Does not belong here: declaring (``declaring``), the running consumers (``consumers``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..basic_message import Body, Message, PublishProperties
from ..channel.basic_qos import PREFETCH_COUNT
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from ..connection.connection import Connection
from ..consuming.subscription import POLICIES, OnError
from ..state.argument_checks import flag, shown, text, whole
from ..state.name_arguments import name as checked_name
from ..state.uncopyable import Uncopyable
from .consumers import PartitionConsumers
from .declaring import declare as declare_all
from .declaring import delete, queue_names

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('Partitions', 'partitions')

# More are a mistake: each is a group of processes on several nodes, and each member consumes all of them.
MOST = 1000

# One message at a time: what failed comes again before anything else of its partition.
PREFETCH = 1

COUNT = whole(1, MOST)
MEMBERS = whole(1, 2**31 - 1)


def partitions(
    channel: Channel | Connection,
    name: str,
    count: int,
    *,
    exchange_type: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    declare: bool = True,
) -> Partitions:
    """Queues of which each has the messages of some keys, in order. Declares them, and returns Partitions.

    channel: the Channel to publish on, or a Connection to have one of its own. name: of the exchange; the queues are
    *name*.0, *name*.1 … count: how many, at most 1,000; another count needs another name, since most keys would get
    another queue: ValueError where they exist with another count. exchange_type: None for 'x-modulus-hash'
    on RabbitMQ 4.3 and newer, and 'x-consistent-hash' on others, which need its plugin; any that routes a
    message to one queue by its routing key may be named. arguments: further ones for the queues, e.g.
    {'x-delivery-limit': 20}, which is 1,000,000 otherwise. declare: False where they are known to exist, e.g.
    for want of the permission to configure.

    The exchange and the quorum queues are durable, and each queue has a single active consumer. Declaring the same
    again changes nothing. It is done on a channel of its own, and before RabbitMQ 4.3 on a second connection for a
    moment, with the same login. AMQPNotImplementedError for an exchange type that the broker has not; the
    program's channel and connection go on. Raises what channels raise, e.g. PreconditionFailed for an
    exchange or queue of that name that is of another kind. Switches greenlets.
    """
    if not isinstance(channel, (Channel, Connection)):
        raise TypeError(f'channel: a Channel or a Connection is wanted, not {shown(channel)}')
    if not text('name', name):
        raise ValueError('name: an empty one is that of the default exchange')
    count = COUNT('count', count)
    if exchange_type is not None:
        exchange_type = text('exchange_type', exchange_type)
    if arguments is not None and not isinstance(arguments, Mapping):
        raise TypeError(f'arguments: a dict is wanted, not {shown(arguments)}')
    declare = flag('declare', declare)
    if declare:
        connection = channel if isinstance(channel, Connection) else channel._connection
        declare_all(connection, name, queue_names(name, count), exchange_type, arguments or {})
    return Partitions(channel.channel() if isinstance(channel, Connection) else channel, name, count)


class Partitions(Uncopyable):
    """An exchange that spreads keys over queues, made by ``gamqp.partitions``.

    channel: where it publishes. name: of the exchange. queues: their names.
    """

    def __init__(self, channel: Channel, name: str, count: int) -> None:
        self.channel = channel
        self.name = name
        self.queues = queue_names(name, count)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name!r}, {self.count} of them, on {self.channel!r}>'

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.queues)

    def publish(
        self,
        message: Message | Body,
        key: str | bytes,
        mandatory: bool = False,
        timeout: float | None = None,
        **properties: Unpack[PublishProperties],
    ) -> Receipt:
        """Publish to the partition of a key, and return a Receipt at once; see ``Channel.publish``.

        key: text or UTF-8, at most 255 bytes; it is the routing key, and the broker hashes it. Messages
        with the same key are handled one after the other, in the order in which one channel published them.
        """
        if key is None:
            raise TypeError('key: str or bytes are wanted, not None')
        key = checked_name('key', key)
        return self.channel.publish(message, self.name, key, mandatory, timeout, **properties)

    def subscribe(
        self,
        handler: Callable[[Message], object],
        member: int = 0,
        members: int = 1,
        *,
        prefetch: int = PREFETCH,
        on_error: OnError = 'requeue',
    ) -> PartitionConsumers:
        """Have *handler* called with the messages of all partitions that the broker gives to this member.

        member, members: this one's number, from 0 on, and how many there are. Each consumes every partition, its
        own with a higher priority, and the broker feeds one member at a time: where one is
        gone, its partitions fall to the others in turn. Messages of one partition are
        handled one after the other, those of different ones at the same time.

        prefetch: messages of a partition that are sent ahead, 0 for no limit. With 1 a message whose handler failed
        comes again before any other of its partition; with more, what was sent ahead comes before it. on_error: as
        for ``Channel.subscribe``, but 'stop' ends the consumers of all partitions. They are on a channel of their
        own. Raises what that method raises; no partition is consumed then. Switches greenlets.
        """
        if not callable(handler):
            raise TypeError(f'subscribe: the handler {handler!r} cannot be called')
        members = MEMBERS('members', members)
        member = whole(0, members - 1)('member', member)
        prefetch = PREFETCH_COUNT('prefetch', prefetch)
        if not callable(on_error) and on_error not in POLICIES:
            raise ValueError(f'subscribe: on_error is one of {", ".join(POLICIES)} or a callable, not {on_error!r}')
        channel = self.channel._connection.channel()
        return PartitionConsumers._start(channel, self.queues, handler, (member, members), prefetch, on_error)

    def delete(self) -> int:
        """Delete the exchange and the queues. Returns how many messages went with them. Switches greenlets."""
        return delete(self.channel._connection, self.name, self.queues)
