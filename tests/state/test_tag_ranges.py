"""Tags: what it holds is what a plain list would hold, in ranges."""

from __future__ import annotations

import random

import inside
import pytest

from gamqp.state.tag_ranges import TagRanges


def of(*numbers: int) -> TagRanges:
    tags = TagRanges()
    for number in numbers:
        tags.add(number)
    return tags


def test_one_range_whatever_its_length() -> None:
    tags = of(*range(5, 100_000))
    assert len(tags) == 99_995
    assert inside.ends_of_ranges(tags) == [2]
    assert tags.settle(99_990) == 99_986
    assert list(tags) == list(range(99_991, 100_000))


def test_only_the_lowest_is_taken() -> None:
    tags = of(3, 4, 7)
    assert not tags.take(4)
    assert tags.take(3)
    assert tags.pop() == 4
    assert tags.take(7)
    assert not tags.take(7)
    assert not tags
    assert list(tags) == []


def test_settling_up_to_a_tag_in_between() -> None:
    tags = of(1, 2, 5, 6, 9)
    assert tags.settle(4) == 2
    assert tags.settle(5) == 1
    assert list(tags) == [6, 9]
    assert tags.settle(0) == 0
    assert tags.settle(2**64 - 1) == 2
    assert not tags


def test_the_place_of_ranges_that_are_used_up_is_given_back() -> None:
    tags = of(*range(0, 40_000, 2))
    for _ in range(10_000):
        tags.pop()
    assert sum(inside.ends_of_ranges(tags)) < 25_000
    assert list(tags) == list(range(20_000, 40_000, 2))


@pytest.mark.parametrize('seed', range(10))
def test_any_sequence_of_calls_agrees_with_a_list(seed: int) -> None:
    chance = random.Random(seed)
    tags, plain, latest = TagRanges(), list[int](), 0
    for _ in range(2000):
        what = chance.randrange(6)
        if what < 3:
            latest += chance.choice((1, 1, 1, 2, 50))
            tags.add(latest)
            plain.append(latest)
        elif what == 3 and plain:
            assert tags.pop() == plain.pop(0)
        elif what == 4 and plain:
            tag = chance.choice(plain[:3])
            assert tags.take(tag) == (tag == plain[0])
            plain = plain[1:] if tag == plain[0] else plain
        elif what == 5 and chance.random() < 0.1:
            tag = latest - chance.randrange(20)
            assert tags.settle(tag) == len([one for one in plain if one <= tag])
            plain = [one for one in plain if one > tag]
        assert len(tags) == len(plain)
    assert list(tags) == plain
