"""Quorum queues: they count how often the delivery of a message failed, and have a limit for that.

Layer 5, pure. The count is in the header x-delivery-count, as in RabbitMQ. Does not belong here: replication, see
``cluster``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .consumers import QueueConsumer
from .errors import resource_locked
from .message import Entry, StoredMessage
from .policies import least
from .queue import Outcome, Queue
from .ready import ByPriority, Fifo

__all__ = ('QuorumQueue',)

_FAR = 1 << 60  # more than the messages that a queue ever gets


class QuorumQueue(Queue):
    """A quorum queue."""

    kind = 'quorum'

    @property
    def takes_global_prefetch(self) -> bool:
        return self.host.version.quorum_global_prefetch

    def _settings(self, policy: Mapping[str, Any]) -> None:
        super()._settings(policy)
        limit = least(self.arguments, policy, 'delivery-limit')
        self.delivery_limit: int | None = limit if limit is not None else self.host.version.delivery_limit

    def _make_ready(self) -> Fifo | ByPriority:
        # A message without a priority counts as one of priority 4.
        return ByPriority(31, 4) if self.host.version.quorum_priorities else Fifo()

    def _new_entry(self, message: StoredMessage) -> Entry:
        entry = super()._new_entry(message)
        if entry.deliveries:  # a dead letter brings its count along
            entry.shown = message.with_headers(
                {'x-acquired-count': entry.acquired, 'x-delivery-count': entry.deliveries}
            )
        return entry

    def _pass_on(self, consumer: QueueConsumer, entry: Entry) -> None:
        consumer.channel.deliver(consumer, entry)

    def check_consumer(self, exclusive: bool, arguments: dict[Any, Any], no_ack: bool, prefetch: int) -> None:
        pass  # RabbitMQ lets others consume beside an exclusive consumer here

    def get(self) -> Entry | None:
        if self.consumers.single:
            kind = '<<"quorum">>' if self.host.version.acquired_count else 'quorum'
            raise resource_locked(
                f'cannot obtain access to locked {self.label}. basic.get operations are not supported by {kind} queues '
                'with single active consumer'
            )
        entry = super().get()
        if entry is not None and not entry.deliveries and not self.host.version.acquired_count:
            entry.shown = entry.message.with_headers({'x-delivery-count': 0})
        return entry

    def _put_back(self, entry: Entry, outcome: Outcome) -> None:
        version = self.host.version
        entry.redelivered = True
        entry.acquired += 1
        if outcome is not Outcome.NACK or not version.acquired_count:
            entry.deliveries += 1
        if self.delivery_limit is not None and entry.deliveries > self.delivery_limit:
            self.host.dead_letter(self, entry, 'delivery_limit')
            return
        headers = {'x-acquired-count': entry.acquired} if version.acquired_count else {}
        if entry.deliveries:
            headers['x-delivery-count'] = entry.deliveries
        entry.shown = entry.message.with_headers(headers)
        self._number += 1
        if version.returns_first:
            # Before all that was never given back, behind what was given back earlier.
            entry.number = self._number - _FAR
            self.ready.put_back(entry)
        else:
            entry.number = self._number
            self.ready.add(entry)

    def forget_transient(self) -> None:
        pass  # everything in a quorum queue is durable
