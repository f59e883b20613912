"""Budget: spent at either limit, relaxed at half of both."""

from __future__ import annotations

from gamqp.state.receive_budget import COST, ReceiveBudget


def test_is_spent_at_either_limit() -> None:
    budget = ReceiveBudget(3, 10_000)
    budget.take(10)
    budget.take(10)
    assert not budget.spent
    budget.take(10)
    assert budget.spent
    budget = ReceiveBudget(3, 100 + 2 * COST)
    budget.take(99)
    assert not budget.spent
    budget.take(1)
    assert budget.spent


def test_relaxes_at_half_of_both() -> None:
    budget = ReceiveBudget(4, 10_000)
    for size in (10, 10, 6000, 20):
        budget.take(size)
    budget.give_back(10)
    assert not budget.relaxed
    budget.give_back(10)
    assert not budget.relaxed  # by count it would be
    budget.give_back(6000)
    assert budget.relaxed


def test_a_message_counts_more_than_its_body() -> None:
    budget = ReceiveBudget(1000, 10 * COST)
    for _ in range(9):
        budget.take(0)
    assert (budget.memory, budget.bytes, budget.spent) == (9 * COST, 0, False)
    budget.take(0)
    assert budget.spent
    for _ in range(5):
        budget.give_back(0)
    assert budget.relaxed


def test_is_overspent_a_quarter_above_either_limit() -> None:
    budget = ReceiveBudget(40, 100_000_000)
    for _ in range(49):
        budget.take(0)
    assert budget.spent and not budget.overspent
    budget.take(0)
    assert budget.overspent
    budget = ReceiveBudget(1000, 10_000)
    budget.take(12_000 - COST)
    assert budget.spent and not budget.overspent
    budget.take(0)
    assert budget.overspent


def test_one_message_above_the_whole_limit_passes_alone() -> None:
    budget = ReceiveBudget(10, 100)
    budget.take(1000)
    assert budget.spent
    budget.give_back(1000)
    assert budget.relaxed
    assert not budget.spent


def test_a_limit_of_one_message_does_not_deadlock() -> None:
    budget = ReceiveBudget(1, 100)
    budget.take(0)
    assert budget.spent
    budget.give_back(0)
    assert budget.relaxed


def test_limits_of_zero_are_none() -> None:
    budget = ReceiveBudget(0, 0)
    for _ in range(3):
        budget.take(2**40)
        assert budget.relaxed and not budget.spent and not budget.overspent
