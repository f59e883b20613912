"""The consumers of a queue, and whose turn it is.

Layer 5, pure. The highest priority that can take a message comes first; those of one priority take turns. One that
cannot take a message (prefetch) leaves the line until ``unblock``, so that many idle consumers cost nothing.
Does not belong here: messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .ack_timeout import ack_limit

if TYPE_CHECKING:
    from .channel import ServerChannel
    from .queue import Queue

__all__ = ('Consumers', 'QueueConsumer')


class QueueConsumer:
    """One consumer. prefix: the tag as basic.deliver carries it. unacked: how many messages it holds."""

    def __init__(
        self,
        channel: ServerChannel,
        queue: Queue,
        tag: str | bytes,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        arguments: dict[Any, Any],
    ) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        octets = tag if isinstance(tag, bytes) else tag.encode()
        self.prefix = bytes([len(octets)]) + octets
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.arguments = arguments
        priority = arguments.get('x-priority')
        self.priority: int = priority if isinstance(priority, int) else 0
        self.unacked = 0
        #: Seconds that it may hold a message; None: for ever.
        self.ack_limit = None if no_ack else ack_limit(channel.server, queue, arguments)
        #: Whether it has left the line.
        self.blocked = False

    def __repr__(self) -> str:
        return f'<QueueConsumer {self.tag!r} of {self.queue.name!r}, {self.unacked} unacked>'

    def can_take(self) -> bool:
        """Whether a message may be sent to it now."""
        channel = self.channel
        if channel.session.congested or channel.held:
            return False
        if self.no_ack:
            return True
        return (not self.prefetch or self.unacked < self.prefetch) and (
            not channel.global_prefetch or channel.has_room()
        )


class Consumers:
    """The consumers of one queue. single: only one at a time is active, the first in their order."""

    def __init__(self, single: bool) -> None:
        self.single = single
        self._all: dict[tuple[int, str | bytes], QueueConsumer] = {}
        self._line: dict[int, deque[QueueConsumer]] = {}
        self._priorities: list[int] = []
        #: The only one that gets messages, where *single*.
        self.active: QueueConsumer | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[QueueConsumer]:
        return iter(self._all.values())

    def add(self, consumer: QueueConsumer) -> None:
        """A new one."""
        self._all[(id(consumer.channel), consumer.tag)] = consumer
        self._enter(consumer)
        if self.single and self.active is None:
            self.active = consumer

    def remove(self, consumer: QueueConsumer) -> None:
        """One that ends."""
        self._all.pop((id(consumer.channel), consumer.tag), None)
        line = self._line.get(consumer.priority)
        if line is not None and consumer in line:
            line.remove(consumer)
        if self.active is consumer:
            self.active = self._next_active()

    def unblock(self, consumer: QueueConsumer) -> None:
        """It may have room again."""
        if consumer.blocked and (id(consumer.channel), consumer.tag) in self._all:  # not one that has ended
            consumer.blocked = False
            if not self.single:  # there the active one stays in the line
                self._line[consumer.priority].append(consumer)

    def next(self) -> QueueConsumer | None:
        """The one that gets the next message; None if no one can take it."""
        if self.single:
            active = self.active
            if active is None or active.can_take():
                return active
            active.blocked = True  # so that unblock tells that the queue has to look again
            return None
        for priority in self._priorities:
            line = self._line[priority]
            while line:
                consumer = line[0]
                if consumer.can_take():
                    line.rotate(-1)
                    return consumer
                consumer.blocked = True
                line.popleft()
        return None

    def _enter(self, consumer: QueueConsumer) -> None:
        line = self._line.get(consumer.priority)
        if line is None:
            line = self._line[consumer.priority] = deque()
            self._priorities = sorted(self._line, reverse=True)
        line.append(consumer)

    def _next_active(self) -> QueueConsumer | None:
        rest = list(self._all.values())
        return max(rest, key=lambda one: one.priority) if rest else None  # the first of the highest priority
