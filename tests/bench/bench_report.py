"""What the figures of many runs come to: medians, least and most, ratios; as tables for people and for programs.

Pure. Does not belong here: running, drawing, the page of the documentation.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench_peers import BASELINE
from bench_runs import Job

__all__ = ('LIMIT', 'Row', 'duration', 'machine', 'number', 'rows', 'table')

#: The client whose figures are what the broker and the system can do. One that comes near is marked with ~.
LIMIT, NEAR = 'socket', 0.7
#: The jobs that the broker could limit; in the others each side waits for the other.
STREAMS = ('consume', 'drain_events', 'ack', 'large', 'publish')


@dataclasses.dataclass
class Row:
    """One client in one job: messages a second, and microseconds of the processor a message."""

    broker: str
    job: str
    peer: str
    runs: int
    count: int
    rate: float
    rate_least: float
    rate_most: float
    cpu: float
    cpu_least: float
    #: As many times the baseline's; None where that is not there.
    rate_ratio: float | None = None
    cpu_ratio: float | None = None
    near_limit: bool = False


def rows(figures: Iterable[dict[str, Any]]) -> list[Row]:
    """Medians of each client in each job, in the order in which they ran."""
    runs: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in figures:
        runs.setdefault((one['broker'], one['job'], one['peer']), []).append(one)
    found = {key: _row(*key, ones) for key, ones in runs.items()}
    for (broker, job, peer), row in found.items():
        limited_by = job if job in ('large', 'publish') else 'consume'
        base, limit = found.get((broker, job, BASELINE)), found.get((broker, limited_by, LIMIT))
        if base is not None and base.cpu:
            row.rate_ratio, row.cpu_ratio = row.rate / base.rate, row.cpu / base.cpu
        row.near_limit = (
            job in STREAMS and limit is not None and not peer.startswith(LIMIT) and row.rate > NEAR * limit.rate
        )
    return list(found.values())


def _row(broker: str, job: str, peer: str, runs: Sequence[dict[str, Any]]) -> Row:
    rates = [run['count'] / run['seconds'] for run in runs]
    cpu = [run['processor'] / run['count'] * 1e6 for run in runs]
    middle = statistics.median
    return Row(
        broker, job, peer, len(runs), runs[-1]['count'], middle(rates), min(rates), max(rates), middle(cpu), min(cpu)
    )


def number(value: float) -> str:
    """Three digits: 1,230,000, 45,600, 7.89."""
    if not value:
        return '0'
    digits = len(str(int(abs(value))))
    if digits >= 3:
        return f'{round(value, 3 - digits):,.0f}'
    return f'{value:.{3 - digits}f}'


def duration(seconds: float) -> str:
    """With a unit."""
    for unit, size in (('s', 1.0), ('ms', 1e-3)):
        if seconds >= size:
            return f'{number(seconds / size)} {unit}'
    return f'{number(seconds / 1e-6)} us'


def table(found: Sequence[Row], jobs: dict[str, Job]) -> str:
    """One block for each job, for a terminal."""
    lines: list[str] = []
    head = f'{"":18}{"messages/s":>12}{"least":>12}{"most":>12}{"CPU us":>9}{"least":>9}{"rate":>9}{"CPU":>8}'
    last = None
    for row in sorted(found, key=lambda row: (list(jobs).index(row.job), row.broker)):
        if (row.job, row.broker) != last:
            last = row.job, row.broker
            broker = 'the canned broker' if row.broker == 'canned' else row.broker
            lines += ['', f'{jobs[row.job].title} ({broker}, {row.runs} rounds; the last two: times {BASELINE})', head]
        text = f'{row.peer:18}{number(row.rate):>12}{number(row.rate_least):>12}{number(row.rate_most):>12}'
        text += f'{number(row.cpu):>9}{number(row.cpu_least):>9}'
        if row.rate_ratio is not None and row.cpu_ratio is not None:
            text += f'{number(row.rate_ratio):>9}{row.cpu_ratio:>8.3f}'
        lines.append(text + ('  ~ near what the broker can send' if row.near_limit else ''))
    return '\n'.join(lines[1:])


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.machine()
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                model = line.partition(':')[2].strip()
                break
    except OSError:
        pass
    load = os.getloadavg()
    return {
        'date': datetime.date.today().isoformat(),
        'processor': model,
        'processors': os.cpu_count(),
        'system': f'{platform.system()} {platform.release()}',
        'python': platform.python_version(),
        'load': [round(one, 2) for one in load],
    }
