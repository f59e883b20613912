"""The name of a RabbitMQ node, by the number that stands for it in the addresses of direct replies.

Layer 5. Pure. The number is Erlang's hash of the name: it cannot be turned back, but a name can be verified by it, and
most nodes are called after their machines. Does not belong here: asking a broker.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ('guesses', 'named', 'number_of')


def number_of(name: str) -> int:
    """``erlang:phash2`` of the atom: a hash of its characters by PJW, in 27 bits."""
    value = 0
    for byte in name.encode('latin-1', 'replace'):
        value = (value << 4) + byte
        high = value & 0xF000_0000
        value ^= high >> 24 ^ high
    return value & 0x7FF_FFFF


def guesses(cluster_name: str, hosts: Iterable[str]) -> list[str]:
    """What the node may be called. hosts: names by which its machine is known.

    A cluster is named after its first node, with the full name of that machine, unless somebody has named it.
    """
    before, at, of_cluster = cluster_name.partition('@')
    known = [*([of_cluster] if at else []), *hosts, 'localhost']
    machines = [one for host in known for one in (host, host.partition('.')[0])]
    return list(
        dict.fromkeys(f'{first}@{host}' for first in (before if at else 'rabbit', 'rabbit') for host in machines)
    )


def named(number: str, names: Iterable[str]) -> str:
    """The one of these names that the number stands for, '' for none."""
    return next((name for name in names if str(number_of(name)) == number), '')
