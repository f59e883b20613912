"""Who consumes which partition, by the priorities that each member computes alone."""

from __future__ import annotations

from collections import Counter

import pytest

from gamqp.partitioning.priorities import priority, rank

SIZES = [(1, 1), (16, 1), (16, 2), (16, 3), (16, 8), (5, 8), (64, 5), (100, 7)]


def owners(count, members, gone=()):
    """Whom the broker feeds each partition, when some members are not there."""
    there = [member for member in range(members) if member not in gone]
    return [max(there, key=lambda member: priority(partition, member, members)) for partition in range(count)]


@pytest.mark.parametrize(('count', 'members'), SIZES)
def test_no_two_members_have_the_same_priority(count, members):
    for partition in range(count):
        ranks = [rank(partition, member, members) for member in range(members)]
        assert sorted(ranks) == list(range(members))
        assert {priority(partition, member, members) for member in range(members)} == set(range(1, members + 1))


@pytest.mark.parametrize(('count', 'members'), SIZES)
def test_each_member_has_its_share(count, members):
    shares = Counter(dict.fromkeys(range(members), 0))
    shares.update(owners(count, members))
    assert max(shares.values()) - min(shares.values()) <= 1
    assert owners(count, members) == [partition % members for partition in range(count)]


@pytest.mark.parametrize(('count', 'members'), [(16, 3), (64, 5), (100, 7), (56, 8)])
def test_the_partitions_of_one_that_is_gone_fall_to_all_others_alike(count, members):
    for gone in range(members):
        before, after = owners(count, members), owners(count, members, [gone])
        moved = Counter(new for old, new in zip(before, after, strict=True) if old != new)
        assert all(old == gone for old, new in zip(before, after, strict=True) if old != new)
        assert gone not in moved
        assert max(moved.values()) - min(moved[member] for member in range(members) if member != gone) <= 1


def test_two_that_are_gone_leave_nothing_to_nobody():
    assert set(owners(64, 5, [0, 1])) == {2, 3, 4}
