"""Settling costs what is settled, however wide the window is and whatever holes it has: counted in steps, not in time.

A step is a comparison with a tag, a step of the interpreter in ``gamqp.state``, or a hole that a dict has to pass:
that is what its table has room for beyond what is in it.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import inside
import pytest
from line_counter import executed_lines
from publishing import publish

from gamqp.state.confirm_matching import Confirms
from gamqp.state.consumer_views import Callbacks
from gamqp.state.consumers import ConsumerRecord, ConsumerTable
from gamqp.state.tag_ranges import TagRanges
from gamqp.state.unacked import Unacked, WideUnacked

WIDTH = 50_000


class Tag(int):
    """A tag that counts how often it is compared with another one."""

    compared = 0

    def __ge__(self, other: int) -> bool:
        Tag.compared += 1
        return int(self) >= other


def steps(call: Callable[..., Any], *args: Any) -> int:
    """What *call* costs in the interpreter: executed lines of the package, and comparisons."""
    before = Tag.compared
    return executed_lines(call, *args) + Tag.compared - before


def holes(entries: Any) -> int:
    """How many holes a walk to the first entry may have to pass."""
    if isinstance(entries, OrderedDict):
        return 0
    return int(entries.__sizeof__()) // 24


ORDERS: dict[str, Callable[[list[int]], Iterable[int]]] = {
    'upwards': lambda tags: tags,
    'downwards': lambda tags: reversed(tags),
    'anyhow': lambda tags: random.Random(1).sample(tags, len(tags)),
}
in_every_order = pytest.mark.parametrize('order', ORDERS.values(), ids=ORDERS)


class Told:
    def succeed(self, verdict: Any) -> None:
        pass

    _settle = succeed  # of a publish, and that above of a barrier


class Results:
    def __init__(self) -> None:
        self.results: list[bool] = []

    def succeed(self, result: bool) -> None:
        self.results.append(result)


@in_every_order
def test_confirms_with_multiple_after_single_ones(order: Callable[[list[int]], Iterable[int]]) -> None:
    confirms = Confirms()
    for _ in range(WIDTH):
        publish(confirms, Told())
    for tag in order(list(range(1, WIDTH - 100))):
        confirms.settle(tag, False, True)
    for tag in range(WIDTH - 99, WIDTH + 1, 3):
        assert steps(confirms.settle, Tag(tag), True, True) < 150
        assert holes(confirms.waiting) < 10_000
    publish(confirms, Told())
    assert steps(confirms.settle, Tag(confirms.published), True, True) < 100


@in_every_order
def test_confirms_over_a_window_with_holes(order: Callable[[list[int]], Iterable[int]]) -> None:
    """The oldest one waits all the while, and somebody waits for all."""
    confirms, everything = Confirms(), Told()
    for _ in range(WIDTH):
        publish(confirms)
    confirms.barrier(everything)
    for tag in order(list(range(2, WIDTH))):
        confirms.settle(tag, False, True)
    assert steps(confirms.settle, Tag(WIDTH - 1), True, True) < 100
    assert len(confirms) == 1
    assert steps(confirms.settle, WIDTH, False, True) < 100
    assert not inside.barriers(confirms)


def test_single_confirms_with_many_who_wait_for_all() -> None:
    confirms = Confirms()
    for _ in range(1000):
        publish(confirms)
        confirms.barrier(Told())
    assert steps(confirms.settle, 500, False, True) < 50
    assert steps(confirms.settle, 2, False, True) < 50
    assert steps(confirms.settle, 1, False, True) < 100
    assert inside.barriers(confirms) == 998


@pytest.mark.parametrize('multiple', [False, True])
def test_refused_publishes_with_many_who_wait_for_all(multiple: bool) -> None:
    confirms, heard = Confirms(), Results()
    for number in range(2000):
        publish(confirms)
        if number >= 1000:
            confirms.barrier(heard)
    if multiple:
        assert steps(confirms.settle, 1000, True, False) < 100_000
    else:
        steps(confirms.settle, 1, False, False)  # notes it
        assert max(steps(confirms.settle, tag, False, False) for tag in range(2, 1001)) < 50
    confirms.settle(0, True, True)
    assert heard.results == [False] * 1000
    publish(confirms)
    confirms.barrier(heard)
    confirms.settle(0, True, True)
    assert heard.results[-1] is True


def test_whether_one_of_very_many_has_a_waiter() -> None:
    confirms = Confirms()
    for _ in range(WIDTH):
        publish(confirms)
    assert not confirms.has_waiters
    assert steps(lambda: confirms.has_waiters) < 20
    publish(confirms, Told())
    assert confirms.has_waiters


@in_every_order
def test_deliveries_with_multiple_after_single_ones(order: Callable[[list[int]], Iterable[int]]) -> None:
    unsettled: Unacked | WideUnacked = Unacked()
    for tag in range(1, WIDTH + 1):
        unsettled[tag] = ('tag', 0.0)
    for tag in order(list(range(1, WIDTH - 100))):
        unsettled.settle(tag, False)
    for tag in range(WIDTH - 99, WIDTH + 1, 3):
        if unsettled.is_outgrown:  # as the channel does
            unsettled = unsettled.successor()
        assert holes(unsettled) < 10_000
        assert steps(unsettled.settle, Tag(tag), True) < 150
    assert unsettled.total < 3


@in_every_order
def test_deliveries_that_were_in_the_spool(order: Callable[[list[int]], Iterable[int]]) -> None:
    """They came back behind a later one that never was there."""
    unsettled = Unacked()
    unsettled[WIDTH + 1] = ('', 0.0)
    for tag in range(1, WIDTH + 1):
        unsettled.come_back(tag, ('tag', 0.0))
    for tag in order(list(range(3, WIDTH - 2))):
        unsettled.settle(tag, False)
    assert steps(unsettled.settle, Tag(WIDTH - 2), True) < 150
    assert sorted(unsettled) == [WIDTH - 1, WIDTH, WIDTH + 1]


def test_ranges_of_tags_in_the_spool() -> None:
    """With holes between all of them; what is taken out moves nothing else."""
    tags = TagRanges()
    for tag in range(0, 2 * WIDTH, 2):
        tags.add(tag)
    largest = max(inside.ends_of_ranges(tags))
    assert largest < 10_000
    for tag in range(0, WIDTH, 2):
        assert steps(tags.pop) < 25
        assert steps(tags.settle, tag) < 25
    assert list(tags) == list(range(WIDTH, 2 * WIDTH, 2))


def test_a_successor_knows_what_was_settled_before_it_took_the_place() -> None:
    old = Unacked()
    for tag in range(1, 11):
        old[tag] = ('tag', 0.0)
    new = old.successor()
    old.settle(4, False)
    new.forget_settled(old)
    assert list(new) == [1, 2, 3, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize('seed', range(10))
def test_a_wide_window_agrees_with_a_naive_model(seed: int) -> None:
    """Growing until it is outgrown and settled until it is not, some by way of the spool."""
    rng = random.Random(seed)
    unsettled: Unacked | WideUnacked = Unacked()
    spooled = TagRanges()
    unsettled.spooled = (spooled,)
    model, last, kinds = set[int](), 0, set[type]()
    for round_ in range(12):
        for _ in range(rng.choice([10, 8000])):
            last += rng.randint(1, 3)
            model.add(last)
            if rng.random() < 0.2:
                spooled.add(last)
            else:
                unsettled[last] = ('', float(last))
        for tag in list(spooled)[: rng.choice([0, 50, 5000])]:
            assert spooled.take(tag)
            unsettled.come_back(tag, ('tag', float(tag)))
        for tag in rng.sample(sorted(set(unsettled)), len(unsettled) // 2):
            assert unsettled.settle(tag, False) == 1
            model.discard(tag)
        for _ in range(5):
            if unsettled.is_outgrown:
                unsettled = unsettled.successor()
            kinds.add(type(unsettled))
            bound = rng.choice([last, last // 2, max(model, default=1)]) if round_ % 3 else min(model, default=1)
            gone = {tag for tag in model if tag <= bound}
            assert unsettled.settle(bound, True) == len(gone)
            model -= gone
            assert sorted([*unsettled, *spooled]) == sorted(model)
            oldest = unsettled.oldest()
            assert (oldest[0] if oldest else 0) == min(unsettled, default=0)
    assert kinds == {Unacked, WideUnacked}


@pytest.mark.parametrize('seed', range(10))
def test_wide_confirms_agree_with_a_naive_model(seed: int) -> None:
    rng = random.Random(seed)
    confirms, outstanding = Confirms(), set[int]()
    made_anew = set[int]()
    for _ in range(8):
        for _ in range(rng.choice([10, 8000])):
            outstanding.add(publish(confirms))
        for tag in rng.sample(sorted(outstanding), len(outstanding) // 2):
            assert confirms.settle(tag, False, True) == 1
            outstanding.discard(tag)
        for _ in range(4):
            tag = rng.choice([0, min(outstanding, default=1), max(outstanding, default=1), confirms.published // 2])
            gone = {one for one in outstanding if one <= tag or tag == 0}
            assert confirms.settle(tag, True, True) == len(gone)
            outstanding -= gone
            made_anew.add(inside.compacted_at(confirms))
            assert len(confirms) == len(outstanding)
    assert len(made_anew) > 1


def test_what_a_settlement_covers_is_found_without_a_look_at_the_rest() -> None:
    unsettled = Unacked()
    unsettled[10] = unsettled[WIDTH + 100] = ('', 0.0)
    for tag in (*range(1, 6), *range(11, WIDTH)):
        unsettled.come_back(tag, ('tag', 0.0))
    assert set(unsettled.covered(12)) == {1, 2, 3, 4, 5, 10, 11, 12}
    assert steps(unsettled.covered, Tag(12)) < 100
    assert set(unsettled.covered(0)) == set(unsettled)


def test_the_callbacks_of_thousands_are_shown_without_a_look_at_each() -> None:
    consumers = ConsumerTable()
    for number in range(WIDTH):
        consumers.enter(ConsumerRecord(str(number), print, None, False))
    assert steps(lambda: Callbacks(consumers)['7']) < 20
