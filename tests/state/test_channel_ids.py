"""ChannelIds: every number once, none lost, and a clear refusal when all are taken."""

from __future__ import annotations

import random

import inside
import pytest

from gamqp import exceptions
from gamqp.state.channel_ids import ChannelIds


def test_begins_at_one_and_goes_to_the_limit() -> None:
    ids = ChannelIds(3)
    assert [ids.take() for _ in range(3)] == [1, 2, 3]
    assert len(ids) == 3
    with pytest.raises(exceptions.ResourceError, match='3 are open and channel_max is 3'):
        ids.take()


def test_a_number_that_is_given_back_rests_as_long_as_it_can() -> None:
    ids = ChannelIds(4)
    for _ in range(3):
        ids.take()
    ids.release(2)
    ids.release(1)
    assert [ids.take() for _ in range(3)] == [4, 2, 1]


def test_a_claimed_number_is_not_taken() -> None:
    ids = ChannelIds(3)
    ids.claim(2)
    assert [ids.take(), ids.take()] == [1, 3]


def test_a_claimed_number_that_was_given_back_is_taken_once() -> None:
    ids = ChannelIds(3)
    ids.claim(2)
    ids.release(2)
    ids.claim(2)
    ids.release(2)
    assert sorted(ids.take() for _ in range(3)) == [1, 2, 3]
    with pytest.raises(exceptions.ResourceError):
        ids.take()


@pytest.mark.parametrize('number', [0, -1, 4])
def test_a_number_out_of_range_cannot_be_claimed(number: int) -> None:
    with pytest.raises(exceptions.ConnectionError, match='not between 1 and 3'):
        ChannelIds(3).claim(number)


def test_a_number_in_use_cannot_be_claimed() -> None:
    ids = ChannelIds(3)
    ids.claim(ids.take() + 1)
    for number in (1, 2):
        with pytest.raises(exceptions.ConnectionError, match=f'channel {number} is in use'):
            ids.claim(number)


def test_giving_back_what_was_not_taken_changes_nothing() -> None:
    ids = ChannelIds(2)
    ids.release(1)
    ids.release(7)
    assert [ids.take(), ids.take()] == [1, 2]
    ids.release(1)
    ids.release(1)
    assert ids.take() == 1
    with pytest.raises(exceptions.ResourceError):
        ids.take()


@pytest.mark.parametrize('limit', [1, 7, 2047])
def test_a_hundred_thousand_random_steps_agree_with_a_set(limit: int) -> None:
    rng = random.Random(limit)
    ids, model = ChannelIds(limit), set[int]()
    for _ in range(100_000):
        step = rng.random()
        number = rng.randint(1, limit)
        if step < 0.45:
            if len(model) == limit:
                with pytest.raises(exceptions.ResourceError):
                    ids.take()
            else:
                taken = ids.take()
                assert 1 <= taken <= limit
                assert taken not in model
                model.add(taken)
        elif step < 0.55:
            if number in model:
                with pytest.raises(exceptions.ConnectionError):
                    ids.claim(number)
            else:
                ids.claim(number)
                model.add(number)
        else:
            ids.release(number)
            model.discard(number)
        assert len(ids) == len(model)
        assert inside.resting_ids(ids) <= limit, 'memory grows with the number of steps'


def test_a_number_that_is_claimed_time_and_again_rests_once() -> None:
    ids = ChannelIds(3)
    ids.release(ids.take())
    for _ in range(100):
        ids.claim(1)
        ids.release(1)
    assert inside.resting_ids(ids) == 1
    assert [ids.take() for _ in range(3)] == [2, 3, 1]
