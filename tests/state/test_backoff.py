"""The pauses between attempts to reach a broker."""

from __future__ import annotations

from gamqp.state.backoff import FIRM, FIRST, LONGEST, STEADY, Backoff


def test_the_limit_of_a_pause_doubles_up_to_the_longest():
    backoff = Backoff()
    pauses = []
    for _ in range(10):
        backoff.failed(100.0, 1.0)
        pauses.append(round(backoff.until - 100, 6))
    assert pauses == [min(LONGEST, FIRST * 2**number) for number in range(10)]


def test_a_pause_is_drawn_from_nothing_to_its_limit():
    backoff = Backoff()
    backoff.failed(100.0, 0.0)
    assert backoff.until == 100.0
    backoff.failed(100.0, 0.5)
    assert round(backoff.until, 6) == 100 + FIRST


def test_what_was_refused_for_good_waits_longer():
    backoff = Backoff()
    backoff.failed(100.0, 0.0, firm=True)
    assert backoff.until == 100 + FIRM


def test_a_connection_that_was_lost_at_once_is_a_failure_and_one_that_worked_ends_them():
    backoff = Backoff()
    for _ in range(5):
        backoff.lost(100.0, STEADY / 2, 1.0)
    assert (backoff.failures, backoff.until > 101) == (5, True)
    backoff.lost(200.0, STEADY, 1.0)
    assert (backoff.failures, backoff.until < 200) == (0, True)
    for _ in range(10_000):
        backoff.failed(300.0, 1.0)
    assert backoff.until == 300 + LONGEST
