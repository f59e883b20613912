"""Notices: bounded, oldest first out, calls and errors apart."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp.state.notices import KEPT, Notices


@pytest.mark.parametrize('kind', ['call', 'error'])
def test_the_oldest_go_when_nobody_comes(kind: str) -> None:
    notices = Notices()
    told: list[int] = []
    for number in range(KEPT + 5):
        getattr(notices, f'add_{kind}')(lambda number=number: told.append(number))
    kept: list[Any] = getattr(notices, f'{kind}s')
    assert len(kept) == KEPT
    for call in kept:
        call()
    assert told == list(range(5, KEPT + 5))


def test_is_true_while_it_holds_something() -> None:
    notices = Notices()
    assert not notices
    notices.add_call(print)
    assert notices
    notices.clear()
    assert not notices
    notices.add_error(print)
    assert notices
    notices.clear()
    assert not notices
    assert not notices.flagged
