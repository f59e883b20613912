"""The consumers of one channel, by consumer tag.

State, no I/O. A consumer is added before basic.consume is sent, because its
first delivery may arrive before the caller wakes. It is removed when nothing more
can arrive for it: when cancel-ok has come, or when the broker has cancelled it.
Does not belong here: messages (``consuming``).
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Set, ValuesView
from typing import Any

__all__ = ('Callbacks', 'CancelCallbacks', 'ConsumerRecord', 'ConsumerTable', 'NoAckTags')

# Ended consumers whose tag, queue and no_ack are remembered: their last deliveries may still wait to be handed out.
REMEMBERED = 100

# Deliveries for an ended consumer after which the log says so. Fewer may have been on their way when it ended.
TOLERATED = 10


class ConsumerRecord:
    """What is known of one consumer.

    * callback: takes a message; None where messages are dropped, or go to an inbox.
    * on_cancel: takes the consumer tag, or None.
    * inbox: takes the messages of an iterator or subscription (``put(message)``) and learns of the end
      (``finish(reason)``); None for a consumer with a callback.
    * discard: deliveries go back to the queue instead of to the program.
    * queue: the name of the queue.
    * of_stream: the queue is a stream, by how it was declared or by the arguments of consume.
    * numbered: the queue seems to be a stream: its first message had a stream's header, and nothing else is known.
    * watched: the prefetch, until the log has said that unsettled messages use it up; 0 to say nothing.
    * books: its first delivery has been examined (for *numbered*). Stays False with no_ack.
    * era: how often all consumers of its channel had been ended when it was started.
    """

    __slots__ = (
        'books',
        'callback',
        'discard',
        'era',
        'inbox',
        'no_ack',
        'numbered',
        'of_stream',
        'on_cancel',
        'queue',
        'tag',
        'watched',
    )

    def __init__(
        self,
        tag: str,
        callback: Callable[[Any], Any] | None,
        on_cancel: Callable[[str], Any] | None,
        no_ack: bool,
        inbox: Any = None,
    ) -> None:
        self.tag = tag
        self.callback = callback
        self.on_cancel = on_cancel
        self.no_ack = no_ack
        self.inbox = inbox
        self.queue = ''
        self.books = self.of_stream = self.numbered = False
        self.watched = 0
        self.era = 0
        self.discard = False  # set when it was cancelled here, or the caller of consume was killed


class ConsumerTable(dict[str, ConsumerRecord]):
    """Consumer tag -> ConsumerRecord. Makes new tags, too."""

    __slots__ = ('_inboxes', '_left', '_made', '_strays', 'with_callback')

    def __init__(self) -> None:
        super().__init__()
        self._made = 0
        self.with_callback = 0  # how many consumers have a callback
        self._inboxes: dict[str, Any] | None = None
        self._left: dict[str, tuple[str, bool]] | None = None  # tag -> (queue, no_ack) of ended consumers
        self._strays: dict[str, int] | None = None  # tag of no consumer -> deliveries that came for it

    def fresh_tag(self, channel_id: int) -> str:
        """A tag no consumer of this connection has: tags made here carry the channel's number."""
        while True:
            self._made += 1
            tag = f'gamqp.{channel_id}.{self._made}'
            if tag not in self:
                return tag

    @property
    def inboxes(self) -> dict[str, Any]:
        """Consumer tag -> inbox, of the consumers that have one."""
        return self._inboxes or {}

    def enter(self, consumer: ConsumerRecord) -> None:
        """Add a consumer, before basic.consume is sent."""
        self[consumer.tag] = consumer
        if consumer.inbox is not None:
            inboxes = self._inboxes = self._inboxes or {}
            inboxes[consumer.tag] = consumer.inbox
        elif consumer.callback is not None:
            self.with_callback += 1

    def remove(self, tag: str) -> ConsumerRecord | None:
        """Remove a consumer that has ended or could not be started. Returns it."""
        consumer = self.pop(tag, None)
        if consumer is not None:
            if consumer.inbox is not None:
                self.inboxes.pop(tag, None)
                self._inboxes = self._inboxes or None
            elif consumer.callback is not None:
                self.with_callback -= 1
        return consumer

    def leave(self, tag: str) -> ConsumerRecord | None:
        """Remove a consumer that has ended, and remember its tag, which messages may still have. Returns it."""
        consumer = self.remove(tag)
        if consumer is not None:
            left = self._left = self._left or {}
            left.pop(tag, None)
            left[tag] = consumer.queue, consumer.no_ack
            if len(left) > REMEMBERED:
                del left[next(iter(left))]
        return consumer

    def is_stray(self, tag: str) -> bool:
        """Count a delivery for no consumer. Returns True once a tag, when TOLERATED have come: time for a warning."""
        strays = self._strays = self._strays or {}
        if tag in strays or len(strays) < REMEMBERED:
            strays[tag] = strays.get(tag, 0) + 1
            return strays[tag] == TOLERATED
        return False

    def queue_of(self, tag: Any) -> str:
        """The queue of a consumer, also of one that has ended a short while ago; '' if it is not known."""
        consumer = self.get(tag)
        return consumer.queue if consumer is not None else (self._left or {}).get(tag, ('', False))[0]

    def needs_no_ack(self, tag: Any) -> bool:
        """Whether this is the tag of a no_ack consumer, also of one that has ended a short while ago."""
        consumer = self.get(tag)
        if consumer is not None:
            return consumer.no_ack
        return self._left is not None and self._left.get(tag, ('', False))[1]

    def clear(self) -> None:
        super().clear()
        self._inboxes = None
        self.with_callback = 0
        self._left = self._strays = None


