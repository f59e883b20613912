"""The benchmark's command line: see ``./tests/bench/run --help``.

Does not belong here: how anything is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench_page
import bench_peers
import bench_report
import growth
import latency
from bench_runs import JOBS, CannotRun, canned_broker, compare, echo_server, program, say

__all__ = ('main',)

PARTS = ('compare', 'growth', 'latency')

#: Messages of a job with --small.
SMALL = 20

HELP = """\
Measures gamqp beside other clients, how its costs grow, and its latency under load. Parts:

  compare   the same work with each client, in processes of their own, in alternating rounds
  growth    gamqp's costs with the number of consumers, channels, greenlets, headers, and the size of messages
  latency   the hub's longest gap, and percentiles of a confirm, beside a flood, idle consumers, with TLS
"""


def names(text: str, known: tuple[str, ...]) -> list[str]:
    """The names of a list with commas, all of them known."""
    found = text.split(',')
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f'{name!r} is none of: {", ".join(known)}')
    return found


def arguments(given: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog='tests/bench/run', description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('parts', nargs='*', metavar='PART', help='compare, growth, latency (default: compare)')
    parser.add_argument(
        '--jobs', type=lambda text: names(text, tuple(JOBS)), default=list(JOBS), help=f'of {",".join(JOBS)}'
    )
    parser.add_argument(
        '--peers',
        type=lambda text: names(text, bench_peers.NAMES),
        default=list(bench_peers.NAMES),
        help=f'of {",".join(bench_peers.NAMES)}',
    )
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='of compare (5)')
    parser.add_argument('--seconds', type=float, default=1.0, metavar='S', help='that a job takes, about (1)')
    parser.add_argument(
        '--broker',
        choices=('canned', 'rabbitmq', 'both'),
        help='of compare; a real one does what has round trips (default: both, where there is a RabbitMQ)',
    )
    parser.add_argument('--json', metavar='FILE', help='write all figures there; - for stdout, instead of tables')
    parser.add_argument('--plot', metavar='FOLDER', help='draw the figures of growth into it (needs matplotlib)')
    parser.add_argument(
        '--page', action='store_true', help='into the page Performance of docs/, all parts if none is named'
    )
    parser.add_argument('--small', action='store_true', help='tiny numbers: only to see that everything runs')
    parser.add_argument('--others-python', default=sys.executable, metavar='FILE', help=argparse.SUPPRESS)
    parser.add_argument('--programs', metavar='FOLDER', help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f'{part!r} is none of: {", ".join(PARTS)}')
    options.others_python = os.path.abspath(options.others_python)
    options.parts = options.parts or (list(PARTS) if options.page else ['compare'])
    if options.broker == 'rabbitmq' and not os.environ.get('AMQP_URL'):
        parser.error('--broker rabbitmq needs a RabbitMQ, and none is here')
    return options


def command(given: list[str]) -> str:
    """What makes the figures: without what ``run`` adds, and where they are written."""
    words, kept = iter(given), ['./tests/bench/run']
    for word in words:
        if word in ('--others-python', '--programs', '--json', '--plot'):
            next(words)
        else:
            kept.append(word)
    return ' '.join(kept)


def run_compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The part compare. Returns its figures."""
    peers, absent = bench_peers.find(options.peers, sys.executable, options.others_python, folder)
    for name, why in absent.items():
        say(f'skipped: {name}: {why}')
    jobs = [JOBS[name] for name in options.jobs]
    url = os.environ.get('AMQP_URL')
    broker = options.broker or ('both' if url else 'canned')
    with contextlib.ExitStack() as stack:
        brokers = {}
        if broker != 'rabbitmq':
            brokers['canned'] = stack.enter_context(canned_broker())
        if broker != 'canned' and url:
            brokers[f'RabbitMQ {version_of(url)}'] = url
            stack.enter_context(echo_server(sys.executable, url))
        elif broker == 'both':
            say('skipped: RabbitMQ: there is none here')
        figures, failures = compare(
            peers, jobs, brokers, options.rounds, options.seconds, SMALL if options.small else 0
        )
    versions = {one['peer']: one['version'] for one in figures if one['version']}
    return {'skipped': absent, 'failed': failures, 'versions': versions, 'runs': figures}


def version_of(url: str) -> str:
    """Of a broker."""
    import gamqp  # not at the top: --help is to need nothing

    with gamqp.connect(url) as connection:
        return str((connection.server_properties or {}).get('version', ''))


def main(given: list[str]) -> int:
    """Measure, print, write. Returns the exit status: 1 where something that is here failed."""
    options = arguments(given)
    result: dict[str, Any] = {'machine': bench_report.machine(), 'command': command(given)}
    failed = False
    with tempfile.TemporaryDirectory(prefix='gamqp-bench-') as scratch:
        folder = Path(options.programs or scratch)
        for part in options.parts:
            say(f'{part}:')
            if part == 'compare':
                result[part] = run_compare(options, folder)
                failed = failed or bool(result[part]['failed'])
            else:
                module = growth if part == 'growth' else latency
                try:
                    result[part] = module.measure(options.small)
                except CannotRun as error:
                    say(f'FAILED: {part}: {error}')
                    failed = True
    found = bench_report.rows(result['compare']['runs']) if 'compare' in result else []
    result['medians'] = [dataclasses.asdict(row) for row in found]
    if options.json:
        text = json.dumps(result, indent=1)
        if options.json == '-':
            print(text)
        else:
            Path(options.json).write_text(text + '\n', encoding='utf-8')
    if options.json != '-':
        show(result, found)
    if options.page and failed:
        say('the page is left as it was')
    elif options.page:
        bench_page.write(result, found)
    plots = bench_page.FOLDER if options.page and not failed else options.plot and Path(options.plot)
    if plots:
        failed = not draw(result, plots, options.others_python) or failed
    return int(failed)


def draw(result: dict[str, Any], folder: Path, python: str) -> bool:
    """Have the pictures drawn by the Python that has matplotlib. Returns whether they were."""
    with tempfile.NamedTemporaryFile('w', suffix='.json', encoding='utf-8') as file:
        json.dump(result, file)
        file.flush()
        try:
            program([python, str(Path(__file__).with_name('bench_plots.py')), file.name, str(folder)])
        except CannotRun as error:
            say(f'FAILED: the pictures: {error}')
            return False
    return True


def show(result: dict[str, Any], found: list[bench_report.Row]) -> None:
    """The tables, on stdout."""
    if found:
        print(bench_report.table(found, JOBS))
    if 'growth' in result:
        print(growth.table(result['growth']))
    if 'latency' in result:
        print(latency.table(result['latency']))


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
