"""What a connection counts: plain numbers that only grow.

State, no I/O. Each is added to at one place, and read by ``Connection.stats``.
"""

from __future__ import annotations

import weakref

__all__ = ('Counters', 'every')


class Counters:
    """Counters of one connection, over all its channels and sockets.

    told: what the metrics hook was told of them last.
    """

    __slots__ = (
        '__weakref__',
        'acked',
        'blocked_seconds',
        'bytes_in',
        'bytes_out',
        'confirmed',
        'delivered',
        'given_back',
        'lost',
        'nacked',
        'opened',
        'published',
        'redelivered',
        'rejected',
        'returned',
        'stale_settlements',
        'told',
        'unnoticed',
        'write_wait_seconds',
    )

    def __init__(self) -> None:
        every.add(self)
        self.reset()

    def reset(self) -> None:
        """Begin at zero: in a forked child, which has done nothing of what its parent has."""
        self.told: dict[str, float] = {}
        self.opened = 0  # how often the connection was
        self.published = 0
        self.confirmed = 0
        self.nacked = 0  # publishes that the broker refused
        self.lost = 0  # publishes of which nobody knows: their channel ended before the confirm
        self.returned = 0
        self.delivered = 0
        self.redelivered = 0  # of the delivered
        self.acked = 0
        self.rejected = 0  # deliveries that we refused, with nack or reject
        self.given_back = 0  # deliveries that went back to their queue before the program saw them
        self.stale_settlements = 0  # acks and the like that came too late for their channel
        self.unnoticed = 0  # publishes refused or returned whose receipt was dropped before anybody looked at it
        self.bytes_in = 0
        self.bytes_out = 0
        self.blocked_seconds = 0.0  # that the broker took no messages
        self.write_wait_seconds = 0.0  # that greenlets waited to publish


#: Those of all connections there are.
every: weakref.WeakSet[Counters] = weakref.WeakSet()
