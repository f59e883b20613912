"""``perf --plot``: rates and latencies over time, as a picture. Needs matplotlib.

Layer 5. Does not belong here: figures.
"""

from __future__ import annotations

import importlib
from typing import Any

from .exit_codes import UsageError

__all__ = ('check_plot', 'plot')


def check_plot() -> None:
    """Raise UsageError where no picture could be made in the end."""
    try:
        importlib.import_module('matplotlib')
    except ModuleNotFoundError:
        raise UsageError('--plot needs matplotlib: pip install gamqp[plots]') from None


def plot(path: str, series: list[dict[str, Any]]) -> None:
    """Draw the spans of a run. series: each as ``Figures.for_programs`` has it, with its end as 'at'."""
    importlib.import_module('matplotlib').use('Agg')
    pyplot = importlib.import_module('matplotlib.pyplot')
    figure, (rates, durations) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6))
    at = [span['at'] for span in series]
    for name in ('published', 'confirmed', 'received', 'cycles'):
        key = f'{name}_per_second'
        if any(key in span for span in series):
            rates.plot(at, [span.get(key, 0) for span in series], label=name)
    for name in ('latency', 'confirm', 'cycle'):
        for percentile in ('median', 'p99'):
            points = [(span['at'], span[f'{name}_ms'][percentile]) for span in series if f'{name}_ms' in span]
            if points:
                durations.plot(*zip(*points, strict=True), label=f'{name} {percentile}')
    rates.set_ylabel('a second')
    durations.set_ylabel('ms')
    durations.set_xlabel('seconds')
    for axes in (rates, durations):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
