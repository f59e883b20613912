"""Streams: messages stay, and each consumer reads them from an offset on.

Layer 5, pure. Retention counts in messages here, not in segments, and filters choose messages, not chunks. Does not
belong here: other kinds of queues.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .consumers import QueueConsumer
from .errors import Refusal, not_implemented, precondition_failed, text_of
from .message import Entry, StoredMessage
from .policies import argument_or
from .queue import Outcome, Queue

__all__ = ('Stream',)

_UNITS = {'Y': 31536000, 'M': 2592000, 'D': 86400, 'h': 3600, 'm': 60, 's': 1}

# The header by which consumers filter.
_FILTER_VALUE = 'x-stream-filter-value'


class Stream(Queue):
    """A stream. An entry's number is its offset."""

    kind = 'stream'

    @property
    def takes_global_prefetch(self) -> bool:
        return self.host.version.quorum_global_prefetch

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._log: deque[Entry] = deque()
        self._times: deque[float] = deque()
        self._bytes = 0
        self._next = 0
        self._cursors: dict[QueueConsumer, int] = {}
        self._filters: dict[QueueConsumer, frozenset[str]] = {}

    def _settings(self, policy: Mapping[str, Any]) -> None:
        super()._settings(policy)
        self._max_age = _seconds(argument_or(self.arguments, policy, 'max-age'))

    def apply_policy(self, policy: Mapping[str, Any]) -> None:
        self._settings(policy)
        self._retain()

    @property
    def message_count(self) -> int:
        return len(self._log)

    @property
    def lost_by_deletion(self) -> int:
        return 0

    def entries(self) -> Iterator[Entry]:
        return iter(self._log)

    def publish(self, message: StoredMessage) -> bool:
        filters = self.host.version.stream_filters
        if filters and not isinstance(message.headers.get(_FILTER_VALUE, ''), str):
            raise Refusal(541, 'INTERNAL_ERROR', sig=(0, 0), whole=True)
        entry = Entry(message, self._next, None)
        mode = (
            {'delivery_mode': message.properties.get('delivery_mode', 1)}
            if self.host.version.message_containers
            else {}
        )
        entry.shown = message.with_headers({'x-stream-offset': self._next}, **mode)
        self._next += 1
        self._log.append(entry)
        self._times.append(self.host.clock.time())
        self._bytes += len(message.body)
        self._retain()
        self.deliver()
        return True

    def _retain(self) -> None:
        oldest = -1.0 if self._max_age is None else self.host.clock.time() - self._max_age
        while len(self._log) > 1 and (
            (self.max_bytes is not None and self._bytes > self.max_bytes) or self._times[0] < oldest
        ):
            self._bytes -= len(self._log.popleft().message.body)
            self._times.popleft()

    def deliver(self) -> None:
        for consumer in list(self._cursors):
            self._deliver_to(consumer)

    def _deliver_to(self, consumer: QueueConsumer) -> None:
        first = self._next - len(self._log)
        wanted = self._filters.get(consumer)
        while (offset := max(self._cursors.get(consumer, self._next), first)) < self._next:
            if not consumer.can_take():
                consumer.blocked = True
                return
            self._cursors[consumer] = offset + 1
            entry = self._log[offset - first]
            if wanted is None or entry.message.headers.get(_FILTER_VALUE, '') in wanted:
                consumer.channel.deliver(consumer, entry)

    def get(self) -> Entry | None:
        raise not_implemented(f'basic.get not supported by stream queues {self.label}')

    def settle(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        self.deliver()

    def purge(self) -> int:
        raise not_implemented(f'queue.purge not supported by stream queues {self.label}')

    def check_consumer(self, exclusive: bool, arguments: dict[Any, Any], no_ack: bool, prefetch: int) -> None:
        containers = self.host.version.message_containers
        if not prefetch:
            shown = f'stream {self.label}' if containers else f"'{self.label}'"
            raise precondition_failed(f'consumer prefetch count is not set for {shown}')
        if no_ack:
            kind = 'stream' if containers else 'stream queues'
            raise not_implemented(f'automatic acknowledgement not supported by {kind} {self.label}')
        self._start(arguments)
        self._filter(arguments)
        super().check_consumer(exclusive, arguments, no_ack, prefetch)

    def add_consumer(self, consumer: QueueConsumer) -> None:
        self._cursors[consumer] = self._start(consumer.arguments)
        wanted = self._filter(consumer.arguments)
        if wanted is not None:
            self._filters[consumer] = wanted
        super().add_consumer(consumer)

    def remove_consumer(self, consumer: QueueConsumer) -> None:
        self._cursors.pop(consumer, None)
        self._filters.pop(consumer, None)
        super().remove_consumer(consumer)

    def unblock(self, consumer: QueueConsumer) -> None:
        consumer.blocked = False

    def _start(self, arguments: dict[Any, Any]) -> int:
        """The offset at which a consumer with these arguments begins."""
        first = self._next - len(self._log)
        offset = arguments.get('x-stream-offset', 'next')
        if isinstance(offset, bytes):
            offset = text_of(offset)
        if isinstance(offset, bool) or not isinstance(offset, (str, int, datetime)):
            raise self._wrong(offset)
        if isinstance(offset, datetime):
            return self._at_time(offset.timestamp())
        if isinstance(offset, int):
            return max(offset, first)
        if offset in ('first', 'last', 'next'):
            return {'first': first, 'last': max(first, self._next - 1), 'next': self._next}[offset]
        age = _seconds(offset)
        if age is None:
            raise self._wrong(offset)
        return self._at_time(self.host.clock.time() - age)

    def _filter(self, arguments: dict[Any, Any]) -> frozenset[str] | None:
        """The values of x-stream-filter-value that a consumer wants, '' for messages without; None for all messages."""
        wanted = arguments.get('x-stream-filter')
        if not self.host.version.stream_filters or not isinstance(wanted, (str, list)):
            return None
        values = frozenset([wanted] if isinstance(wanted, str) else [one for one in wanted if isinstance(one, str)])
        if not values:
            raise Refusal(541, 'INTERNAL_ERROR', sig=(0, 0), whole=True)
        return values | {''} if arguments.get('x-stream-match-unfiltered') is True else values

    def _at_time(self, when: float) -> int:
        first = self._next - len(self._log)
        return next((first + at for at, time in enumerate(self._times) if time >= when), self._next)

    def _wrong(self, offset: Any) -> Exception:
        if not isinstance(offset, str) or not self.host.version.message_containers:
            return Refusal(541, 'INTERNAL_ERROR', sig=(0, 0), whole=True)
        wrong = f'{{invalid_stream_offset_arg,{{longstr,<<"{offset}">>}}}}'
        return precondition_failed(f"invalid arg 'x-stream-offset' for {self.label}: {wrong}")

    def forget_transient(self) -> None:
        pass

    def close(self) -> None:
        super().close()
        self._log.clear()
        self._times.clear()
        self._cursors.clear()
        self._filters.clear()


def _seconds(age: Any) -> float | None:
    """'7D' as seconds; None for what is no such text."""
    found = re.fullmatch(r'(\d+)([YMDhms])', age) if isinstance(age, str) else None
    return None if found is None else float(found[1]) * _UNITS[found[2]]
