"""``perf --hdr``: all percentiles of a run, in the text format of HdrHistogram, which its tools plot and compare.

Layer 5. Does not belong here: counting durations (``perf_figures``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from .perf_figures import Figures, Histogram

__all__ = ('distribution', 'write_distributions')

# Steps for each half of what is left to 100 %, as HdrHistogram's own tools have it.
TICKS = 5


def write_distributions(prefix: str, figures: Figures) -> list[str]:
    """Write a file for each kind of duration that there is, and return their names. Raises OSError."""
    written = []
    for name in ('latency', 'confirm', 'cycle'):
        histogram: Histogram = getattr(figures, name)
        if histogram.count:
            path = f'{prefix}.{name}.hgrm'
            Path(path).write_text(distribution(histogram), encoding='ascii')
            written.append(path)
    return written


def distribution(histogram: Histogram) -> str:
    """The text: values in milliseconds. Of one without any, only the head."""
    lines = [f'{"Value":>12} {"Percentile":>14} {"TotalCount":>10} {"1/(1-Percentile)":>14}', '']
    counts = histogram.counts()
    total, seen, values = histogram.count, 0, iter(counts)
    value = 0
    for percent in _percents() if total else ():
        while seen < total * percent / 100.0 or not seen:
            value, count = next(values)
            seen += count
        if seen == total:
            break
        lines.append(f'{value / 1000:12.3f} {percent / 100:2.12f} {seen:10} {100 / (100 - percent):14.2f}')
    if total:
        lines.append(f'{histogram.largest / 1000:12.3f} {1:2.12f} {total:10}')
    mean = sum(value * count for value, count in counts) / max(total, 1)
    spread = math.sqrt(sum((value - mean) ** 2 * count for value, count in counts) / max(total, 1))
    lines.append(f'#[Mean    = {mean / 1000:12.3f}, StdDeviation   = {spread / 1000:12.3f}]')
    lines.append(f'#[Max     = {histogram.largest / 1000:12.3f}, Total count    = {total:12}]')
    return '\n'.join(lines) + '\n'


def _percents() -> Iterator[float]:
    """0, 10, 20 … 50, 55, 60 … 75, 77.5 …: so many steps for each half of what is left."""
    percent, step = 0.0, 50.0 / TICKS
    while step > 1e-12:
        for _ in range(TICKS):
            yield percent
            percent += step
        step /= 2
