"""What a connection counts: plain numbers that only grow.

State, no I/O. Each is counted in one place of the code, and read by ``Connection.stats``.
Does not belong here: gauges, which ``telemetry.stats`` looks up when it is asked.
"""

from __future__ import annotations

import weakref

__all__ = ('Counters', 'every')


class Counters:
    """Counters of one connection, over all its channels and sockets.

    reported: the values that the metrics hook was last called with.
    """

    __slots__ = (
        '__weakref__',
        'acked',
        'addresses_failed',
        'blocked_seconds',
        'bytes_in',
        'bytes_out',
        'confirmed',
        'delivered',
        'given_back',
        'last_recovery_seconds',
        'lost',
        'lost_publishes',
        'nacked',
        'opened',
        'outages',
        'published',
        'recoveries',
        'recovery_attempts',
        'recovery_skipped',
        'redelivered',
        'rejected',
        'reported',
        'returned',
        'stale_replies',
        'stale_settlements',
        'unnoticed',
        'write_wait_seconds',
    )

    def __init__(self) -> None:
        every.add(self)
        self.reset()

    def reset(self) -> None:
        """Begin at zero. A forked child calls it: what was counted before, its parent has done."""
        self.reported: dict[str, float] = {}
        self.opened = 0  # how often the connection was opened
        self.addresses_failed = 0  # of brokers that could not be connected to, or have not let us in
        self.outages = 0  # losses that were recovered from, or are
        self.recovery_attempts = 0
        self.recoveries = 0  # outages that have ended with an open connection
        self.recovery_skipped = 0  # records of the topology that could not be restored
        self.last_recovery_seconds = 0.0  # how long the latest outage has lasted that has ended so
        self.published = 0
        self.confirmed = 0
        self.nacked = 0  # publishes that the broker refused
        self.lost = 0  # publishes whose channel ended before their confirm came: nobody knows what became of them
        self.lost_publishes = 0  # publishes without confirms that were still queued at a loss, and were dropped
        self.returned = 0
        self.delivered = 0
        self.redelivered = 0  # those of the delivered that were delivered before
        self.acked = 0
        self.rejected = 0  # deliveries that the program refused, with nack or reject
        self.given_back = 0  # deliveries that went back to their queue before the program saw them
        self.stale_replies = 0  # of RPC servers, to requests that a loss has put back into their queue
        self.stale_settlements = 0  # acks, nacks and rejects of deliveries that the broker had taken back
        self.unnoticed = 0  # publishes nacked or returned whose receipt was dropped before the program looked at it
        self.bytes_in = 0
        self.bytes_out = 0
        self.blocked_seconds = 0.0  # time in which the broker took no messages
        self.write_wait_seconds = 0.0  # time that greenlets waited to publish


#: The counters of all connections of this process.
every: weakref.WeakSet[Counters] = weakref.WeakSet()
