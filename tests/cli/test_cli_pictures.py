"""What commands show on a terminal: tables by rich where it is installed, and plain text where not."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installed import is_installed

from gamqp import testing
from gamqp.cli.check_report import Report
from gamqp.cli.output import Output
from gamqp.cli.perf_figures import Figures, as_table
from gamqp.cli.perf_run import show_total
from gamqp.cli.running import Stop
from gamqp.cli.topology_command import topology

COLUMNS = 60
LONG = 'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN, and more is in the log'
needs_rich = pytest.mark.skipif(not is_installed('rich'), reason='rich is not installed')


@contextlib.contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """stdout and stderr of this process are a terminal of 60 columns; the function returns what is on it so far."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, COLUMNS, 0, 0))
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    try:
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        yield lambda: seen(ours, theirs)
    finally:
        for descriptor, copy in enumerate(kept, 1):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(ours)
        os.close(theirs)


def seen(ours: int, theirs: int) -> str:
    """What is on a terminal; it arrives in pieces."""
    os.write(theirs, b'\0')
    text = b''
    while not text.endswith(b'\0'):
        text += os.read(ours, 100_000)
    return text[:-1].decode().replace('\r\n', '\n')


def bare(text: str) -> str:
    """Without colours, and without what only fills rows up."""
    return re.sub(r' +$', '', re.sub(r'\033\[[\d;]*m', '', text), flags=re.M)


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', str(COLUMNS))
    monkeypatch.delenv('NO_COLOR', raising=False)


@pytest.fixture(params=['not installed', 'NO_COLOR', 'a dumb terminal', 'no terminal'])
def plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each reason for which nothing is drawn."""
    if request.param == 'not installed':
        monkeypatch.setitem(sys.modules, 'rich.console', None)
    elif request.param == 'NO_COLOR':
        monkeypatch.setenv('NO_COLOR', '1')
    elif request.param == 'a dumb terminal':
        monkeypatch.setenv('TERM', 'dumb')
    return str(request.param)


def steps(output: Output) -> None:
    report = Report(output, 'broker:5672', False)
    report.add('name', 'ok', 'broker is 10.0.0.1')
    report.add('login', 'failed', LONG, 'is it [guest]?')


def test_check_in_plain_text(plain: str, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.nullcontext() if plain == 'no terminal' else terminal() as shown:
        steps(Output())
        text = capfd.readouterr().out if plain == 'no terminal' else shown()
    expected = f'ok      name          broker is 10.0.0.1\nFAILED  login         {LONG}\n{"":22}-> is it [guest]?\n'
    assert bare(text) == expected
    assert ('\033[31mFAILED' in text) is (plain == 'not installed')


@needs_rich
def test_check_in_columns() -> None:
    with terminal() as shown:
        steps(Output())
        text = shown()
    assert bare(text).splitlines() == [
        'ok      name          broker is 10.0.0.1',
        'FAILED  login         ACCESS_REFUSED - Login was refused',
        '                      using authentication mechanism PLAIN,',
        '                      and more is in the log',
        '                      -> is it [guest]?',
    ]
    assert '\033[31mFAILED' in text and '\033[32mok' in text


def figures() -> Figures:
    found = Figures(published=4000, received=4000)
    for value in (1000, 2000, 3000):
        found.latency.add(value)
    return found


def test_the_end_of_perf_in_plain_text(plain: str, capfd: pytest.CaptureFixture[str]) -> None:
    total = figures().for_programs(2.0)
    with contextlib.nullcontext() if plain == 'no terminal' else terminal() as shown:
        show_total(total, Output())
        text = capfd.readouterr().out if plain == 'no terminal' else shown()
    assert text == as_table(total) + '\n'


@needs_rich
def test_the_end_of_perf_in_tables() -> None:
    with terminal() as shown:
        show_total(figures().for_programs(2.0), Output())
        rows = [re.findall(r'[\w,.]+', line) for line in bare(shown()).splitlines()]
    assert [row for row in rows if row] == [
        ['count', 'a', 'second'],
        ['published', '4,000', '2,000.0'],
        ['received', '4,000', '2,000.0'],
        ['ms', 'min', 'median', 'p75', 'p95', 'p99', 'p99.9', 'max'],
        ['latency', '1.00', '2.00', '3.00', '3.00', '3.00', '3.00', '3.00'],
    ]


@pytest.mark.parametrize('drawn', [pytest.param(True, marks=needs_rich), False])
def test_a_live_line_fits_the_terminal_and_goes_before_the_table(drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not drawn:
        monkeypatch.setitem(sys.modules, 'rich.console', None)
    with terminal() as shown:
        output = Output()
        output.live(f'  1.0 s  published 4,000/s  latency p99 1.50 ms  {"x" * COLUMNS}')
        output.line('the table')
        text = shown()
    assert ('\033[1;36m4,000\033[0m' in text) is drawn and '\033[1;36m99' not in text
    live = bare(text).replace('\033[K', '').split('\r')
    assert live == ['', '  1.0 s  published 4,000/s  latency p99 1.50 ms  xxxxxxxxxx', 'the table\n']
    assert len(live[1]) == COLUMNS - 1


@pytest.mark.parametrize('drawn', [pytest.param(True, marks=needs_rich), False])
def test_a_topology(drawn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not drawn:
        monkeypatch.setitem(sys.modules, 'rich.console', None)
    file = tmp_path / 'topology.json'
    queue = {'name': 'jobs\033[2J', 'arguments': {'x-max-length': 5}}
    bindings = [{'source': 'amq.topic', 'destination': 'jobs\033[2J', 'routing_key': 'job.*'}]
    file.write_text(json.dumps({'queues': [queue], 'bindings': bindings}))
    options: Any = argparse.Namespace(
        file=str(file), check=False, management=None, timeout=None, url=[], program='topology'
    )
    with testing.Broker() as broker, terminal() as shown:
        options.url = [broker.url]
        assert topology(options, Output(quiet=True), Stop()) == 0
        text = shown()
    if drawn:
        assert bare(text).splitlines() == [
            'created queue    jobs\\x1b[2J',
            'bound   binding  amq.topic -> jobs\\x1b[2J  key "job.*"',
        ]
    else:
        assert [json.loads(line)['result'] for line in text.splitlines()] == ['created', 'bound']
