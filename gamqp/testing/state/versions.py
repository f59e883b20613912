"""What differs between the versions of RabbitMQ that the broker can behave like.

Layer 5, pure data. A handler asks an attribute, never a version number. Does not belong here: behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ('VERSIONS', 'Version', 'version_like')

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Version:
    """One version of RabbitMQ."""

    #: What server_properties say.
    number: str
    #: The smallest frame_max that a client may ask for, in bytes.
    least_frame_max: int
    #: The largest body, in bytes.
    max_message_size: int
    #: Whether an operator can forbid deprecated features: transient queues that are not exclusive.
    deprecates: bool
    #: Whether errors of permissions name the permission that is missing.
    names_permission: bool
    #: Whether a passive declare needs the permission to configure.
    passive_permission: bool
    #: Delivery limit of a quorum queue that sets none; None: no limit.
    delivery_limit: int | None
    #: SASL mechanisms without TLS.
    mechanisms: bytes
    #: Whether an exchange type that is not known closes the channel alone.
    soft_exchange_type: bool
    #: Whether there are exchanges of type x-local-random.
    local_random: bool
    #: The values of x-queue-version; whether x-queue-mode is looked at.
    queue_versions: tuple[int, ...]
    queue_mode: bool
    #: Whether the header of a consumer's timeout is refused on classic queues.
    consumer_timeout_argument: bool
    #: Whether a delivery that is not acked in time has its consumer cancelled; else the channel is closed.
    timeout_cancels: bool
    #: Whether headers are compared with their types, so that 1 is not 1.0.
    typed_headers: bool
    #: Whether messages are stored in a form of their own: dead letters have x-last-death-* headers and stay marked
    #: as redelivered, an expiration is written anew, messages in streams have a delivery mode.
    message_containers: bool
    #: Whether the commit of a transaction looks up queues by their names; else one that is gone is an error.
    commits_to_names: bool
    #: Quorum queues: whether x-acquired-count is counted beside x-delivery-count, which a nack then does not raise;
    #: whether what is given back comes first; whether priorities count.
    acquired_count: bool
    returns_first: bool
    quorum_priorities: bool
    #: Whether quorum queues can give messages back late: x-delayed-retry-type and the like.
    delayed_retry: bool
    #: Whether consumers of streams can have filters.
    stream_filters: bool
    #: Whether permissions for topics also hold for the routing keys of the header CC.
    permits_copies: bool
    #: Whether quorum queues may be consumed from with a prefetch for the whole channel, which is then ignored.
    quorum_global_prefetch: bool


VERSIONS: dict[str, Version] = {
    '4.3': Version(
        number='4.3.6',
        least_frame_max=8192,
        max_message_size=16 * _MIB,
        deprecates=True,
        names_permission=True,
        passive_permission=True,
        delivery_limit=20,
        mechanisms=b'ANONYMOUS PLAIN AMQPLAIN',
        soft_exchange_type=True,
        local_random=True,
        queue_versions=(2,),
        queue_mode=False,
        consumer_timeout_argument=True,
        timeout_cancels=True,
        typed_headers=True,
        message_containers=True,
        commits_to_names=False,
        acquired_count=True,
        returns_first=True,
        quorum_priorities=True,
        delayed_retry=True,
        stream_filters=True,
        permits_copies=True,
        quorum_global_prefetch=True,
    ),
    '3.10': Version(
        number='3.10.8',
        least_frame_max=4096,
        max_message_size=128 * _MIB,
        deprecates=False,
        names_permission=False,
        passive_permission=False,
        delivery_limit=None,
        mechanisms=b'AMQPLAIN PLAIN',
        soft_exchange_type=False,
        local_random=False,
        queue_versions=(1, 2),
        queue_mode=True,
        consumer_timeout_argument=False,
        timeout_cancels=False,
        typed_headers=False,
        message_containers=False,
        commits_to_names=True,
        acquired_count=False,
        returns_first=False,
        quorum_priorities=False,
        delayed_retry=False,
        stream_filters=False,
        permits_copies=False,
        quorum_global_prefetch=False,
    ),
}


def version_like(like: str) -> Version:
    """The version that *like* names: 'rabbitmq-4.3', or '4.3'. Raises ValueError for another one."""
    version = VERSIONS.get(like.removeprefix('rabbitmq-'))
    if version is None:
        known = ', '.join(f"'rabbitmq-{name}'" for name in VERSIONS)
        raise ValueError(f'like: one of {known} is expected, not {like!r}')
    return version
