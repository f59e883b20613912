"""How gamqp's costs grow: with consumers, channels, publishing greenlets, headers, and the size of messages.

Each point is a process of its own (``programs/growth_point.py``) with a canned broker. Does not belong here: drawing.
"""

from __future__ import annotations

import sys
from typing import Any

from bench_peers import PROGRAMS
from bench_report import number
from bench_runs import canned_broker, program, say

__all__ = ('SERIES', 'SMALL', 'TITLES', 'measure', 'points', 'table')

#: What grows, and the points that are measured.
SERIES: dict[str, tuple[int, ...]] = {
    'consumers': (1, 10, 100, 1000, 10_000, 50_000),
    'channels': (1, 10, 100, 1000, 2000),
    'greenlets': (1, 10, 100, 1000, 10_000),
    'size': (0, 100, 1000, 10_000, 100_000, 1_000_000, 16_000_000),
    'headers': (0, 2, 10, 30, 100),
}
SMALL: dict[str, tuple[int, ...]] = {
    'consumers': (1, 60),
    'channels': (1, 20),
    'greenlets': (1, 20),
    'size': (0, 300_000),
    'headers': (0, 10),
}
TITLES = {
    'consumers': 'consumers of a connection',
    'channels': 'channels of a connection',
    'greenlets': 'greenlets that publish on one channel',
    'size': 'bytes of a message',
    'headers': 'headers of a message',
}
#: Messages at each point.
MESSAGES, SMALL_MESSAGES = 20_000, 60
#: At so few things the memory that each takes cannot be told from the rest.
TOO_FEW = 100


def points(series: dict[str, tuple[int, ...]], messages: int, counted: bool = False) -> list[dict[str, Any]]:
    """Measure these points. counted: in executed lines of gamqp instead of microseconds. Raises CannotRun."""
    found = []
    environment = {'COUNT': '1' if counted else ''}
    with canned_broker() as url:
        for name, values in series.items():
            for value in values:
                command = [sys.executable, str(PROGRAMS / 'growth_point.py'), url, name, str(value), str(messages)]
                (point,) = program(command, environment)
                if value < TOO_FEW:
                    point.pop('bytes', None)
                found.append(point)
            say(f'{name}: done')
    return found


def measure(small: bool) -> list[dict[str, Any]]:
    """All points. small: a few tiny ones. Raises CannotRun."""
    return points(SMALL if small else SERIES, SMALL_MESSAGES if small else MESSAGES)


def table(found: list[dict[str, Any]]) -> str:
    """For a terminal: microseconds of the processor, and bytes."""
    lines: list[str] = []
    for name, title in TITLES.items():
        its = [point for point in found if point['series'] == name]
        columns = list(dict.fromkeys(key for point in its for key in point if key not in ('series', 'x', 'messages')))
        lines += ['', f'{title:>40}' + ''.join(f'{column:>22}' for column in columns)]
        for point in its:
            cells = (number(point[column]) if column in point else '' for column in columns)
            lines.append(f'{point["x"]:>40,}' + ''.join(f'{cell:>22}' for cell in cells))
    return '\n'.join(['', 'CPU microseconds for each, bytes for each', *lines[1:]])
