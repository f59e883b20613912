"""The figures of the page Performance: what ``docs/performance.rst`` includes, in ``docs/performance/``.

Pure, up to the writing. Does not belong here: words about the figures; they are on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_report import Row, duration, number
from growth import TITLES as GROWTH
from latency import TITLES as LATENCY

__all__ = ('FOLDER', 'write')

FOLDER = Path(__file__).parents[2] / 'docs' / 'performance'

#: The clients, as people call them.
CLIENTS = {
    'gamqp': 'gamqp',
    'gamqp-pure': 'gamqp, pure Python',
    'gamqp-recover': 'gamqp with ``recover``',
    'py-amqp': 'py-amqp',
    'py-amqp-gevent': 'py-amqp under gevent',
    'pika': 'pika',
    'aio-pika': 'aio-pika',
    'amqpstorm': 'AMQPStorm',
    'librabbitmq': 'librabbitmq (Python)',
    'c': 'rabbitmq-c, from C',
    'go': 'amqp091-go, one processor',
    'socket': '*a socket alone*',
    'socket-gevent': '*a socket of gevent alone*',
}
STREAMS = {
    'consume': 'consume',
    'drain_events': 'drain_events',
    'ack': 'consume, ack each',
    'publish': 'publish',
    'large': 'consume 100 kB',
}
ROUND_TRIPS = {'confirm': 'one confirm at a time', 'window': '1,000 outstanding', 'rpc': 'request and reply'}


def write(result: dict[str, Any], rows: Sequence[Row], folder: Path = FOLDER) -> list[Path]:
    """Write the tables of those parts that have been measured. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = _taken(result)
    texts: dict[str, str] = {}
    if 'compare' in result:
        texts['machine'] = f'{taken} {_versions(result["compare"])}'
        texts['streams'] = _compared(rows, 'canned', STREAMS)
        texts['round_trips'] = '\n\n'.join(
            f'{"Canned broker" if broker == "canned" else broker}:\n\n{_compared(rows, broker, ROUND_TRIPS)}'
            for broker in dict.fromkeys(row.broker for row in rows)
        )
    if 'growth' in result:
        texts['growth'] = f'{taken}\n\n{_growth(result["growth"])}'
    if 'latency' in result:
        tables = [_latency(result['latency'], tls) for tls in (False, True)]
        texts['latency'] = '\n\n'.join([taken, *tables])
    paths = []
    for name, text in texts.items():
        path = folder / f'{name}.inc'
        path.write_text(text + '\n', encoding='utf-8')
        paths.append(path)
    return paths


def _taken(result: dict[str, Any]) -> str:
    """When, how and where, in a sentence."""
    machine = result['machine']
    return (
        f'Taken on {machine["date"]} by ``{result["command"]}``: {machine["processor"]}, '
        f'{machine["processors"]} processors, {machine["system"]}, Python {machine["python"]}, '
        f'load {machine["load"][0]} at the beginning.'
    )


def _versions(compared: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for peer, version in compared['versions'].items():
        versions.setdefault(CLIENTS[peer].partition(',')[0].partition(' under')[0], version)
    text = ', '.join(f'{client} {version}' for client, version in versions.items()) + '.'
    if compared['skipped']:
        absent = '; '.join(f'{CLIENTS[peer]} ({why})' for peer, why in compared['skipped'].items())
        text += f' Not there: {absent}.'
    return text


def _list_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = ['.. list-table::', '   :header-rows: 1', '']
    for cells in (head, *body):
        for place, cell in enumerate(cells):
            lines.append(f'   {"  " if place else "* "}- {cell}'.rstrip())
    return '\n'.join(lines)


def _compared(rows: Sequence[Row], broker: str, jobs: dict[str, str]) -> str:
    cells = {(row.peer, row.job): row for row in rows if row.broker == broker}
    body = []
    for peer, title in CLIENTS.items():
        line = [cells.get((peer, job)) for job in jobs]
        if any(line):
            body.append([title, *('' if row is None else f'{number(row.rate)} ({number(row.cpu)})' for row in line)])
    return _list_table(['', *jobs.values()], body)


def _growth(points: list[dict[str, Any]]) -> str:
    tables = []
    for series, title in GROWTH.items():
        its = [point for point in points if point['series'] == series]
        costs = list(dict.fromkeys(key for point in its for key in point if key not in ('series', 'x', 'messages')))
        body = [[f'{point["x"]:,}', *(number(point[cost]) if cost in point else '' for cost in costs)] for point in its]
        heads = [f'memory, bytes {_of(series)}' if cost == 'bytes' else cost for cost in costs]
        tables.append(_list_table([title, *heads], body))
    return '\n\n'.join(tables)


def _of(series: str) -> str:
    return f'a {series[:-1]}'


def _latency(points: list[dict[str, Any]], tls: bool) -> str:
    body = []
    for point in points:
        if point['tls'] == tls:
            confirm, gap = point['confirm'], point['gap']
            durations = (confirm['median'], confirm['p99'], confirm['p99.9'], gap['p99.9'], gap['max'])
            body.append([LATENCY[point['setting']], *(duration(value / 1e3) for value in durations)])
    head = ['beside, with TLS' if tls else 'beside', 'confirm, median', '99 %', '99.9 %', 'hub held, 99.9 %', 'longest']
    return _list_table(head, body)
