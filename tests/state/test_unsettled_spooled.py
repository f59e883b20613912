"""Unsettled deliveries in the spool: settled with the others, though they are no entries."""

from __future__ import annotations

import pytest

from gamqp.state.tags import Tags
from gamqp.state.unsettled import Unsettled


@pytest.fixture
def unsettled() -> Unsettled:
    """1 to 3 in memory, 4 to 10 in the spool, the even ones another consumer's."""
    unsettled = Unsettled()
    for tag in (1, 2, 3):
        unsettled[tag] = ('tag', 0.0)
    odd, even = Tags(), Tags()
    for tag in range(4, 11):
        (odd if tag % 2 else even).add(tag)
    unsettled.spooled = (odd, even)
    return unsettled


def test_they_count(unsettled: Unsettled) -> None:
    assert unsettled.total == 10
    assert not Unsettled()
    assert Unsettled().total == 0


def test_multiple_reaches_into_the_spool(unsettled: Unsettled) -> None:
    assert unsettled.settle(7, True) == 7
    assert [list(tags) for tags in unsettled.spooled] == [[9], [8, 10]]
    assert unsettled
    assert unsettled.settle(0, True) == 3
    assert not unsettled


def test_clear_forgets_them(unsettled: Unsettled) -> None:
    unsettled.clear()
    assert unsettled.total == 0
