"""In which order the hosts of a connection are tried, and the addresses of one of them.

State, no I/O: the time is an argument, and what is to be in a random order has it already. Does not belong here:
which hosts there are (``url_list``), looking up their addresses, connecting.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ('Address', 'HostOrder', 'families_of', 'interleaved')

# Seconds for which a host that has failed is tried behind the others. A node that restarts takes about that long. One
# that hangs costs its share of the deadline each time, and one that is tried too late costs nothing but a preference.
FAILED_FOR = 60.0

#: Host name and port.
Address = tuple[str, int]

T = TypeVar('T')


class HostOrder:
    """Which hosts have failed lately, and the order that follows from it. One may serve several connections."""

    __slots__ = ('_failed',)

    def __init__(self) -> None:
        self._failed: dict[Address, tuple[float, str]] = {}  # -> when, and why in a word

    def note_failure(self, address: Address, now: float, why: str) -> None:
        """This host could not be connected to. why: a word for ``failed``."""
        # Those that count no more are dropped: names that a callable gives may be others each time. A new dict, since
        # the repr of a connection reads it in any thread.
        self._failed = {**self._recent(now), address: (now, why)}

    def note_success(self, address: Address) -> None:
        """This host has opened a connection."""
        if address in self._failed:
            self._failed = {other: one for other, one in self._failed.items() if other != address}

    def failed(self, now: float) -> dict[Address, str]:
        """The hosts that have failed lately, each with why in a word."""
        return {address: why for address, (_, why) in self._recent(now).items()}

    def _recent(self, now: float) -> dict[Address, tuple[float, str]]:
        return {address: one for address, one in self._failed.items() if now - one[0] < FAILED_FOR}

    def sort(
        self,
        items: Iterable[T],
        address_of: Callable[[T], Address],
        now: float,
        avoid: Collection[Address] = (),
        loads: Mapping[Address, int] | None = None,
    ) -> list[T]:
        """All *items*, best first: those that have not failed lately before the others, those to avoid at the end.

        avoid: hosts that have said that they will be away. loads: how many connections a host has already; one with
        fewer comes first. What is equal in all that keeps the order that it has.
        """
        recent = self._recent(now)

        def rank(item: T) -> tuple[bool, bool, int]:
            address = address_of(item)
            return address in avoid, address in recent, (loads or {}).get(address, 0)

        return sorted(items, key=rank)


def families_of(addresses: Iterable[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """What a name service has answered (as ``socket.getaddrinfo``), by address family, in the order of its answer."""
    families: dict[Any, list[tuple[Any, ...]]] = {}
    for one in addresses:
        families.setdefault(one[0], []).append(one)
    return list(families.values())


def interleaved(families: Sequence[Sequence[T]]) -> list[T]:
    """One of each family in turn, so that a family without a route is not tried address by address first (RFC 8305)."""
    left_out = object()
    rows = itertools.zip_longest(*families, fillvalue=left_out)
    return [one for row in rows for one in row if one is not left_out]  # type: ignore[misc]