class _Items(ItemsView[str, Any]):
    """Skips consumers that have ended since the loop began."""

    __slots__ = ()
    _mapping: Mapping[str, Any]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for tag in self._mapping:
            if tag in self._mapping:
                yield tag, self._mapping[tag]


class _Values(ValuesView[Any]):
    """Skips consumers that have ended since the loop began."""

    __slots__ = ()
    _mapping: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.items())


class Callbacks(Mapping[str, Any]):
    """Consumer tag -> callback: a view of the table, no copy, because there may be thousands of consumers."""

    __slots__ = ('_consumers',)

    def __init__(self, consumers: ConsumerTable) -> None:
        self._consumers = consumers

    def __getitem__(self, tag: str) -> Any:
        return self._consumers[tag].callback

    def __contains__(self, tag: object) -> bool:
        return tag in self._consumers

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._consumers))  # consumers may come and go meanwhile

    def items(self) -> ItemsView[str, Any]:
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        return _Values(self)

    def __len__(self) -> int:
        return len(self._consumers)

    def copy(self) -> dict[str, Any]:
        """As of the dict that py-amqp has here."""
        return dict(self)

    def __repr__(self) -> str:
        return repr(dict(self))


class CancelCallbacks(Callbacks):
    """Consumer tag -> on_cancel, of the consumers that have one: a view as well."""

    __slots__ = ()

    def __getitem__(self, tag: str) -> Any:
        on_cancel = self._consumers[tag].on_cancel
        if on_cancel is None:
            raise KeyError(tag)
        return on_cancel

    def __contains__(self, tag: object) -> bool:
        return tag in self._consumers and self._consumers[tag].on_cancel is not None  # type: ignore[index]

    def __iter__(self) -> Iterator[str]:
        return iter([tag for tag, consumer in list(self._consumers.items()) if consumer.on_cancel is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class NoAckTags(Set[str]):
    """The tags of no_ack consumers: a view of the table, no copy, because kombu asks at each ack."""

    __slots__ = ('_consumers',)

    def __init__(self, consumers: ConsumerTable) -> None:
        self._consumers = consumers

    @classmethod
    def _from_iterable(cls, tags: Any) -> Any:
        return frozenset(tags)

    def __contains__(self, tag: object) -> bool:
        return self._consumers.needs_no_ack(tag)

    def __iter__(self) -> Iterator[str]:
        return (tag for tag, consumer in self._consumers.items() if consumer.no_ack)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(set(self))
