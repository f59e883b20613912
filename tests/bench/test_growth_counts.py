"""No cost grows with how many there are: counted in executed lines of gamqp, which are the same on each machine.

What the benchmark measures in microseconds (``growth.py``), with few and with many.
"""

from __future__ import annotations

import growth
import pytest

MESSAGES = 200
#: What a few lines more are allowed to be: what is done now and then, such as a turn of the hub.
ALLOWED = 1.25


@pytest.mark.parametrize(
    ('series', 'few', 'many', 'times'),
    [
        ('consumers', 20, 400, 1),
        ('channels', 20, 400, 1),
        ('greenlets', 10, 200, 1),
        ('headers', 4, 80, 1),
        # Each frame has its cost, so this grows with the size, but no faster.
        ('size', 1_000_000, 4_000_000, 4),
    ],
)
def test_a_cost_does_not_grow_with_their_number(series: str, few: int, many: int, times: int) -> None:
    first, last = growth.points({series: (few, many)}, MESSAGES if series != 'size' else 10, counted=True)
    costs = set(first) - {'series', 'x', 'messages', 'bytes'}
    assert costs
    for cost in costs:
        assert 20 < first[cost] < 20_000  # it is counted
        assert last[cost] <= first[cost] * times * ALLOWED, (
            f'{cost}: {first[cost]} with {few}, {last[cost]} with {many}'
        )
