"""The order of what is done at a fork: by the tables of gamqp.green.forking, not by who comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

import gamqp
from gamqp.green import forking
from gamqp.green.forking import ForkSteps


def test_the_table_has_the_order_whoever_enters_first() -> None:
    steps, done = ForkSteps(), []
    for name in sorted(forking.IN_CHILD):
        steps.enter(name, in_child=lambda name=name: done.append(name))
    steps.run_in_child()
    assert done == list(forking.IN_CHILD)
    assert done.index('transports') < done.index('links') < done.index('counters')
    assert done.index('links') < done.index('pools')


def test_each_side_of_the_fork_has_its_own_steps() -> None:
    steps, done = ForkSteps(), []
    steps.enter('links', lambda: done.append('before'), lambda: done.append('parent'), lambda: done.append('child'))
    steps.run_before()
    steps.run_in_parent()
    assert done == ['before', 'parent']
    steps.run_in_child()
    assert done == ['before', 'parent', 'child']


def test_a_step_that_raises_keeps_none_of_the_others_back() -> None:
    steps, done = ForkSteps(), []

    def fail() -> None:
        raise OSError('no descriptor left')

    steps.enter('transports', in_child=fail)
    steps.enter('pools', in_child=lambda: done.append('pools'))
    with pytest.raises(OSError, match='no descriptor left'):
        steps.run_in_child()
    assert done == ['pools']


def test_what_is_entered_again_is_done_once() -> None:
    steps, done = ForkSteps(), []
    for number in range(2):
        steps.enter('counters', in_child=lambda number=number: done.append(number))
    steps.run_in_child()
    assert done == [1]


def test_a_name_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match='no place is named'):
        ForkSteps().enter('elsewhere', in_child=list)
    with pytest.raises(ValueError, match='no place is named'):
        ForkSteps().enter('pools', before=list)


def test_the_interpreter_is_asked_in_one_place_only() -> None:
    root = Path(gamqp.__file__).parent
    asking = {path.name for path in root.rglob('*.py') if 'register_at_fork(' in path.read_text(encoding='utf-8')}
    assert asking == {'forking.py'}
