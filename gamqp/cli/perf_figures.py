"""The figures of ``perf``: counters, and latencies as percentiles.

Layer 5. Pure. Does not belong here: how they come about.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ('COUNTERS', 'Figures', 'Histogram', 'as_table', 'tables')

PERCENTILES = (50.0, 75.0, 95.0, 99.0, 99.9)

# Bits of a value that are kept: an error of at most 1 in 1024.
_BITS = 10
_EXACT = 1 << _BITS


class Histogram:
    """How often each duration occurred, in microseconds, with three significant digits. Its size is bounded."""

    __slots__ = ('_counts', 'count', 'largest', 'smallest')

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.smallest = self.largest = 0

    def add(self, value: int) -> None:
        """Count one duration. Less than 0 (clocks of two machines) counts as 0."""
        if value < 0:
            value = 0
        if not self.count or value < self.smallest:
            self.smallest = value
        if value > self.largest:
            self.largest = value
        self.count += 1
        if value >= _EXACT:
            shift = value.bit_length() - _BITS
            value = value >> shift << shift
        self._counts[value] = self._counts.get(value, 0) + 1

    def percentile(self, percent: float) -> int:
        """The least duration that so many percent did not exceed; 0 where there is none."""
        wanted, seen = self.count * percent / 100.0, 0
        for value in sorted(self._counts):
            seen += self._counts[value]
            if seen >= wanted:
                return min(value, self.largest)
        return self.largest

    def counts(self) -> list[tuple[int, int]]:
        """(duration, how often), in order."""
        return sorted(self._counts.items())

    def merge(self, other: Histogram) -> None:
        """Add all durations of another one."""
        if not other.count:
            return
        self.smallest = min(self.smallest, other.smallest) if self.count else other.smallest
        self.largest = max(self.largest, other.largest)
        self.count += other.count
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count

    def milliseconds(self) -> dict[str, float]:
        """Smallest, percentiles and largest, in milliseconds; empty where there is none."""
        if not self.count:
            return {}
        found = {'min': self.smallest / 1000}
        for percent in PERCENTILES:
            name = 'median' if percent == 50.0 else f'p{percent:g}'
            found[name] = self.percentile(percent) / 1000
        return {**found, 'max': self.largest / 1000}


COUNTERS = ('published', 'confirmed', 'refused', 'received', 'cycles', 'errors')


@dataclasses.dataclass
class Figures:
    """What has been counted in a span of time. latency: from publish to delivery. confirm: from publish to confirm."""

    published: int = 0
    confirmed: int = 0
    refused: int = 0
    received: int = 0
    cycles: int = 0
    errors: int = 0
    latency: Histogram = dataclasses.field(default_factory=Histogram)
    confirm: Histogram = dataclasses.field(default_factory=Histogram)
    cycle: Histogram = dataclasses.field(default_factory=Histogram)

    def add(self, other: Figures) -> None:
        """Add those of another span."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ('latency', 'confirm', 'cycle'):
            getattr(self, name).merge(getattr(other, name))

    def live(self, at: float, seconds: float) -> str:
        """One line of a span that ends at second *at*."""
        parts = [f'{at:6.1f} s']
        for name in COUNTERS:
            count = getattr(self, name)
            if count:
                parts.append(f'{name} {count / seconds:,.0f}/s')
        for name in ('latency', 'confirm', 'cycle'):
            found = getattr(self, name).milliseconds()
            if found:
                parts.append(f'{name} median {found["median"]:.2f} p99 {found["p99"]:.2f} ms')
        return '  '.join(parts)

    def for_programs(self, seconds: float) -> dict[str, Any]:
        """As a table for JSON."""
        found: dict[str, Any] = {'seconds': round(seconds, 3)}
        for name in COUNTERS:
            count = getattr(self, name)
            if count:
                found[name] = count
                found[f'{name}_per_second'] = round(count / seconds, 1) if seconds else 0.0
        for name in ('latency', 'confirm', 'cycle'):
            durations = getattr(self, name).milliseconds()
            if durations:
                found[f'{name}_ms'] = durations
        return found


def tables(found: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """The figures of a whole run, of ``Figures.for_programs``: tables, each its headings and its rows."""
    made = []
    rows = [[name, f'{found[name]:,}', f'{found[f"{name}_per_second"]:,.1f}'] for name in COUNTERS if name in found]
    if rows:
        made.append((['', 'count', 'a second'], rows))
    durations = {name: found[f'{name}_ms'] for name in ('latency', 'confirm', 'cycle') if f'{name}_ms' in found}
    if durations:
        headings = ['ms', *next(iter(durations.values()))]
        made.append((headings, [[kind, *(f'{one:.2f}' for one in of.values())] for kind, of in durations.items()]))
    return made


def as_table(found: dict[str, Any]) -> str:
    """The same as plain text."""
    lines = []
    for headings, rows in tables(found):
        if headings[0]:
            head, *names = headings
            lines += ['', f'{head:12}' + ''.join(f'{name:>10}' for name in names)]
            lines += [f'{kind:12}' + ''.join(f'{value:>10}' for value in values) for kind, *values in rows]
        else:
            lines += [f'{name:12}{count:>14}{rate:>16} a second' for name, count, rate in rows]
    return '\n'.join(lines)
