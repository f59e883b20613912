"""ReceiveBackpressure by itself: when the reader stops, and when it goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gamqp.connection.receive_backpressure import ReceiveBackpressure
from gamqp.state.receive_budget import ReceiveBudget

LIMIT = 10


class Owner:
    """What ReceiveBackpressure asks of a connection. shown: how often a foreign event loop was to look again."""

    spool = False

    def __init__(self) -> None:
        self.shown = 0
        self._event_queue = self

    def show(self) -> None:
        self.shown += 1


class Link:
    """Its reader listens or not."""

    def __init__(self) -> None:
        self.listening = True
        self.resumed = 0

    def resume(self) -> None:
        self.resumed += 1


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def memory(owner: Owner) -> ReceiveBackpressure:
    memory = ReceiveBackpressure(owner, ReceiveBudget(LIMIT, 0))
    memory.begin(SimpleNamespace(spawn=lambda *args: None))  # type: ignore[arg-type]
    memory.link = Link()
    return memory


def test_the_reader_stops_when_the_budget_is_spent_and_goes_on_at_half_of_it(
    owner: Owner, memory: ReceiveBackpressure
) -> None:
    for _ in range(LIMIT - 1):
        memory.budget.take(1)
    assert not memory.must_pause() and not memory.crowded
    memory.budget.take(1)
    assert memory.must_pause() and memory.crowded
    while memory.budget.messages > LIMIT // 2 + 1:
        memory.budget.give_back(1)
        memory.freed()
    assert memory.link.resumed == owner.shown == 0
    memory.budget.give_back(1)
    memory.freed()
    assert memory.link.resumed == owner.shown == 1 and not memory.crowded


def test_it_reads_on_while_somebody_waits_for_a_reply(memory: ReceiveBackpressure) -> None:
    for _ in range(LIMIT):
        memory.budget.take(1)
    memory.link.listening = False
    memory.wait_begins()
    assert memory.link.resumed == 1 and not memory.must_pause()
    memory.wait_ends()
    assert memory.must_pause()


def test_what_is_too_much_stays_in_memory_where_the_program_wants_no_files(memory: ReceiveBackpressure) -> None:
    for _ in range(LIMIT * 2):
        memory.budget.take(1)
    assert memory.budget.overspent and memory.overflow_if_due() is None


def test_who_fills_the_memory_is_said_once_in_a_while(memory: ReceiveBackpressure) -> None:
    said: list[Any] = []
    memory.begin(SimpleNamespace(spawn=lambda *args: said.append(args)))  # type: ignore[arg-type]
    for _ in range(LIMIT):
        memory.budget.take(1)
    assert memory.must_pause() and memory.must_pause()
    assert len(said) == 1


def test_a_new_budget_has_the_same_limits_and_what_is_handed_out_late_goes_by_the_old_one(
    memory: ReceiveBackpressure,
) -> None:
    old = memory.budget
    old.take(7)
    memory.begin_budget()
    old.give_back(7)
    assert memory.budget is not old and (memory.budget.messages, memory.budget.max_messages) == (0, LIMIT)
