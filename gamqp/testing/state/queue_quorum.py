"""Quorum queues: they count how often the delivery of a message failed, have a limit for that, and may retry late.

Layer 5, pure. The count is in the header x-delivery-count, as in RabbitMQ. Does not belong here: replication, see
``cluster``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .clock import Timer
from .consumers import QueueConsumer
from .errors import resource_locked
from .message import Entry, StoredMessage
from .policies import argument_or, least
from .queue import Outcome, Queue
from .ready import ByPriority, Fifo

__all__ = ('QuorumQueue',)

_FAR = 1 << 60  # more than the messages that a queue ever gets


class QuorumQueue(Queue):
    """A quorum queue."""

    kind = 'quorum'

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: What was given back and waits for its next delivery: neither ready nor unacked.
        self._delayed: dict[Entry, Timer] = {}

    @property
    def takes_global_prefetch(self) -> bool:
        return self.host.version.quorum_global_prefetch

    def _settings(self, policy: Mapping[str, Any]) -> None:
        super()._settings(policy)
        limit = least(self.arguments, policy, 'delivery-limit')
        self._retries: str = argument_or(self.arguments, policy, 'delayed-retry-type', 'disabled')
        self._retry_min: Any = argument_or(self.arguments, policy, 'delayed-retry-min')
        self._retry_max: Any = argument_or(self.arguments, policy, 'delayed-retry-max')
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
        delay = self._delay(entry, outcome)
        if delay:
            self._delayed[entry] = self.host.clock.call_later(delay, lambda: self._retry(entry))
        else:
            self._requeue(entry)

    def _delay(self, entry: Entry, outcome: Outcome) -> float:
        """Seconds until a message that was given back is ready again: more with each failure."""
        shortest, longest = self._retry_min, self._retry_max
        kinds = ('all', 'returned' if outcome is Outcome.NACK else 'failed')
        if not self.host.version.delayed_retry or self._retries not in kinds or not _is_positive(shortest):
            return 0.0
        delay: int = min(shortest * max(entry.deliveries, 1), longest if _is_positive(longest) else shortest)
        return delay / 1000

    def _retry(self, entry: Entry) -> None:
        del self._delayed[entry]
        self._requeue(entry)
        self.settle((), Outcome.RETURN)

    def _requeue(self, entry: Entry) -> None:
        version = self.host.version
        self._number += 1
        if version.returns_first:
            # Before all that was never given back, behind what was given back earlier.
            entry.number = self._number - _FAR
            self.ready.put_back(entry)
        else:
            entry.number = self._number
            self.ready.add(entry)

    def purge(self) -> int:
        count = len(self._delayed)
        self._forget_delayed()
        return super().purge() + count

    def _forget_delayed(self) -> None:
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()

    def close(self) -> None:
        super().close()
        self._forget_delayed()

    def forget_transient(self) -> None:
        pass  # everything in a quorum queue is durable


def _is_positive(value: Any) -> bool:
    """Whether a value is a number of milliseconds above 0."""
    return type(value) is int and value > 0
