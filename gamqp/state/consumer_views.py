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
    """Consumer tag -> callback: a view of the table."""

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
    """The tags of no_ack consumers: a view of the table."""

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
