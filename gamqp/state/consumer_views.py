"""The consumers of one channel as read-only mappings and sets, by the names of py-amqp.

State, no I/O. Views of the table and no copies: there may be thousands of consumers, and kombu asks at each ack.
Does not belong here: the table itself (``consumers``).
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Set, ValuesView
from typing import Any

from .consumers import ConsumerTable

__all__ = ('Callbacks', 'CancelCallbacks', 'NoAckTags')


class _Items(ItemsView[str, Any]):
    """Skips consumers that have ended since the loop began."""

    __slots__ = ()
    _mapping: Mapping[str, Any]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        # The tags are a copied list (``Callbacks.__iter__``). The loop of the base class would raise KeyError for one
        # that has ended since.
        for tag in self._mapping:
            if tag in self._mapping:
                yield tag, self._mapping[tag]


class _Values(ValuesView[Any]):
    """Skips consumers that have ended since the loop began."""

    __slots__ = ()
    _mapping: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        # By items(), which looks again whether each consumer is still there.
        return (value for _, value in self._mapping.items())


class Callbacks(Mapping[str, Any]):
    """Consumer tag -> callback: a view of the table. ``copy`` gives a dict."""

    # A view is made each time that the program reads the attribute, so it is one small object and holds no entries.
    __slots__ = ('_consumers',)

    def __init__(self, consumers: ConsumerTable) -> None:
        self._consumers = consumers

    def __getitem__(self, tag: str) -> Any:
        # None for a consumer with an inbox. It is in this mapping all the same, because its tag is in use.
        return self._consumers[tag].callback

    def __contains__(self, tag: object) -> bool:
        # One look at the table. The base class would get the value and catch KeyError.
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
        # KeyError where the consumer is there without on_cancel. So ``get`` agrees with ``in``.
        on_cancel = self._consumers[tag].on_cancel
        if on_cancel is None:
            raise KeyError(tag)
        return on_cancel

    def __contains__(self, tag: object) -> bool:
        return tag in self._consumers and self._consumers[tag].on_cancel is not None  # type: ignore[index]

    def __iter__(self) -> Iterator[str]:
        # A copied list, as in Callbacks: this takes time for all consumers of the channel.
        return iter([tag for tag, consumer in list(self._consumers.items()) if consumer.on_cancel is not None])

    def __len__(self) -> int:
        # The table has no count of these, so each call counts.
        return sum(1 for _ in self)


class NoAckTags(Set[str]):
    """The tags of no_ack consumers: a view of the table."""

    __slots__ = ('_consumers',)

    def __init__(self, consumers: ConsumerTable) -> None:
        self._consumers = consumers

    @classmethod
    def _from_iterable(cls, tags: Any) -> Any:
        # The operators of Set (``&``, ``|``, ``-``) make their result by this. A view cannot hold tags of its own.
        return frozenset(tags)

    def __contains__(self, tag: object) -> bool:
        # It also knows consumers that have ended a short while ago, which the loop below leaves out. kombu asks this
        # before it acks a message, and RabbitMQ closes a channel on which a no_ack delivery is acked.
        return self._consumers.needs_no_ack(tag)

    def __iter__(self) -> Iterator[str]:
        # No copy: as with a set, a consumer that begins or ends during the loop makes it raise RuntimeError.
        return (tag for tag, consumer in self._consumers.items() if consumer.no_ack)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(set(self))
