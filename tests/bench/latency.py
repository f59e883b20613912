"""Latency under load: percentiles of a confirm and the hub's gaps, with and without TLS.

Each setting is a process of its own (``programs/latency_point.py``) with a canned broker. Does not belong here: loads.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from bench_peers import PROGRAMS
from bench_report import duration
from bench_runs import canned_broker, program, say

__all__ = ('SMALL_WITH_TLS', 'TITLES', 'measure', 'table')

TITLES = {
    'idle': 'nothing else',
    'consumers': '10,000 idle consumers',
    'publishing': 'another greenlet publishes all the time',
    'flood': 'a consumer is flooded, same connection',
    'flood-elsewhere': 'a consumer is flooded, another connection',
    'slow-elsewhere': 'a slow consumer is flooded, another connection',
}
#: Confirms, at most so many seconds of them, idle consumers.
WHOLE, SMALL = (10_000, 10.0, 10_000), (30, 0.3, 20)
SMALL_WITH_TLS = ('idle', 'flood')


def measure(small: bool) -> list[dict[str, Any]]:
    """All settings. small: a few confirms of each. Raises CannotRun."""
    numbers = [str(value) for value in (SMALL if small else WHOLE)]
    found = []
    for certificates in (None, _certificates()):
        if certificates is None:
            tls: tuple[str, ...] = ()
            ca_certs, host = '', '127.0.0.1'
        else:
            tls = (certificates.certfile, certificates.keyfile)
            ca_certs, host = certificates.ca_certs, 'localhost'
        with canned_broker(*tls) as url:
            for setting in SMALL_WITH_TLS if small and tls else TITLES:
                there = url.replace('127.0.0.1', host)
                command = [sys.executable, str(PROGRAMS / 'latency_point.py'), there, setting, *numbers, ca_certs]
                found += program(command)
        say('with TLS: done' if tls else 'without TLS: done')
        if certificates is None and importlib.util.find_spec('cryptography') is None:
            say('skipped: TLS: cryptography is not installed')
            break
    return found


def _certificates() -> Any:
    if importlib.util.find_spec('cryptography') is None:
        return None
    return importlib.import_module('gamqp.testing.certificates').Certificates()


def table(found: list[dict[str, Any]]) -> str:
    """For a terminal."""
    head = (
        f'{"":48}{"confirm":>9}{"99 %":>9}{"99.9 %":>9}{"longest":>9}{"hub: 99.9 %":>13}{"longest":>9}{"confirms":>10}'
    )
    lines = []
    for tls in (False, True):
        its = [point for point in found if point['tls'] == tls]
        if its:
            lines += ['', 'Latency beside …' + (', with TLS' if tls else ''), head]
        for point in its:
            confirm, gap = point['confirm'], point['gap']
            cells = [confirm['median'], confirm['p99'], confirm['p99.9'], confirm['max']]
            text = f'{TITLES[point["setting"]]:48}' + ''.join(f'{duration(cell / 1e3):>9}' for cell in cells)
            text += f'{duration(gap["p99.9"] / 1e3):>13}{duration(gap["max"] / 1e3):>9}{point["confirms"]:>10,}'
            lines.append(text)
    return '\n'.join(lines)
