"""Consumer priorities by which the broker assigns partitions to members. Pure functions.

Every member consumes every partition, and the broker feeds the one with the highest priority that is there. So the
priorities are the whole agreement between members, and each computes them alone from its own number.
"""

from __future__ import annotations

__all__ = ('priority', 'rank')


def rank(partition: int, member: int, members: int) -> int:
    """Who comes how soon: 0 for the member whose partition this is, 1 for the one that takes over first …

    Each member has the same number of partitions, or one more or less. Those of one that is gone
    fall to the others in turn, not all to one.
    """
    distance = (member - partition) % members
    if distance == 0:
        return 0
    # Partitions of one member are *members* apart. The next of them begins the order of the others one place later.
    return 1 + (distance - 1 - partition // members) % (members - 1)


def priority(partition: int, member: int, members: int) -> int:
    """The consumer priority (x-priority) of a member for a partition: *members* for its own, down to 1."""
    return members - rank(partition, member, members)
