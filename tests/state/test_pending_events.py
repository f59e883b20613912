"""Notices: oldest first out, calls and errors apart, and only what nobody has asked for is bounded."""

from __future__ import annotations

from gamqp.state.pending_events import MOST_RETURNS, PendingEvents


def test_no_call_is_ever_dropped_and_no_error_of_a_consumer() -> None:
    notices = PendingEvents()
    told: list[int] = []
    for number in range(3 * MOST_RETURNS):
        notices.add_call(lambda number=number: told.append(number))  # type: ignore[misc]
        notices.add_error(lambda number=number: told.append(-number))  # type: ignore[misc]
    while (call := notices.take_call()) is not None:
        call()
    assert told == list(range(3 * MOST_RETURNS))
    told.clear()
    while (throw := notices.take_error()) is not None:
        throw()
    assert told == [-number for number in range(3 * MOST_RETURNS)]


def test_the_oldest_returns_that_nobody_took_go_and_the_first_is_told() -> None:
    notices = PendingEvents()
    told: list[int] = []
    notices.add_error(lambda: told.append(-1))
    lost = [notices.add_return(lambda number=number: told.append(number)) for number in range(MOST_RETURNS + 5)]  # type: ignore[misc]
    assert [number for number, first in enumerate(lost) if first] == [MOST_RETURNS]
    while (throw := notices.take_error()) is not None:
        throw()
    assert told == [-1, *range(5, MOST_RETURNS + 5)]


def test_is_true_while_it_holds_something() -> None:
    notices = PendingEvents()
    assert not notices
    notices.add_call(print)
    assert notices
    notices.clear()
    assert not notices
    notices.add_error(print)
    assert notices and notices.to_raise
    notices.clear()
    assert not notices and not notices.to_raise
    notices.add_return(print)
    assert notices and notices.to_raise
    notices.clear()
    assert not notices
    assert not notices.flagged
