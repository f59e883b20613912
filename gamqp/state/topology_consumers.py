"""The recorded consumers of a connection, and how many of them each queue has at the broker.

State, no I/O. Every method takes time for the consumers that it concerns, never for all, but for ``all``.
Does not belong here: what the broker deletes with a consumer (``topology_registry``), and messages.
"""

from __future__ import annotations

from collections.abc import Iterator

from .topology_records import RecordedConsumer, RecordedQueue

__all__ = ('RecordedConsumers',)


class RecordedConsumers:
    """By channel number and tag: a tag is unique in its channel only."""

    __slots__ = ('_elsewhere', '_of_channel')

    def __init__(self) -> None:
        self._of_channel: dict[int, dict[str, RecordedConsumer]] = {}
        # Queue -> how many consumers of it that have no record of the queue: it was declared by others when they began.
        self._elsewhere: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of_channel.values()))

    def all(self) -> Iterator[RecordedConsumer]:
        return (consumer for table in self._of_channel.values() for consumer in table.values())

    def of_channel(self, channel: int) -> list[RecordedConsumer]:
        """In the order in which they were started."""
        return list(self._of_channel.get(channel, {}).values())

    def with_tag(self, tag: str) -> list[RecordedConsumer]:
        return [table[tag] for table in self._of_channel.values() if tag in table]

    def get(self, channel: int, tag: str) -> RecordedConsumer | None:
        return self._of_channel.get(channel, {}).get(tag)

    def has_of(self, queue: RecordedQueue) -> bool:
        """Whether the queue has a consumer at the broker, of this connection."""
        return bool(queue.consumers or self._elsewhere.get(queue.name))

    def start(self, consumer: RecordedConsumer, queue: RecordedQueue | None) -> None:
        """It is at the broker: a new one, or one that was waiting or was restored. queue: its present record."""
        known = self.get(consumer.channel, consumer.tag)
        if known is not None:
            self.remove(known)
        consumer.use_queue(queue)
        consumer.waiting = False
        self._of_channel.setdefault(consumer.channel, {})[consumer.tag] = consumer
        self._count(consumer, 1)

    def wait(self, consumer: RecordedConsumer) -> None:
        """It is not at the broker, and is to be started again."""
        if not consumer.waiting and self.get(consumer.channel, consumer.tag) is consumer:
            self._count(consumer, -1)
            consumer.waiting = True

    def remove(self, consumer: RecordedConsumer) -> None:
        """Take out one that is there."""
        table = self._of_channel[consumer.channel]
        del table[consumer.tag]
        if not table:
            del self._of_channel[consumer.channel]
        self._count(consumer, -1)

    def remove_channel(self, channel: int) -> list[RecordedConsumer]:
        """Take out those of a channel. Returns them."""
        consumers = list(self._of_channel.pop(channel, {}).values())
        for consumer in consumers:
            self._count(consumer, -1)
        return consumers

    def _count(self, consumer: RecordedConsumer, change: int) -> None:
        """One more or one less at the broker."""
        if consumer.waiting:
            return
        queue = consumer.queue_record
        if queue is not None:
            queue.consumers += change
            return
        number = self._elsewhere.get(consumer.queue, 0) + change
        if number:
            self._elsewhere[consumer.queue] = number
        else:
            del self._elsewhere[consumer.queue]
