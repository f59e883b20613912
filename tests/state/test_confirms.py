"""Confirms: the verdict on each publish, once, whatever the broker says in whatever order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gamqp.state.confirms import Confirms


class Waiter:
    """What a slot is to this layer; it must be told exactly once."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def succeed(self, verdict: bool) -> None:
        self.told.append(verdict)

    def fail(self, make_error: Any) -> None:
        self.told.append(make_error())


def published(count: int) -> tuple[Confirms, dict[int, Waiter]]:
    confirms = Confirms()
    waiters = {}
    for number in range(1, count + 1):
        waiter = Waiter()
        assert confirms.publish(waiter) == number
        waiters[number] = waiter
    return confirms, waiters


def told(waiters: dict[int, Waiter]) -> dict[int, list[Any]]:
    return {tag: waiter.told for tag, waiter in waiters.items() if waiter.told}


def test_one_tag_settles_one_publish() -> None:
    confirms, waiters = published(3)
    assert confirms.settle(2, False, True) == 1
    assert told(waiters) == {2: [True]}
    assert len(confirms) == 2


def test_multiple_settles_up_to_and_with_its_tag() -> None:
    confirms, waiters = published(5)
    confirms.settle(2, False, False)
    assert confirms.settle(4, True, True) == 3
    assert told(waiters) == {1: [True], 2: [False], 3: [True], 4: [True]}


def test_tag_zero_with_multiple_settles_everything_outstanding() -> None:
    confirms, waiters = published(3)
    assert confirms.settle(0, True, False) == 3
    assert told(waiters) == {1: [False], 2: [False], 3: [False]}
    assert len(confirms) == 0


@pytest.mark.parametrize(('tag', 'multiple'), [(0, False), (4, False), (99, False), (1, False)])
def test_tags_that_are_not_outstanding_settle_nothing(tag: int, multiple: bool) -> None:
    confirms, waiters = published(3)
    confirms.settle(1, False, True)
    assert confirms.settle(tag, multiple, True) == 0
    assert told(waiters) == {1: [True]}


def test_multiple_beyond_what_was_published_settles_what_there_is() -> None:
    confirms, _waiters = published(2)
    assert confirms.settle(50, True, True) == 2
    assert confirms.publish(Waiter()) == 3


def test_a_publish_on_which_nobody_waits_counts() -> None:
    confirms = Confirms()
    assert confirms.publish() == 1
    assert confirms.settle(1, False, True) == 1


def test_the_end_is_told_once_to_those_who_wait() -> None:
    confirms, waiters = published(3)
    confirms.publish()
    confirms.settle(2, False, True)
    assert confirms.fail_all(ValueError) == 2
    assert told(waiters)[2] == [True]
    assert all(isinstance(waiters[tag].told[0], ValueError) for tag in (1, 3))
    assert confirms.fail_all(ValueError) == 0
    assert confirms.settle(1, False, True) == 0


@pytest.mark.parametrize('seed', range(20))
def test_random_conversations_agree_with_a_naive_model(seed: int) -> None:
    rng = random.Random(seed)
    confirms, waiters = Confirms(), dict[int, Waiter]()
    model: dict[int, bool] = {}
    outstanding: list[int] = []
    for _ in range(3000):
        if rng.random() < 0.5:
            waiter = Waiter()
            tag = confirms.publish(waiter)
            waiters[tag] = waiter
            outstanding.append(tag)
            continue
        tag = rng.choice([0, rng.randint(0, len(waiters) + 2), *outstanding[:3], *outstanding[-3:]])
        multiple, ok = rng.random() < 0.2, rng.random() < 0.7
        if multiple:
            spoken_of = [one for one in outstanding if one <= tag or tag == 0]
        else:
            spoken_of = [one for one in outstanding if one == tag]
        assert confirms.settle(tag, multiple, ok) == len(spoken_of)
        for one in spoken_of:
            model[one] = ok
            outstanding.remove(one)
        assert len(confirms) == len(outstanding)
    assert told(waiters) == {tag: [ok] for tag, ok in model.items()}
