"""Unsettled deliveries: the same list as the broker's, whatever is acked in whatever order."""

from __future__ import annotations

import random

import pytest

from gamqp.state.tag_ranges import TagRanges
from gamqp.state.unacked import NEVER, Unacked


def delivered(*tags: int) -> Unacked:
    unsettled = Unacked()
    for tag in tags:
        unsettled[tag] = (f'consumer {tag % 2}', float(tag))
    return unsettled


def test_one_tag_settles_one_delivery() -> None:
    unsettled = delivered(1, 2, 3)
    assert unsettled.settle(2, False) == 1
    assert list(unsettled) == [1, 3]


def test_multiple_settles_all_up_to_and_with_its_tag() -> None:
    unsettled = delivered(1, 2, 4, 5)
    assert unsettled.settle(4, True) == 3
    assert list(unsettled) == [5]
    assert unsettled.settle(4, True) == 0


def test_multiple_of_a_tag_that_is_settled_already_settles_those_before_it() -> None:
    unsettled = delivered(1, 3, 5)
    assert unsettled.settle(4, True) == 2
    assert list(unsettled) == [5]


def test_tag_zero_with_multiple_settles_everything() -> None:
    unsettled = delivered(1, 2, 3)
    assert unsettled.settle(0, True) == 3
    assert not unsettled
    assert unsettled.settle(0, True) == 0


@pytest.mark.parametrize('tag', [0, 4, 99])
def test_tags_that_are_not_unsettled_settle_nothing(tag: int) -> None:
    unsettled = delivered(1, 2, 3)
    assert unsettled.settle(tag, False) == 0
    assert len(unsettled) == 3


def test_the_oldest_is_the_one_that_waits_longest() -> None:
    unsettled = delivered(7, 8, 9)
    assert unsettled.oldest() == (7, 'consumer 1', 7.0)
    unsettled.settle(7, False)
    assert unsettled.oldest() == (8, 'consumer 0', 8.0)
    unsettled.settle(0, True)
    assert unsettled.oldest() is None


@pytest.mark.parametrize('seed', range(10))
def test_random_settling_agrees_with_a_naive_model(seed: int) -> None:
    rng = random.Random(seed)
    unsettled, model, last = Unacked(), list[int](), 0
    for _ in range(2000):
        if rng.random() < 0.6:
            last += rng.randint(1, 3)  # those in between belong to consumers without acks
            unsettled[last] = ('one', float(last))
            model.append(last)
            continue
        tag, multiple = rng.choice([0, rng.randint(0, last + 2), *model[:2], *model[-2:]]), rng.random() < 0.2
        gone = [one for one in model if one == tag or (multiple and (one < tag or tag == 0))]
        assert unsettled.settle(tag, multiple) == len(gone)
        model = [one for one in model if one not in gone]
        assert list(unsettled) == model
        oldest = unsettled.oldest()
        assert (oldest[0] if oldest else None) == (model[0] if model else None)


def test_the_lowest_is_known_only_where_nothing_else_may_be_lower() -> None:
    unsettled = delivered(3, 5, 8)
    assert unsettled.is_lowest(3)
    assert not unsettled.is_lowest(5)
    del unsettled[3]
    assert unsettled.is_lowest(5)
    unsettled.come_back(4, ('one', 1.0))  # from disk, and so behind higher ones
    assert not unsettled.is_lowest(5)
    unsettled.settle(4, False)
    assert unsettled.is_lowest(5)
    spooled = TagRanges()
    spooled.add(2)
    unsettled.add_spooled(spooled)
    assert not unsettled.is_lowest(5)


def test_a_channel_that_never_combines_acks_does_so_to_its_end() -> None:
    unsettled = delivered(1, 2)
    unsettled.settled_to, unsettled.last_ack = 1, b'ack'
    assert unsettled.successor().last_ack == b'ack'
    unsettled.never_combine()
    unsettled.clear()
    assert unsettled.settled_to == unsettled.successor().settled_to == NEVER
    unsettled[1] = ('one', 1.0)
    assert not unsettled.is_lowest(1)


def test_tags_that_begin_anew_are_not_settled() -> None:
    unsettled = delivered(1, 2)
    unsettled.settled_to, unsettled.last_ack = 2, b'ack'
    unsettled.clear()
    assert (unsettled.settled_to, unsettled.last_ack) == (0, None)
