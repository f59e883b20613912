"""The name of a RabbitMQ node, by the number that stands for it in the addresses of direct replies.

Layer 5. Pure. The number is Erlang's hash of the name: it cannot be turned back, but a name can be verified by it, and
most nodes are called after their machines. Does not belong here: asking a broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ('guesses', 'named', 'number_of')


# Machines of a cluster differ by a number in their names: so many are tried.
_NUMBERED = 16


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

    A cluster is named after its first node, with the full name of that machine, unless somebody has named it: as the
    operator for Kubernetes does, whose nodes are called after the cluster and its namespace.
    """
    hosts = list(hosts)
    before, at, of_cluster = cluster_name.partition('@')
    known = [*([of_cluster] if at else []), *hosts, 'localhost']
    if cluster_name and not at:
        spaces = [host.split('.')[1] for host in hosts if '.' in host]
        known += [f'{cluster_name}-server-0.{cluster_name}-nodes.{space}' for space in spaces]
    known += [sibling for host in known for sibling in _siblings(host)]
    machines = [one for host in known for one in (host, host.partition('.')[0])]
    return list(
        dict.fromkeys(f'{first}@{host}' for first in (before if at else 'rabbit', 'rabbit') for host in machines)
    )


def _siblings(host: str) -> list[str]:
    """The host with other numbers at the end of its first label: 'mq-1.example.com' for 'mq-0.example.com'."""
    label, dot, domain = host.partition('.')
    found = re.fullmatch(r'(.*\D)(\d{1,3})', label, re.ASCII)
    if found is None:
        return []
    stem, digits = found.groups()
    return [f'{stem}{number:0{len(digits)}}{dot}{domain}' for number in range(_NUMBERED)]


def named(number: str, names: Iterable[str]) -> str:
    """The one of these names that the number stands for, '' for none."""
    return next((name for name in names if str(number_of(name)) == number), '')
