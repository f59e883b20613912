"""Seconds in texts: as many digits as people read."""

from __future__ import annotations

import pytest

from gamqp.state.durations import in_seconds


@pytest.mark.parametrize(
    ('number', 'text'),
    [
        (1.999909260000095, '2 s'),
        (30.0, '30 s'),
        (5, '5 s'),
        (0.15, '0.15 s'),
        (0.1 + 0.2, '0.3 s'),
        (0.0004, '0.0004 s'),
        (0, '0 s'),
        (1e9, '1000000000 s'),
        (None, 'any time'),
    ],
)
def test_in_seconds(number: float | None, text: str) -> None:
    assert in_seconds(number) == text
