"""A greenlet that waits at two gates leaves nothing at either, however its wait ends. What Gate itself does is shown
where it is used.
"""

from __future__ import annotations

import greenlets
import pytest

from gamqp import green


@pytest.fixture
def gates() -> list[green.Gate]:
    return [green.Gate(greenlets.backend), green.Gate(greenlets.backend)]


def wait(gates: list[green.Gate]) -> greenlets.Task:
    """A greenlet that waits there."""
    task = greenlets.spawn(green.wait_at_both, *gates, None)
    greenlets.wait_until(lambda: len(gates[0]) == len(gates[1]) == 1)
    return task


def are_empty(gates: list[green.Gate]) -> bool:
    return all(len(gate) == 0 and gate.woken == 0 for gate in gates)


@pytest.mark.parametrize('which', [0, 1])
def test_woken_at_one_it_leaves_the_other_and_wakes_the_next(gates: list[green.Gate], which: int) -> None:
    task = wait(gates)
    behind = greenlets.spawn(gates[which].wait)
    greenlets.wait_until(lambda: len(gates[which]) == 2)
    gates[which].wake()
    task.get()
    assert behind.get()
    assert are_empty(gates)


def test_woken_at_both_it_wakes_the_next_of_each(gates: list[green.Gate]) -> None:
    task = wait(gates)
    behind = [greenlets.spawn(gate.wait) for gate in gates]
    greenlets.wait_until(lambda: all(len(gate) == 2 for gate in gates))
    for gate in gates:
        gate.wake()
    task.get()
    assert [one.get() for one in behind] == [True, True]
    assert are_empty(gates)


def test_when_its_time_is_up_it_is_gone(gates: list[green.Gate]) -> None:
    green.wait_at_both(*gates, 0.001)
    assert are_empty(gates)


def test_killed_while_it_waits_it_is_gone(gates: list[green.Gate]) -> None:
    task = wait(gates)
    task.kill()
    greenlets.wait_until(lambda: task.done)
    assert are_empty(gates)


def test_killed_when_it_has_been_woken_and_has_not_run_it_wakes_the_next(gates: list[green.Gate]) -> None:
    task = wait(gates)
    behind = greenlets.spawn(gates[0].wait)
    greenlets.wait_until(lambda: len(gates[0]) == 2)
    gates[0].wake()
    task.kill()
    assert behind.get()
    assert are_empty(gates)


def test_killed_before_the_step_that_would_wake_it(gates: list[green.Gate]) -> None:
    """Where thousands are woken, those whose turn has not come stand in a queue that the gate has no more."""
    task = wait(gates)
    waking = gates[0].wake_each()
    task.kill()
    greenlets.wait_until(lambda: task.done)
    assert list(waking) == []
    assert are_empty(gates)
