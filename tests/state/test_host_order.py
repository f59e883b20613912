"""The order in which hosts and addresses are tried, against a model that does it step by step."""

from __future__ import annotations

import itertools
import random
from typing import Any

import inside
import pytest

from gamqp.state.host_order import FAILED_FOR, Address, HostOrder, families_of, interleaved

A, B, C, D = ('a', 1), ('b', 1), ('c', 1), ('d', 1)


def sort(order: HostOrder, *items: Address, now: float = 100.0, **more: Any) -> list[Address]:
    return order.sort(items, lambda one: one, now, **more)


def test_as_given_until_something_has_failed() -> None:
    order = HostOrder()
    assert sort(order, C, A, B) == [C, A, B]


def test_what_has_failed_comes_behind_the_others_for_a_while() -> None:
    order = HostOrder()
    order.note_failure(A, 100.0, 'TimeoutError')
    assert sort(order, A, B, C) == [B, C, A]
    assert order.failed(100.0) == {A: 'TimeoutError'}
    assert sort(order, A, B, C, now=99.9 + FAILED_FOR) == [B, C, A]
    assert sort(order, A, B, C, now=100.0 + FAILED_FOR) == [A, B, C]
    assert order.failed(100.0 + FAILED_FOR) == {}


def test_what_has_opened_a_connection_has_not_failed() -> None:
    order = HostOrder()
    order.note_failure(A, 100.0, 'TimeoutError')
    order.note_success(A)
    assert sort(order, A, B) == [A, B]
    order.note_success(A)  # again: it is not known


def test_when_all_have_failed_the_order_is_the_given_one() -> None:
    order = HostOrder()
    for number, one in enumerate((B, C, A)):
        order.note_failure(one, 100.0 + number, 'TimeoutError')
    assert sort(order, A, B, C) == [A, B, C]


def test_a_host_to_avoid_is_the_last_also_behind_those_that_have_failed() -> None:
    order = HostOrder()
    order.note_failure(B, 100.0, 'TimeoutError')
    assert sort(order, A, B, C, avoid=[A]) == [C, B, A]
    assert sort(order, A, avoid=[A]) == [A]
    assert sort(order, B, C, avoid=[A]) == [C, B]


def test_of_those_that_work_the_one_with_the_fewest_connections_comes_first() -> None:
    order = HostOrder()
    assert sort(order, A, B, C, loads={A: 2, B: 1}) == [C, B, A]
    order.note_failure(C, 100.0, 'TimeoutError')
    assert sort(order, A, B, C, loads={A: 2, B: 1}) == [B, A, C]


def test_names_that_come_and_go_do_not_pile_up() -> None:
    order = HostOrder()
    for number in range(1000):
        order.note_failure((f'pod-{number}', 1), number * FAILED_FOR / 10, 'gaierror')
        assert inside.remembered_failures(order) <= 10


@pytest.mark.parametrize('seed', range(20))
def test_any_history_against_the_rule(seed: int) -> None:
    """Whatever has happened: nobody is left out, and no pair stands the wrong way round."""
    chance, order = random.Random(seed), HostOrder()
    hosts = [(name, port) for name in 'abcd' for port in (1, 2)]
    failed: dict[Address, float] = {}
    now = 0.0
    for _ in range(300):
        now += chance.random() * FAILED_FOR / 2
        one = chance.choice(hosts)
        if chance.random() < 0.5:
            order.note_failure(one, now, 'x')
            failed[one] = now
        else:
            order.note_success(one)
            failed.pop(one, None)
        given = chance.sample(hosts, chance.randrange(1, len(hosts) + 1))
        avoid = chance.sample(hosts, chance.randrange(3))
        loads = {one: chance.randrange(3) for one in hosts}
        found = sort(order, *given, now=now, avoid=avoid, loads=loads)
        assert sorted(found) == sorted(given)
        recent = {one for one, at in failed.items() if now - at < FAILED_FOR}
        assert set(order.failed(now)) == recent
        for before, after in itertools.pairwise(found):
            if (before in avoid) != (after in avoid):
                assert after in avoid
            elif (before in recent) != (after in recent):
                assert after in recent
            elif loads[before] != loads[after]:
                assert loads[before] < loads[after]
            else:
                assert given.index(before) < given.index(after)


def test_families_are_interleaved_and_the_first_stays_the_first() -> None:
    answer: list[tuple[Any, ...]] = [(6, 'a'), (6, 'b'), (4, 'c'), (6, 'd'), (4, 'e'), (4, 'f')]
    assert [one[1] for one in interleaved(families_of(answer))] == ['a', 'c', 'b', 'e', 'd', 'f']
    assert interleaved(families_of(answer[:2])) == answer[:2]
    assert interleaved([]) == []
