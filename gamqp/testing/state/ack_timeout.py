"""Deliveries that are not acked in time: RabbitMQ's consumer_timeout.

Layer 5, pure. Before 4.3 the channel of such a delivery is closed. Since then its consumer is cancelled, and the queue
has the messages back; only quorum queues look after that. RabbitMQ looks once a minute, this broker at once.
Does not belong here: other ends of consumers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .clock import Timer
from .errors import precondition_failed

if TYPE_CHECKING:
    from .channel import Delivery, ServerChannel
    from .consumers import QueueConsumer
    from .queue import Queue
    from .server import Server

__all__ = ('AckTimeout', 'ack_limit')


def ack_limit(server: Server, queue: Queue, arguments: Mapping[Any, Any] | None) -> float | None:
    """Seconds that a delivery of *queue* may be unacked; None: for ever.

    arguments: of the consumer; None where basic.get fetches.
    """
    usual = server.consumer_timeout
    if not server.version.timeout_cancels:
        return usual
    if arguments is None or queue.kind != 'quorum':
        return None
    for given in (arguments, queue.arguments):
        limit = given.get('x-consumer-timeout')
        if type(limit) is int and limit > 0:
            return limit / 1000
    return usual


class AckTimeout:
    """The limit for the deliveries of one channel."""

    def __init__(self, channel: ServerChannel) -> None:
        self._channel = channel
        self._cancels = channel.server.version.timeout_cancels
        self._timer: Timer | None = None

    def watch(self, delivery: Delivery, limit: float) -> None:
        """A message was delivered, and waits for its ack for up to *limit* seconds."""
        delivery.due = due = self._channel.server.clock.now() + limit
        timer = self._timer
        if timer is None or timer.cancelled or due < timer.when:
            self._arm(due)

    def stop(self) -> None:
        """The channel has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, due: float) -> None:
        self.stop()
        self._timer = self._channel.server.clock.call_at(due, self._look)

    def _look(self) -> None:
        now = self._channel.server.clock.now()
        waiting = [one for one in self._channel.unacked.values() if one.due is not None and not one.lost]
        late = [one for one in waiting if one.due is not None and one.due <= now]
        if late and not self._cancels:
            milliseconds = int((self._channel.server.consumer_timeout or 0) * 1000)
            text = (
                f'delivery acknowledgement on channel {self._channel.id} timed out. Timeout value used: '
                f'{milliseconds} ms. This timeout value can be configured, see consumers doc guide to learn more'
            )
            self._channel.close(precondition_failed(text), (0, 0))
            return
        consumers: dict[QueueConsumer, None] = {one.consumer: None for one in late if one.consumer is not None}
        for consumer in consumers:
            self._channel.give_up(consumer)
        rest = [one.due for one in waiting if one.due is not None and one.consumer not in consumers]
        if rest:
            self._arm(min(rest))
