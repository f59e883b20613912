"""Draws the figures of a run: ``bench_plots.py FIGURES.json FOLDER``. Needs matplotlib, which need not be beside gamqp.

Does not belong here: measuring.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from growth import TITLES

__all__ = ('draw',)

COMPARED = {'consume': 'consume', 'ack': 'consume, ack each', 'publish': 'publish'}


def draw(result: dict[str, Any], folder: Path) -> None:
    """Write growth.svg and compare.svg, as far as there are figures for them."""
    importlib.import_module('matplotlib').use('Agg')
    pyplot = importlib.import_module('matplotlib.pyplot')
    # Text stays text, and the same figures are the same file.
    pyplot.rcParams.update({'svg.fonttype': 'none', 'svg.hashsalt': 'gamqp', 'font.size': 9})
    folder.mkdir(parents=True, exist_ok=True)
    if result.get('growth'):
        _save(pyplot, _growth(pyplot, result['growth']), folder / 'growth.svg')
    rows = [row for row in result.get('medians', ()) if row['broker'] == 'canned' and row['job'] in COMPARED]
    if rows:
        _save(pyplot, _compare(pyplot, rows), folder / 'compare.svg')


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})
    path.write_text(shortened(path.read_text(encoding='utf-8')), encoding='utf-8')
    pyplot.close(figure)


def shortened(svg: str) -> str:
    """The same picture in half the bytes: no indentation, no comments, and each style written once."""
    svg = re.sub(r'\s*\n\s*', '\n', re.sub(r'<!--.*?-->', '', svg, flags=re.S))
    styles = list(dict.fromkeys(re.findall(r'style="([^"]*)"', svg)))
    svg = re.sub(r'style="([^"]*)"', lambda found: f'class="s{styles.index(found[1])}"', svg)
    rules = ''.join(f'.s{number}{{{style}}}\n' for number, style in enumerate(styles))
    return svg.replace('</style>', f'{rules}</style>', 1)


def _growth(pyplot: Any, points: list[dict[str, Any]]) -> Any:
    figure, places = pyplot.subplots(3, 2, figsize=(9, 9))
    flat = list(places.flat)
    for axes, (series, title) in zip(flat, TITLES.items(), strict=False):
        its = [point for point in points if point['series'] == series]
        for cost in dict.fromkeys(key for point in its for key in point):
            if cost not in ('series', 'x', 'messages', 'bytes'):
                drawn = [(point['x'], point[cost]) for point in its if cost in point]
                axes.plot(*zip(*drawn, strict=True), marker='.', label=cost)
        axes.set_xscale('symlog', linthresh=1)
        axes.set_yscale('log')
        # A decade more than there is, so that a flat line looks flat.
        low, high = axes.get_ylim()
        axes.set_ylim(min(1.0, low), max(1000.0, high))
        axes.set_xlabel(title)
        axes.set_ylabel('CPU microseconds each')
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_plain)
        axes.grid(alpha=0.3)
        axes.legend()
    for axes in flat[len(TITLES) :]:
        axes.axis('off')
    return figure


def _plain(value: float, _: int) -> str:
    for size, letter in ((1e6, 'M'), (1e3, 'k')):
        if value >= size:
            return f'{value / size:g} {letter}'
    return f'{value:g}'


def _compare(pyplot: Any, rows: list[dict[str, Any]]) -> Any:
    figure, places = pyplot.subplots(1, len(COMPARED), figsize=(9, 3.4), sharey=True)
    peers = [peer for peer in dict.fromkeys(row['peer'] for row in rows) if not peer.startswith('socket')]
    for axes, (job, title) in zip(places, COMPARED.items(), strict=True):
        cpu = {row['peer']: row['cpu'] for row in rows if row['job'] == job}
        for place, peer in enumerate(reversed(peers)):
            value = cpu.get(peer, 0.0)
            axes.barh(place, value, color='tab:green' if peer.startswith('gamqp') else 'tab:gray')
            axes.text(value, place, f' {value:.3g}' if value else ' -', va='center')
        axes.set_yticks(range(len(peers)), labels=list(reversed(peers)))
        axes.set_xlim(0, 1.25 * max(cpu.values(), default=1.0))
        axes.set_xlabel('CPU microseconds a message')
        axes.set_title(title)
    return figure


if __name__ == '__main__':
    draw(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')), Path(sys.argv[2]))
