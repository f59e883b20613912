"""Consumers that get nothing more because nobody settles what they have: said once in the log.

Layer 4. A look at each channel every few seconds, and nothing for a message: what is looked at are
the books that are kept anyway. A channel whose oldest delivery is young is done with at once. Does
not belong here: handlers of ``subscribe``, which settle by themselves and may take their time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..green.yielding import in_turns
from .connection_timer import ConnectionTimer

if TYPE_CHECKING:
    from .dispatch import Dispatch

__all__ = ('UnackedWarning',)

# Seconds between two looks, at most; and how many of them fit into the time after which it is said.
LOOK = 5.0
LOOKS = 4


# RabbitMQ sends no more to a consumer that has as many unacked deliveries as its prefetch. Nothing is wrong on the
# connection then, and no error says so.
class UnackedWarning(ConnectionTimer['Dispatch']):
    """Of one connection, made when a consumer with a prefetch is started. limit: seconds."""

    def __init__(self, connection: Dispatch, limit: float) -> None:
        super().__init__(connection)
        self._limit = limit
        self._arm(self._pause)

    @property
    def _pause(self) -> float:
        # A warning comes at most so much later than its limit.
        return min(LOOK, self._limit / LOOKS)

    def _due(self, connection: Dispatch) -> None:
        # Else the connection has ended, and stop() is on its way or has been.
        if connection._link.reason is None:
            self._arm(self._pause)
            # Armed before the walk, which may take many turns of the hub. All of it uses the time at which it began.
            in_turns(self._green, self._walk(connection, time.monotonic()))

    def _walk(self, connection: Dispatch, now: float) -> Iterator[None]:
        """A step for each channel, and for each delivery and consumer of those where something has waited long."""
        for channel in list(connection.channels.values()):
            yield
            # Two cheap questions decide for most channels: is there a consumer that acks, and is its oldest delivery
            # old.
            oldest = channel._oldest_unsettled() if channel._consumers.has_watched else None
            if oldest is not None and now - oldest[2] >= self._limit:
                yield from self._walk_channel(connection, channel, oldest, now)

    def _walk_channel(self, connection: Dispatch, channel: Any, oldest: Any, now: float) -> Iterator[None]:
        held: dict[str, tuple[int, float]] = {}  # consumer tag -> how many it has, and when the latest came
        # A copy: acks come between two steps. What is counted may be settled already, so the newest arrival is looked
        # at, too.
        for tag, came_at in list(channel._unacked.values()):
            yield
            count, latest = held.get(tag, (0, 0.0))
            held[tag] = count + 1, max(latest, came_at)
        total, limit = sum(count for count, _ in held.values()), channel._prefetch.unreported
        # unreported is the limit of the whole channel (basic.qos with global), 0 when it was reported or there is
        # none.
        if limit and total >= limit and now - max(latest for _, latest in held.values()) >= self._limit:
            # Once for each limit; a later basic_qos begins anew.
            channel._prefetch = channel._prefetch.report()
            self._report(connection, channel, oldest[1], f'the prefetch of its channel, {limit}, is used up by {total}')
        for tag, (count, latest) in held.items():
            yield
            # It may have ended since the walk began, and its deliveries stay unacked all the same.
            consumer = channel._consumers.get(tag)
            # Where the latest is old, too, none was settled since: another would have come in its place.
            if consumer is not None and 0 < consumer.watched <= count and now - latest >= self._limit:
                self._report(connection, channel, tag, f'its prefetch of {consumer.watched} is used up by {count}')
                # Not said again for this consumer.
                consumer.watched = 0

    def _report(self, connection: Dispatch, channel: Any, tag: str, what: str) -> None:
        consumer = channel._consumers.get(tag)
        connection._report(
            'consumer %r of queue %r on channel %s gets no more messages: %s that nobody has settled for %g s '
            'or longer. Ack what is done with; is every message taken out of the loop, or handed out by drain_events?',
            tag,
            '' if consumer is None else consumer.queue,
            channel.channel_id,
            what,
            self._limit,
        )
