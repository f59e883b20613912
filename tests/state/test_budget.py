"""Budget: spent at either limit, relaxed at half of both."""

from __future__ import annotations

from gamqp.state.budget import Budget


def test_is_spent_at_either_limit() -> None:
    budget = Budget(3, 100)
    budget.take(10)
    budget.take(10)
    assert not budget.spent
    budget.take(10)
    assert budget.spent
    budget = Budget(3, 100)
    budget.take(99)
    assert not budget.spent
    budget.take(1)
    assert budget.spent


def test_relaxes_at_half_of_both() -> None:
    budget = Budget(4, 100)
    for size in (10, 10, 60, 20):
        budget.take(size)
    budget.give_back(10)
    assert not budget.relaxed
    budget.give_back(10)
    assert not budget.relaxed  # by count it would be
    budget.give_back(60)
    assert budget.relaxed


def test_one_message_above_the_whole_limit_passes_alone() -> None:
    budget = Budget(10, 100)
    budget.take(1000)
    assert budget.spent
    budget.give_back(1000)
    assert budget.relaxed
    assert not budget.spent


def test_a_limit_of_one_message_does_not_deadlock() -> None:
    budget = Budget(1, 100)
    budget.take(0)
    assert budget.spent
    budget.give_back(0)
    assert budget.relaxed


def test_clear_forgets_all() -> None:
    budget = Budget(2, 100)
    budget.take(50)
    budget.take(50)
    budget.clear()
    assert (budget.messages, budget.bytes, budget.spent, budget.relaxed) == (0, 0, False, True)
