"""The benchmark runs: each part of it, with each client that is installed here, and tiny numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_page
import bench_peers
import bench_report
import growth
import latency
import pytest
from bench_runs import JOBS

BENCH = Path(__file__).with_name('bench.py')


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, BENCH, '--small', '--broker', 'canned', '--json', '-', *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_each_client_does_each_job() -> None:
    names = [name for name in bench_peers.NAMES if name != 'go']  # Go compiles for a minute the first time
    result = run('compare', '--peers', ','.join(names))
    done: dict[str, set[str]] = {}
    for row in result['medians']:
        done.setdefault(row['peer'], set()).add(row['job'])
        assert row['rate'] > 0 and row['cpu'] >= 0 and row['runs'] == 1
    assert {*done, *result['compare']['skipped']} == set(names)
    for own in {'gamqp', 'gamqp-pure', 'gamqp-recover'} & set(done):
        assert done[own] == set(JOBS)
    assert 'gamqp-pure' in done and 'socket' in done
    if 'py-amqp' in done:
        assert {row['cpu_ratio'] is not None for row in result['medians'] if row['job'] == 'consume'} == {True}


@pytest.mark.slow
def test_growth_is_measured() -> None:
    result = run('growth')
    assert [(point['series'], point['x']) for point in result['growth']] == [
        (series, x) for series, values in growth.SMALL.items() for x in values
    ]
    assert 'a delivery' in growth.table(result['growth'])


@pytest.mark.slow
def test_latency_is_measured() -> None:
    result = run('latency')
    assert [(point['setting'], point['tls']) for point in result['latency']] == [
        *((setting, False) for setting in latency.TITLES),
        *((setting, True) for setting in latency.SMALL_WITH_TLS),
    ]
    assert all(point['gap']['max'] >= 0 and point['confirm']['p99.9'] > 0 for point in result['latency'])
    assert 'with TLS' in latency.table(result['latency'])


def figures(peer: str, seconds: float, processor: float, job: str = 'consume') -> dict[str, Any]:
    return {'broker': 'canned', 'job': job, 'peer': peer, 'count': 1000, 'seconds': seconds, 'processor': processor}


def test_the_report_has_medians_and_ratios() -> None:
    runs = [
        *(figures('py-amqp', seconds, 0.030) for seconds in (0.1, 0.1, 0.5)),
        *(figures('gamqp', seconds, seconds) for seconds in (0.002, 0.004, 0.001)),
        figures('socket', 0.0019, 0.001),
    ]
    found = {row.peer: row for row in bench_report.rows(runs)}
    gamqp = found['gamqp']
    assert (gamqp.runs, gamqp.count) == (3, 1000)
    assert (round(gamqp.rate), round(gamqp.rate_least), round(gamqp.rate_most)) == (500_000, 250_000, 1_000_000)
    assert (round(gamqp.cpu, 3), round(gamqp.cpu_least, 3)) == (2.0, 1.0)
    assert gamqp.rate_ratio is not None and round(gamqp.rate_ratio) == 50
    assert gamqp.cpu_ratio is not None and round(gamqp.cpu_ratio, 3) == 0.067
    assert gamqp.near_limit and not found['py-amqp'].near_limit
    text = bench_report.table(list(found.values()), JOBS)
    assert 'gamqp' in text and '500,000' in text and '~ near' in text


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0, '0'), (1.234, '1.23'), (12.34, '12.3'), (123.4, '123'), (1234.0, '1,230'), (1_234_567.0, '1,230,000')],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert bench_report.number(value) == text


def test_a_wrong_name_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, BENCH, '--peers', 'gamqp,rabbit'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "'rabbit' is none of: gamqp," in done.stderr


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    """And what the page has is what the benchmark writes: all of it, and nothing that is left of another one."""
    point = {'series': 'consumers', 'x': 1000, 'messages': 10, 'a delivery': 1.5, 'bytes': 700}
    times = {'median': 0.1, 'p99': 0.2, 'p99.9': 12.0, 'max': 13.0}
    beside = [{'setting': 'idle', 'tls': tls, 'confirm': times, 'gap': times, 'confirms': 9} for tls in (False, True)]
    machine = {'date': '2026-01-02', 'processor': 'P', 'processors': 2, 'system': 'S', 'python': '3', 'load': [0.1]}
    runs = [figures('gamqp', 0.002, 0.002), {**figures('gamqp', 0.1, 0.09, 'rpc'), 'broker': 'RabbitMQ 4.3'}]
    compared = {'versions': {'gamqp': '1'}, 'skipped': {'go': 'no go to compile it'}}
    result = {'command': 'c', 'machine': machine, 'compare': compared, 'growth': [point], 'latency': beside}
    written = bench_page.write(result, bench_report.rows(runs), tmp_path)
    text = ''.join(path.read_text(encoding='utf-8') for path in written)
    for word in ('500,000 (2.00)', 'RabbitMQ 4.3:', '2026-01-02', 'no go to compile it', '12.0 ms', '1,000'):
        assert word in text
    page = (bench_page.FOLDER.parent / 'performance.rst').read_text(encoding='utf-8')
    shown = re.findall(r'^\.\. (?:include|image):: performance/(\S+)$', page, re.M)
    assert sorted(name for name in shown if name.endswith('.inc')) == sorted(path.name for path in written)
    there = {path.name: path.stat().st_size for path in bench_page.FOLDER.iterdir()}
    assert sorted(there) == sorted(shown)
    assert sum(there.values()) < 100_000
