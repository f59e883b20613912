"""The scripts that a newcomer runs first: what ./tests/run runs, and what it says where something is missing.

Each starts the real script; no broker and no package is needed for it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from gamqp import wire

ROOT = Path(__file__).parents[1]
BUILD = 'compiled' if wire.COMPILED else 'pure'
PYTEST = ROOT / '.venv' / BUILD / 'bin' / 'pytest'

pytestmark = [
    pytest.mark.skipif(sys.platform != 'linux', reason='the scripts are for Linux'),
    pytest.mark.skipif(os.environ.get('GAMQP_TEST_GREEN') == 'eventlet', reason='once is enough'),
]
HEADER = Path(sysconfig.get_paths()['include'], 'Python.h')
needs_environment = pytest.mark.skipif(not PYTEST.exists(), reason=f'no {PYTEST}: not run by ./tests/run')

SAMPLE = """
import pytest


def test_plain():
    pass


@pytest.mark.real_seconds
def test_clock():
    pass


@pytest.mark.slow
def test_long():
    pass


@pytest.mark.slow
@pytest.mark.real_seconds
def test_long_clock():
    pass
"""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Tests of each kind, in a place of their own that has the hooks of this project's tests."""
    path = tmp_path / 'tests' / 'test_sample.py'
    path.parent.mkdir()
    path.write_text(SAMPLE)
    (path.parent / 'conftest.py').write_text((ROOT / 'tests' / 'conftest.py').read_text())
    return path


# pytest's: our configuration for tests that are elsewhere, and nobody's cache.
OPTIONS = ('-c', ROOT / 'setup.cfg', '-o', 'cache_dir=/tmp/gamqp-test-run', '-v', '-n', '0')
NEITHER = {'GAMQP_TEST_NODES': '[]', 'GAMQP_TEST_GREEN': 'gevent', 'GAMQP_TEST_SLOW': '0'}
HELP = (
    '--quick',
    '--all',
    '--sanitize',
    'GAMQP_CYTHON',
    'GAMQP_TEST_GREEN',
    'GAMQP_TEST_RABBITMQ',
    'AMQP_URL',
    'PYTHON',
    'Exit status',
)


def passes(*arguments: str | Path, **environment: str) -> tuple[int, list[str], str]:
    """Run the second half of ./tests/run, which begins when the brokers are there.

    Returns its status, the tests in the order in which they ran, and its last line.
    """
    done = subprocess.run(
        [ROOT / 'tests' / 'run', '--passes', BUILD, *OPTIONS, *arguments],
        env={**os.environ, **NEITHER, **environment},
        capture_output=True,
        text=True,
        timeout=150,
    )
    ran = re.findall(r'::(test_\w+) (?:PASSED|FAILED)', done.stdout)
    return done.returncode, ran, done.stderr.strip().splitlines()[-1]


@needs_environment
@pytest.mark.parametrize(
    ('arguments', 'slow', 'expected'),
    [
        ((), '0', ['plain', 'clock']),
        pytest.param((), '1', ['plain', 'long', 'clock', 'long_clock'], marks=pytest.mark.slow),
        pytest.param(('-k', 'clock'), '0', ['clock'], marks=pytest.mark.slow),
        pytest.param(('-k', 'plain'), '0', ['plain'], marks=pytest.mark.slow),
        (('-m', 'slow'), '0', ['long', 'long_clock']),
    ],
)
def test_what_is_run(sample: Path, arguments: tuple[str, ...], slow: str, expected: list[str]) -> None:
    status, ran, summary = passes(sample, *arguments, GAMQP_TEST_SLOW=slow)
    assert (status, ran) == (0, [f'test_{name}' for name in expected]), summary
    assert ('gevent passed' in summary) == any('clock' not in name for name in expected)
    assert ('gevent one at a time passed' in summary) == any('clock' in name for name in expected)


@needs_environment
def test_a_long_test_that_is_named_is_run(sample: Path) -> None:
    assert passes(f'{sample}::test_long')[:2] == (0, ['test_long'])


@needs_environment
def test_each_pass_has_a_report_of_its_own(sample: Path, tmp_path: Path) -> None:
    assert passes(sample, f'--junitxml={tmp_path}/x.xml')[0] == 0
    reports = {path.name: path.read_text() for path in tmp_path.glob('*.xml')}
    assert set(reports) == {'x.gevent.together.xml', 'x.gevent.alone.xml'}
    assert 'test_plain' in reports['x.gevent.together.xml']
    assert 'test_clock' in reports['x.gevent.alone.xml']


@needs_environment
def test_what_has_no_test_that_runs_alone_is_not_read_for_that_half(sample: Path) -> None:
    other = sample.with_name('test_other.py')
    other.write_text(
        'import os, pathlib\n\npathlib.Path(__file__).with_suffix("." + os.environ["GAMQP_TEST_PART"]).touch()'
    )
    assert passes(sample.parent)[:2] == (0, ['test_plain', 'test_clock'])
    assert {path.name for path in sample.parent.glob('test_other.*')} == {'test_other.py', 'test_other.together'}


@needs_environment
def test_nothing_selected_is_no_success(sample: Path) -> None:
    status, ran, summary = passes(sample, '-k', 'nonsense')
    assert (status, ran) == (5, [])
    assert 'no test was selected' in summary


