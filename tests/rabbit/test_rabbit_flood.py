"""A slow program that is flooded and makes round trips meanwhile: its memory stays near its budget.

The program is a process of its own, ``programs/flooded.py``, so that nobody else's memory is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import pytest

import gamqp
from gamqp.state.connection_settings import MAX_UNDELIVERED_BYTES

PROGRAM = Path(__file__).parent / 'programs' / 'flooded.py'
MB = 1_000_000
#: How much is published.
VOLUME = broker_tools.repeats(120, 2000) * MB
#: Round trips while the flood lasts.
ROUND_TRIPS = broker_tools.repeats(60, 2000)
#: What the program may take beside its budget: a quarter of the budget, and what the interpreter needs to work.
BESIDE = 30 * MB
PATIENCE = broker_tools.repeats(150, 1000)


@pytest.fixture
def full(rabbit: Any) -> Any:
    """Publish so many bodies of a size to a queue. Returns its name and how many; gone afterwards."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        name = broker_tools.shared_queue(channel)

        def fill(size: int) -> tuple[str, int]:
            count = VOLUME // size
            message = gamqp.Message(bytes(size))
            for _ in range(count):
                channel.basic_publish(message, '', name)
            broker_tools.wait_ready(channel, name, count, timeout=PATIENCE)
            return name, count

        yield fill
        channel.queue_delete(name)


@pytest.mark.any_broker
@pytest.mark.limit(60 if not broker_tools.LONG else 1800)
@pytest.mark.parametrize(
    ('size', 'how'), [pytest.param(2_000, 'callback', marks=pytest.mark.slow), (20_000, 'subscribe')]
)
def test_memory_stays_near_the_budget_however_many_round_trips_are_made(
    rabbit: Any, full: Any, size: int, how: str
) -> None:
    queue, count = full(size)
    found = flooded(rabbit.url, queue, count, how)
    print(
        f'\nRabbitMQ {rabbit.version}, {greenlets.GREEN}, {count} x {size} B: memory {found["most"] / MB:.1f} MB, '
        f'on disk {found["spooled"] / MB:.1f} MB; round trips: median {found["median"] * 1000:.1f} ms, 95 % '
        f'{found["p95"] * 1000:.1f} ms, longest {found["worst"] * 1000:.1f} ms; longest gap '
        f'{found["gap"] * 1000:.0f} ms'
    )
    assert found['spooled'] > 20 * MB, 'this was no flood'
    assert found['most'] < MAX_UNDELIVERED_BYTES + BESIDE
    assert found['connected']
    # All of them have come, in order; and nothing is left of them.
    assert found['handled'] == count
    assert (found['still_spooled'], found['undelivered'], found['descriptors']) == (0, 0, 0)
    # Bounds for a machine that does other things, too; usual are some milliseconds.
    assert found['median'] < 10
    assert found['whole_gap'] < 2


def flooded(*arguments: Any) -> dict[str, Any]:
    url, queue, count, how = arguments
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), greenlets.GREEN, url, queue, str(count), str(ROUND_TRIPS), how],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = broker_tools.in_thread(process.communicate, timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found
