"""Unsettled deliveries in the spool: settled with the others, though they are no entries."""

from __future__ import annotations

import random

import pytest

from gamqp.state.tag_ranges import TagRanges
from gamqp.state.unacked import Unacked


@pytest.fixture
def unsettled() -> Unacked:
    """1 to 3 in memory, 4 to 10 in the spool, the even ones another consumer's."""
    unsettled = Unacked()
    for tag in (1, 2, 3):
        unsettled[tag] = ('tag', 0.0)
    odd, even = TagRanges(), TagRanges()
    for tag in range(4, 11):
        (odd if tag % 2 else even).add(tag)
    unsettled.spooled = (odd, even)
    return unsettled


def test_they_count(unsettled: Unacked) -> None:
    assert unsettled.total == 10
    assert not Unacked()
    assert Unacked().total == 0


def test_multiple_reaches_into_the_spool(unsettled: Unacked) -> None:
    assert unsettled.settle(7, True) == 7
    assert [list(tags) for tags in unsettled.spooled] == [[9], [8, 10]]
    assert unsettled
    assert unsettled.settle(0, True) == 3
    assert not unsettled


def test_they_come_back_behind_later_ones_that_never_were_there(unsettled: Unacked) -> None:
    unsettled[11] = ('', 11.0)
    for tag in (4, 5):
        assert any(tags.take(tag) for tags in unsettled.spooled)
        unsettled.come_back(tag, ('tag', float(tag)))
    assert unsettled.settle(2, True) == 2
    assert unsettled.oldest() == (3, 'tag', 0.0)
    assert unsettled.settle(4, True) == 2
    assert unsettled.oldest() == (5, 'tag', 5.0)
    assert unsettled.settle(9, True) == 5
    assert unsettled.oldest() == (11, '', 11.0)
    assert unsettled.total == 2


@pytest.mark.parametrize('seed', range(10))
def test_random_settling_agrees_with_a_naive_model(seed: int) -> None:
    """Some go through the spool and come back in order, some go past it."""
    rng = random.Random(seed)
    unsettled, spooled = Unacked(), TagRanges()
    unsettled.spooled = (spooled,)
    model: set[int] = set()
    for last in range(1, 3001):
        model.add(last)
        if rng.random() < 0.5:
            unsettled[last] = ('', float(last))
        else:
            spooled.add(last)
        for tag in list(spooled)[: rng.choice([0, 0, 1, 3])]:
            assert spooled.take(tag)
            unsettled.come_back(tag, ('tag', float(tag)))
        tag, multiple = rng.choice([0, rng.randint(0, last + 2), *list(unsettled)[:2]]), rng.random() < 0.1
        gone = {one for one in model if one == tag or (multiple and (one < tag or tag == 0))}
        if not multiple:
            gone -= set(spooled)  # nobody knows them yet
        assert unsettled.settle(tag, multiple) == len(gone)
        model -= gone
        assert sorted([*unsettled, *spooled]) == sorted(model)
        oldest = unsettled.oldest()
        assert (oldest[0] if oldest else 0) == min(unsettled, default=0)
    assert len(model) < 3000


def test_a_hundred_thousand_come_back_and_are_settled_in_no_time() -> None:
    """One waits all the while, and another is ahead of them."""
    unsettled = Unacked()
    unsettled[1] = unsettled[200_000] = ('', 0.0)
    for tag in range(2, 100_002):
        unsettled.come_back(tag, ('tag', 0.0))
        unsettled.settle(tag, False)
    assert sorted(unsettled) == [1, 200_000]


def test_clear_forgets_them(unsettled: Unacked) -> None:
    unsettled.clear()
    assert unsettled.total == 0
