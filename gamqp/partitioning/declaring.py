"""Declares what partitions need at the broker: one exchange that hashes, its queues, the bindings.

Layer 5. On channels of its own, and where the broker may not know the exchange's type on a connection of its own: an
error would close what the program uses. Does not belong here: publishing and consuming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import exceptions
from ..connection.connection import Connection
from ..state.negotiation import rabbitmq_version

__all__ = ('CONSISTENT_HASH', 'MODULUS_HASH', 'declare', 'delete', 'queue_names')

MODULUS_HASH = 'x-modulus-hash'
CONSISTENT_HASH = 'x-consistent-hash'

# The first version that has x-modulus-hash without a plugin, and on which a type that it does not know costs no more
# than the channel.
NEW = (4, 3)

UNKNOWN = 'unknown exchange type'

ARGUMENTS: Mapping[str, Any] = {
    'x-queue-type': 'quorum',
    'x-single-active-consumer': True,
    # By default all queues would be led by the node that this connection is at.
    'x-queue-leader-locator': 'balanced',
    # Practically none. Without the argument RabbitMQ 3 appends what comes back at the end of the queue, and 4 drops it
    # after 20 deliveries.
    'x-delivery-limit': 1_000_000,
}

# Of a consistent hash the weight of the queue, which must be a number; of a modulus hash nothing.
BINDING_KEY = '1'

# What is enough to log in a second time. Callbacks and limits are those of the program's own connection.
LOGIN = (
    *('host', 'virtual_host', 'ssl', 'socket_settings', 'connect_timeout', 'rpc_timeout'),
    *('userid', 'password', 'login_method', 'login_response', 'authentication', 'locale'),
)


def queue_names(name: str, count: int) -> tuple[str, ...]:
    return tuple(f'{name}.{number}' for number in range(count))


def declare(
    connection: Connection, name: str, queues: Sequence[str], exchange_type: str | None, arguments: Mapping[str, Any]
) -> None:
    """Declare an exchange, its queues and bindings; see ``partitions.partitions``. Switches greenlets."""
    _check_count(connection, name, queues)
    new = rabbitmq_version(connection.server_properties) >= NEW
    exchange_type = exchange_type or (MODULUS_HASH if new else CONSISTENT_HASH)
    if new:
        _declare_exchange(connection, name, exchange_type)
    else:
        _declare_apart(connection, name, exchange_type)
    with connection.channel() as channel:
        if not new:  # again, for the connection to know of it
            channel.exchange_declare(name, exchange_type, durable=True, auto_delete=False)
        # The first queue comes last: where it is, all of them are, and an interrupted declaration can be repeated.
        for queue in reversed(queues):
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments={**ARGUMENTS, **arguments})
        for queue in queues:
            channel.queue_bind(queue, name, BINDING_KEY)


def delete(connection: Connection, name: str, queues: Sequence[str]) -> int:
    """Delete the exchange and then the queues; returns how many messages went with them. Switches greenlets."""
    with connection.channel() as channel:
        channel.exchange_delete(name)
        # In this order one that is interrupted leaves no first queue without the others.
        return sum(channel.queue_delete(queue) for queue in queues)


def _check_count(connection: Connection, name: str, queues: Sequence[str]) -> None:
    """Raise ValueError where these partitions exist with another count."""
    further = f'{name}.{len(queues)}'
    if _exists(connection, further):
        raise ValueError(f'count: {name!r} has more than {len(queues)} partitions: there is a queue {further!r}')
    if len(queues) > 1 and _exists(connection, queues[0]) and not _exists(connection, queues[-1]):
        raise ValueError(f'count: {name!r} has fewer than {len(queues)} partitions: there is no queue {queues[-1]!r}')


def _exists(connection: Connection, queue: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except exceptions.NotFound:
        return False
    finally:
        channel.close()
    return True


def _declare_apart(connection: Connection, name: str, exchange_type: str) -> None:
    """Declare the exchange on a second connection: for an unknown type the broker closes the whole connection."""
    settings = connection._host_settings.arguments()
    apart = Connection(
        **{each: settings[each] for each in LOGIN},
        name=f'partitions of {name}',
        heartbeat=connection.heartbeat,
    )
    try:
        apart.connect()
        _declare_exchange(apart, name, exchange_type)
    finally:
        apart.close()


def _declare_exchange(connection: Connection, name: str, exchange_type: str) -> None:
    channel = connection.channel()
    try:
        channel.exchange_declare(name, exchange_type, durable=True, auto_delete=False)
    except (exceptions.InvalidCommand, exceptions.PreconditionFailed) as error:
        if UNKNOWN not in str(error):
            raise
        raise exceptions.AMQPNotImplementedError(
            f'the broker has no exchange type {exchange_type!r}: enable its plugin ({_plugin(exchange_type)})'
        ) from error
    finally:
        channel.close()


def _plugin(exchange_type: str) -> str:
    if exchange_type == CONSISTENT_HASH:
        return 'rabbitmq_consistent_hash_exchange'
    return 'rabbitmq_sharding' if exchange_type == MODULUS_HASH else 'the one that has it'
