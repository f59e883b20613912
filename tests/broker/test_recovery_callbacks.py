"""The callbacks of a connection that recovers: in order, one at a time, whatever they do."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest

from gamqp.recovery.callbacks import MOST_WAITING, OrderedCallbacks


class Held:
    """A callback that returns when it is let go."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.open = False

    def __call__(self, number: Any) -> None:
        self.began.append(number)
        greenlets.wait_until(lambda: self.open)
        self.ended.append(number)


def test_they_are_called_in_order_and_never_two_at_once() -> None:
    calls, held = OrderedCallbacks(), Held()
    for number in range(3):
        calls.add(greenlets.backend, held, number)
    assert held.began == []  # not in the greenlet that adds them
    greenlets.wait_until(lambda: held.began)
    assert held.began == [0]
    held.open = True
    greenlets.wait_until(lambda: held.ended == [0, 1, 2])
    assert held.began == [0, 1, 2]
    calls.add(greenlets.backend, None, 3)


def test_one_that_fails_is_logged_and_the_next_is_called(caplog: pytest.LogCaptureFixture) -> None:
    calls, heard = OrderedCallbacks(), []

    def fail() -> None:
        raise ValueError('by the program')

    calls.add(greenlets.backend, fail)
    calls.add(greenlets.backend, heard.append, 1)
    greenlets.wait_until(lambda: heard == [1])
    assert 'ValueError: by the program' in caplog.text


def test_of_too_many_the_oldest_that_may_be_left_out_are(caplog: pytest.LogCaptureFixture) -> None:
    calls, held, heard = OrderedCallbacks(), Held(), []
    calls.add(greenlets.backend, held, 0)
    greenlets.wait_until(lambda: held.began)
    calls.add(greenlets.backend, heard.append, 'lost')
    for number in range(MOST_WAITING + 10):
        calls.add(greenlets.backend, heard.append, number, droppable=True)
    calls.add(greenlets.backend, heard.append, 'open')
    held.open = True
    greenlets.wait_until(lambda: heard[-1:] == ['open'])
    assert heard == ['lost', *range(12, MOST_WAITING + 10), 'open']