@needs_environment
@pytest.mark.parametrize(
    ('name', 'stop'),
    [
        pytest.param('test_plain', (), marks=pytest.mark.slow),
        ('test_plain', ('-x',)),
        pytest.param('test_clock', (), marks=pytest.mark.slow),
        pytest.param('test_clock', ('-x',), marks=pytest.mark.slow),
    ],
)
def test_a_failure_in_either_half_fails_the_run(sample: Path, name: str, stop: tuple[str, ...]) -> None:
    sample.write_text(SAMPLE.replace(f'def {name}():\n    pass', f'def {name}():\n    assert False'))
    status, ran, summary = passes(sample, *stop)
    assert status == 1
    assert 'FAILED (status 1)' in summary
    assert ran == (['test_plain'] if stop and name == 'test_plain' else ['test_plain', 'test_clock'])


def run(*command: str | Path, tools: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of ours, where of all programs only those in *tools* are there, and those of every system."""
    path = os.environ['PATH'] if tools is None else str(tools)
    return subprocess.run(
        [*map(str, command)],
        env={**os.environ, 'PATH': path, 'AMQP_URL': ''} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_help_says_what_there_is() -> None:
    done = run(ROOT / 'tests' / 'run', '--help')
    assert done.returncode == 0
    for word in HELP:
        assert word in done.stdout
    assert '#' not in done.stdout


@pytest.mark.parametrize(
    ('name', 'value'), [('GAMQP_CYTHON', '2'), ('GAMQP_TEST_GREEN', 'asyncio'), ('GAMQP_TEST_RABBITMQ', '2.8')]
)
def test_a_wrong_choice_is_refused_before_anything_is_built(name: str, value: str) -> None:
    done = run(ROOT / 'tests' / 'run', '--all', **{name: value})
    assert done.returncode == 3
    assert value in done.stderr
    assert 'setup' not in done.stderr and 'starting' not in done.stderr


# -- a machine of which we say what it has ---------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The programs of every system, without compiler and package manager, and no way to become root."""
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in ('bash', 'env', 'dirname', 'basename', 'mktemp', 'rm', 'tail', 'cat', 'sh', 'sleep', 'id', 'sed'):
        found = next(Path(place, name) for place in os.environ['PATH'].split(':') if Path(place, name).exists())
        (tools / name).symlink_to(found)
    (tools / 'python3').symlink_to(sys.executable)
    return tools


def script(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)


def test_what_cannot_be_installed_is_said_before_anything_is_built(tools: Path) -> None:
    done = run(ROOT / 'tests' / 'run', tools=tools, GAMQP_CYTHON='1', PYTHON=sys.executable)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: GAMQP_CYTHON=1, but there is no C compiler')


@pytest.mark.parametrize(
    ('environment', 'reason'),
    [
        ({'GAMQP_CYTHON': '0'}, '--sanitize is for the compiled build'),
        pytest.param(
            {'CC': 'plain-cc', 'GAMQP_CYTHON': '1'},
            'plain-cc has no address and undefined-behaviour sanitizers',
            marks=pytest.mark.skipif(not HEADER.exists(), reason='no Python.h: it would be installed'),
        ),
    ],
)
def test_no_sanitizers_are_said_before_anything_is_built(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    script(
        tmp_path / 'plain-cc',
        'cat >/dev/null; case "$*" in *-fsanitize*) exit 1;; esac; while [ $# -gt 1 ]; do shift; done; : >"$1"',
    )
    script(tmp_path / 'apt-get', 'exit 100')  # nothing is to be installed for this
    environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': sys.executable, **environment}
    done = run(ROOT / 'tests' / 'run', '--sanitize', **environment)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: {reason}')


@pytest.mark.parametrize('broken', ['update', 'install'])
def test_a_package_that_cannot_be_installed_is_said_with_its_reason(tools: Path, broken: str) -> None:
    script(tools / 'id', 'echo 0')
    script(tools / 'apt-get', f'case "$*" in *{broken}*) echo "no such mirror"; exit 100;; esac')
    done = run(ROOT / 'tests' / 'run', tools=tools, GAMQP_CYTHON='1', PYTHON=sys.executable)
    assert done.returncode == 3
    assert 'no such mirror' in done.stderr
    assert 'apt-get could not install gcc' in done.stderr


def test_an_interrupt_during_an_installation_ends_the_script_with_one_line(tools: Path, tmp_path: Path) -> None:
    """apt-get, as many programs, takes the signal for a failure of its own."""
    script(tools / 'id', 'echo 0')
    begun = tmp_path / 'begun'
    script(tools / 'apt-get', f"trap 'echo half of it; exit 100' INT; : >{begun}; while :; do sleep 0.1; done")
    process = subprocess.Popen(
        [ROOT / 'tests' / 'run'],
        env={**os.environ, 'PATH': str(tools), 'AMQP_URL': '', 'PYTHON': sys.executable, 'GAMQP_CYTHON': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as at a terminal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not begun.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert (out, err.splitlines()) == ('', ['setup: installing gcc libc6-dev python3-dev (apt-get)', 'interrupted'])
