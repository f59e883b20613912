"""How often in a row a message has failed, and how long it is kept for it."""

from __future__ import annotations

from gamqp.state.handler_failures import LONGEST, REMEMBERED, HandlerFailures, delay


def test_a_message_that_comes_back_is_counted() -> None:
    failures = HandlerFailures()
    assert failures.note('a', False, 'x') == (1, True)
    assert failures.note('b', False, 'x') == (1, True)
    assert failures.note('a', True, 'x') == (2, False)
    assert failures.note('a', True, 'y') == (3, True)
    assert failures.note('b', True, 'x') == (2, False)
    assert failures.note('a', False, 'y') == (1, True)


def test_one_that_failed_elsewhere_is_new_here() -> None:
    assert HandlerFailures().note('a', True, 'x') == (1, True)


def test_only_the_latest_are_remembered() -> None:
    failures = HandlerFailures()
    for number in range(REMEMBERED + 1):
        failures.note(number, False, 'x')
    assert failures.note(1, True, 'x') == (2, False)
    assert failures.note(0, True, 'x') == (1, True)


def test_one_that_fails_anew_is_one_of_the_latest() -> None:
    failures = HandlerFailures()
    for number in range(REMEMBERED):
        failures.note(number, False, 'x')
    failures.note(0, False, 'x')
    failures.note('another', False, 'x')
    assert failures.note(0, True, 'x') == (2, False)
    assert failures.note(1, True, 'x') == (1, True)


def test_the_delay_doubles_up_to_a_limit() -> None:
    assert [delay(count) for count in (1, 2, 3, 10)] == [0.01, 0.02, 0.04, 5.12]
    assert delay(11) == delay(10**9) == LONGEST
