"""What all commands have in common: help, exit codes, no password in any output."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from commands import PATIENCE, finished, gamqp, started

from gamqp import __main__
from gamqp.cli import parser
from gamqp.cli.redaction import redacted

OWN = sorted(set(__main__.COMMANDS) - {'celery'})
SECRET = 'p4ss-w0rd'


@pytest.mark.parametrize('name', OWN)
def test_help_shows_an_example_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([name, '--help']) == 0
    text = capsys.readouterr().out
    assert f'usage: gamqp {name}' in text
    assert f'Example:\n\n    gamqp {name} ' in text
    assert 'Exit codes: 0 done, 1 failed' in text


def test_no_help_loads_what_only_a_running_command_needs() -> None:
    program = (
        'import sys; sys.path[:0] = sys.argv.pop().split(":"); from gamqp.__main__ import main, COMMANDS\n'
        'for name in COMMANDS: name == "celery" or main([name, "--help"])\n'
        'print([one for one in sys.argv[1:] if one in sys.modules], file=sys.stderr)'
    )
    heavy = (
        'gevent',
        'eventlet',
        'gamqp.testing',
        'gamqp.kombu',
        'celery',
        'matplotlib',
        'yaml',
        'cryptography',
        'rich',
    )
    path = ':'.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, '-c', program, *heavy, path], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, '[]\n')


@pytest.mark.any_broker
def test_of_several_urls_the_first_that_answers_is_used(rabbit: Any) -> None:
    dead, queue = 'amqp://127.0.0.1:1', ('declare', 'queue', 'no.such.queue', '--passive')
    assert gamqp(*queue, '--url', dead, '--url', rabbit.url).code == 2
    assert gamqp(*queue, url=f'{dead} {rabbit.url}').code == 2
    done = gamqp(*queue, url=f'amqp://app:{SECRET}@127.0.0.1:2, {dead}')
    assert done.code == 1 and '127.0.0.1:1' in done.err and '127.0.0.1:2' in done.err and SECRET not in done.err


@pytest.mark.parametrize(('environment', 'coloured'), [({'TERM': 'xterm'}, True), ({'NO_COLOR': '1'}, False)])
def test_colours_on_a_terminal_unless_no_color_is_set(environment: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        usual = {'NO_COLOR': '', 'TERM': 'xterm'}
        with started('check', 'amqp://127.0.0.1:1', stdout=theirs, env={**usual, **environment}) as process:
            finished(process)
        text = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert 'FAILED' in text and ('\033[31m' in text) is coloured
    assert '\033' not in gamqp('check', 'amqp://127.0.0.1:1').out


@pytest.mark.parametrize('name', OWN)
def test_wrong_usage_is_64_and_quotes_no_url(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([name, '--no-such-option', f'amqp://app:{SECRET}/more@host', '--url']) == 64
    done = capsys.readouterr()
    assert not done.out and f'gamqp {name}: ' in done.err and SECRET not in done.err and 'more' not in done.err


@pytest.mark.parametrize(
    'url', [f'amqp://app:{SECRET}/more@host', f'amqp://app:{SECRET}@host:no', f'http://app:{SECRET}@host']
)
def test_a_url_that_cannot_be_understood_is_64_and_is_not_quoted(url: str) -> None:
    done = gamqp('check', '--debug', url)
    assert done.code == 64 and done.out == '' and SECRET not in done.err and 'more' not in done.err
    assert 'AMQP URI' in done.err


def test_no_url_at_all_is_localhost_and_the_command_says_so() -> None:
    done = gamqp('check', '--json', '--timeout', '2', url='')
    assert done.lines[0]['broker'] == 'localhost'


def test_who_reads_only_the_first_line_ends_the_command_cleanly() -> None:
    with started('check', '--json', '--timeout', '2', 'amqp://127.0.0.1:1', url='') as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b''
        assert process.wait(120) == 0


@pytest.mark.parametrize(
    ('text', 'value'), [('1', 1.0), ('200ms', 0.2), ('1.5s', 1.5), ('5m', 300.0), ('2h', 7200.0), ('1d', 86400.0)]
)
def test_durations(text: str, value: float) -> None:
    assert parser.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize('text', ['', '0', '-1', 'x', '1x', '1e9', '\u0661', 'inf', 'nan', '1 2'])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(parser.argparse.ArgumentTypeError, match='duration'):
        parser.seconds(text)


@pytest.mark.parametrize(('text', 'value'), [('0', 0), ('1000', 1000), ('4k', 4096), ('1.5k', 1536), ('2m', 2 << 20)])
def test_sizes(text: str, value: int) -> None:
    assert parser.size(text) == value


def test_what_looks_like_a_url_is_cut_out() -> None:
    assert redacted(f'to amqp://u:{SECRET}/x@h:1 and AMQPS://{SECRET}') == 'to amqp://… and AMQPS://…'
    assert redacted(f"amqp://'{SECRET} amqp://{SECRET}'") == 'amqp://… amqp://…'
    for text in (
        'host broker:5672, user app',
        'use amqps:// (the certificate is verified)',
        "it begins with 'amqp://' or 'amqps://'",
    ):
        assert redacted(text) == text


def test_the_script_is_the_same_command() -> None:
    script = os.path.join(os.path.dirname(sys.executable), 'gamqp')
    if not os.path.exists(script):
        pytest.skip('gamqp is not installed')
    done = subprocess.run([script, '--version'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith('gamqp ')


def test_help_into_a_pipe_that_nobody_reads_is_no_error() -> None:
    with started('perf', '--help', url='') as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b''
        assert process.wait(120) == 0


@pytest.mark.slow
def test_no_command_shows_a_password_whatever_is_wrong() -> None:
    """Nothing listens there; the traceback of --debug has no password either."""
    for name in OWN:
        if name == 'broker':  # it connects to none
            continue
        arguments = {
            'check': (),
            'publish': ('q', '-b', 'x'),
            'rpc': ('q', '-b', 'x'),
            'move': ('q', 'p'),
            'declare': ('queue', 'q'),
            'delete': ('queue', 'q'),
            'bind': ('a', 'b'),
            'replay': ('/',),
            'topology': ('/dev/null',),
            'perf': (),
        }.get(name, ('q',))
        done = gamqp(name, *arguments, '--debug', '--timeout', '5', '--url', f'amqp://app:{SECRET}@127.0.0.1:1')
        assert done.code == 1 and SECRET not in done.out + done.err, done
        assert 'refused' in done.out + done.err
