"""The examples, run as a user runs them, and what they say about themselves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import greenlets
import pytest
from broker_tools import has_consistent_hash, repeats
from program_output import printed_line

import gamqp

EXAMPLES = Path(__file__).parents[2] / 'examples'
PATIENCE = 150  # seconds; the longest takes ten

pytestmark = [
    pytest.mark.limit(120),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the examples are written for gevent'),
]


Start = Callable[..., 'subprocess.Popen[str]']


@pytest.fixture
def start(rabbit) -> Iterator[Start]:
    """Starts a program of examples/; what a test that failed left under way ends with it."""
    processes: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, 'AMQP_URL': rabbit.url, 'PYTHONPATH': str(Path(gamqp.__file__).parents[1])}
        processes.append(
            subprocess.Popen(
                [sys.executable, '-W', 'error', str(EXAMPLES / f'{name}.py'), *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        with process:  # which closes its pipes and waits for it
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    """What a program printed that ends well."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, out + err
    return out


def test_the_fanout_daemon_feeds_every_consumer_and_drains(start):
    count = repeats(1_000, 10_000)
    out = finish(start('fanout_daemon', f'--consumers={count}', '--idle=1', '--self-test'))
    assert f'{count:,} consumers on 100 queues' in out
    assert 'each consumer got one' in out
    assert 'all work finished' in out
    fed, handled, left = numbers(r'fed ([\d,]+) messages|handled ([\d,]+)|left in the queues ([\d,]+)', out)
    assert handled + left == fed


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_fanout_daemon(start, number):
    process = start('fanout_daemon', '--consumers=200', '--connections=2', '--queues=10')
    assert '200 consumers on 10 queues, 2 connections' in printed_line(process)
    process.send_signal(number)
    assert 'all work finished' in finish(process)


def test_the_stream_reader_goes_on_where_it_stopped(start):
    out = finish(start('stream_reader', '--self-test'))
    assert out.splitlines() == [
        'read 0 to 299, will go on at 300',
        'read 300 to 999',
        'found the end from the last chunk',
    ]


def test_the_kinds_of_consumers_do_what_they_say(start):
    assert finish(start('consumer_kinds')).splitlines() == [
        'priorities: 10 of 10 went to the preferred consumer',
        'exclusive: the second consumer was refused',
        'single_active: handled by the first, then by the second',
        'delivery_count: delivery counts [0, 1, 2, 3], then given up',
    ]


def test_the_example_of_the_readme_works_when_pasted(rabbit, start, tmp_path):
    text = (EXAMPLES.parent / 'README.rst').read_text(encoding='utf-8')
    block = text[text.index('    import gamqp\n') :].split('\n\n\n')[0].split('\nInstall')[0]
    program = tmp_path / 'pasted.py'
    program.write_text(textwrap.dedent(block).replace('amqp://guest:guest@localhost:5672', rabbit.url))
    assert finish(start(str(program.with_suffix('')))).split() == ['one', 'two', 'three']


def numbers(pattern: str, text: str) -> list[int]:
    found = [group for match in re.finditer(pattern, text) for group in match.groups() if group]
    return [int(one.replace(',', '')) for one in found]


def test_partitions_handle_the_orders_of_each_customer_in_order(rabbit, start):
    if rabbit.major < 4 and not has_consistent_hash(rabbit):
        pytest.skip('this broker has no x-consistent-hash')
    process = start('partitions', '0', '1', '100')
    handled: dict[str, list[int]] = {}
    lines = [printed_line(process) for _ in range(101)]
    lines.remove('member 0 of 1 is ready\n')  # while the first orders are already handled
    for line in lines:
        customer, _, order = line.partition(': order ')
        handled.setdefault(customer, []).append(int(order))
    assert len(handled) == 7
    assert all(numbers == sorted(numbers) for numbers in handled.values())
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 'handled 100\n'
