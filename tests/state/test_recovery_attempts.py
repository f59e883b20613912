"""When a lost connection, or a record, is tried again."""

from __future__ import annotations

import random

import pytest

from gamqp.state.recovery_attempts import GARBLED, SHORTEST, RecoveryAttempts
from gamqp.state.retry_list import RetryList
from gamqp.state.topology_records import RecordedQueue


def test_the_limit_of_a_pause_doubles_up_to_the_longest() -> None:
    attempts = RecoveryAttempts()
    attempts.lost(100.0, 1000.0)
    pauses = []
    for _ in range(2000):  # more than fits the exponent of a float
        pauses.append(attempts.pause(100.0, 1.0))
        attempts.begin()
    assert pauses[:6] == [1, 4, 8, 16, 30, 30]
    assert pauses[-1] == 30


def test_a_pause_is_drawn_evenly_and_after_a_failure_there_is_some() -> None:
    attempts = RecoveryAttempts(first_delay=(2.0, 4.0))
    assert [attempts.pause(0.0, chance) for chance in (0.0, 0.5, 1.0)] == [2, 3, 4]
    attempts.begin()
    assert [attempts.pause(0.0, chance) for chance in (0.0, 0.5, 1.0)] == [SHORTEST, 2, 4]
    draw = random.Random(1)
    pauses = sorted(attempts.pause(0.0, draw.random()) or 0 for _ in range(10_000))
    # The largest distance from an even spread over 0 to 4, as a part of all. Chance alone gives 0.0195 once in 1000.
    assert max(abs(pause / 4 - place / 10_000) for place, pause in enumerate(pauses)) < 0.03


def test_what_is_refused_for_some_time_is_tried_about_once_in_max_delay() -> None:
    attempts = RecoveryAttempts(max_delay=20)
    assert [attempts.pause(0.0, chance, firm=True) for chance in (0.0, 1.0)] == [10, 20]


def test_the_count_starts_again_after_a_long_life_only() -> None:
    attempts = RecoveryAttempts(attempts=3, stable_after=60)
    attempts.lost(0.0, 1000.0)
    assert [attempts.begin() for _ in range(2)] == [1, 2]
    attempts.lost(10.0, 59.9)
    assert attempts.pause(10.0, 1.0) == 8
    assert attempts.begin() == 3
    assert attempts.pause(10.0, 1.0) is None
    attempts.lost(100.0, 60.0)
    assert attempts.pause(100.0, 1.0) == 1
    assert repr(attempts) == '<RecoveryAttempts 0 made>'


def test_an_outage_may_last_so_long() -> None:
    attempts = RecoveryAttempts(give_up_after=50)
    attempts.lost(1000.0, 100.0)
    for _ in range(10):
        attempts.begin()
    assert attempts.pause(1000.0, 1.0) == 30
    assert attempts.pause(1045.0, 1.0) == 5  # a last attempt, right at the end
    assert attempts.pause(1050.0, 1.0) is None
    attempts.lost(2000.0, 1.0)
    assert attempts.pause(2000.0, 1.0) == 30


def test_an_error_is_news_once() -> None:
    attempts = RecoveryAttempts()
    attempts.lost(0.0, 0.0)
    errors = [OSError('a'), OSError('a'), OSError('b'), TimeoutError('b'), OSError('a')]
    assert [attempts.is_news(error) for error in errors] == [True, False, True, True, False]
    attempts.lost(0.0, 0.0)
    assert attempts.is_news(OSError('a'))
    assert all(attempts.is_news(OSError(number)) for number in range(100))  # few are kept


def test_bytes_without_sense_may_come_so_often() -> None:
    attempts = RecoveryAttempts(stable_after=60)
    assert [attempts.garbled(time) for time in (0.0, 30.0, 61.0, 89.0)] == [False, False, False, True]
    assert GARBLED == 3


# -- records ------------------------------------------------------------------------------


def queue(name: str) -> RecordedQueue:
    return RecordedQueue(name, True, False, False, None, True)


def test_records_are_due_each_at_its_time_and_those_of_one_time_in_order() -> None:
    retries = RetryList()
    a, b, c, d = map(queue, 'abcd')
    assert (retries.next_time(), retries.take(1e9), len(retries)) == (None, None, 0)
    retries.add([a, b], 100.0, 1.0)
    retries.add([c], 100.0, 0.1)
    retries.add([d], 100.0, 0.0)
    assert (retries.next_time(), len(retries), a in retries) == (100 + SHORTEST, 4, True)
    assert (retries.take(100.0), retries.take(102.0), retries.take(102.0), retries.take(102.0)) == (None, d, c, a)
    retries.remove(b)
    retries.remove(b)
    assert (retries.next_time(), b in retries) == (None, False)
    retries.add([a], 200.0, 1.0)
    assert retries.next_time() == 204
    retries.clear()
    assert (retries.next_time(), len(retries)) == (None, 0)


@pytest.mark.parametrize('failures', [5, 1100])
def test_the_pause_of_a_record_doubles_up_to_the_longest(failures: int) -> None:
    retries = RetryList(delay=1, max_delay=10)
    record = queue('q')
    pauses = []
    for _ in range(failures):
        retries.add([record], 0.0, 1.0)
        pauses.append(retries.next_time())
        assert retries.take(1e9) is record
    assert pauses[:5] == [2, 4, 8, 10, 10]
    retries.remove(record)
    retries.add([record], 0.0, 1.0)
    assert retries.next_time() == 2


def distance_from_uniform(values: list[float], low: float, high: float) -> float:
    """How far the share of values below x is from what it should be, at most (Kolmogorov and Smirnov)."""
    count = len(values)
    shares = [(value - low) / (high - low) for value in sorted(values)]
    return max(max((at + 1) / count - share, share - at / count) for at, share in enumerate(shares))


def test_a_thousand_clients_of_one_broker_come_back_spread() -> None:
    """First attempts evenly within a second, later ones within a range that doubles, and never in a rush."""
    rng = random.Random(48)
    clients = [RecoveryAttempts() for _ in range(1000)]
    now = dict.fromkeys(range(1000), 0.0)
    arrivals: list[float] = []
    for number in range(6):
        pauses = []
        for client, attempts in enumerate(clients):
            pause = attempts.pause(now[client], rng.random())
            assert pause is not None
            pauses.append(pause)
            attempts.begin()
            now[client] += pause
            arrivals.append(now[client])
        high = 1.0 if number == 0 else min(30.0, 2.0 ** (number + 1))
        # Of even samples 1 in 1,000 is further off than 1.95 / sqrt(1000); after a failure 0.1 s is the least pause.
        assert distance_from_uniform(pauses, 0.0, high) < 1.95 / 1000**0.5 + (SHORTEST / high if number else 0)
    # Never twice as many as would come evenly in the first second: 1,000.
    for begin in range(100):
        assert sum(begin / 10 <= moment < (begin + 1) / 10 for moment in arrivals) < 2 * 1000 / 10
