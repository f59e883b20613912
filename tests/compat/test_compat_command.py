"""``python -m gamqp``, and its command ``celery``."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import greenlets
import pytest
from celery_processes import PATIENCE, Application
from installed import is_installed

import gamqp
from gamqp import __main__

CELERY = ('-m', 'gamqp', 'celery')


def command(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, '-c', 'import sys; sys.path[:0] = sys.argv.pop().split(":"); from gamqp.__main__ import main; '
         'sys.exit(main(sys.argv[1:]))', *arguments, ':'.join(sys.path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(['--version']) == 0
    assert capsys.readouterr().out == f'gamqp {gamqp.__version__}\n'
    assert __main__.main(['--help']) == 0
    text = capsys.readouterr().out
    assert text.startswith('usage: python -m gamqp COMMAND') and 'celery' in text
    assert __main__.main(['help']) == 0 and capsys.readouterr().out == text
    assert 'Example:' in text and 'AMQP_URL' in text
    for wrong in ([], ['--no-such-option']):
        assert __main__.main(wrong) == 64
        assert capsys.readouterr().err == text
    assert __main__.main(['comsume', 'jobs']) == 64
    assert capsys.readouterr().err == "gamqp: there is no command 'comsume'; did you mean consume?\n"
    assert __main__.main(['x']) == 64
    assert capsys.readouterr().err.startswith("gamqp: there is no command 'x'; there are check, publish, ")


def test_help_of_celery_begins_with_what_is_different_here() -> None:
    status, printed, errors = command('celery', '--help')
    assert (status, errors) == (0, '') and 'Example:\n\n    gamqp celery -A my_app worker' in printed
    assert not is_installed('celery') or 'worker' in printed.partition('Commands:')[2]


@pytest.mark.parametrize('arguments', [('multi', 'start', 'w1'), ('worker', '--detach'), ('-A', 'app', 'worker', '-D')])
def test_what_starts_processes_without_gamqp_is_refused(arguments: tuple[str, ...]) -> None:
    status, _, errors = command('celery', *arguments)
    assert status == 1
    assert 'without gamqp' in errors and 'gamqp.kombu:Transport' in errors


@pytest.mark.any_broker
@pytest.mark.slow
@pytest.mark.limit(4 * PATIENCE)
@pytest.mark.skipif(not is_installed('celery'), reason='Celery is not installed')
def test_the_celery_command_with_gamqp_in_place_of_amqp(rabbit: Any, tmp_path: Path) -> None:
    """A worker whose application says nothing of gamqp, and imports amqp itself."""
    app = Application(rabbit.url, f'celery.{uuid.uuid4()}', tmp_path, broker_transport=None)
    with app.worker('-P', greenlets.GREEN, '-c', '10', program=CELERY) as worker:
        wrong = app.client('worker_and_client_are_on_gamqp', 'the_default_options_do_not_hold_a_worker_up')
        assert list(wrong) == ['worker_and_client_are_on_gamqp'], wrong
        assert "'amqp': 'gamqp'" in wrong['worker_and_client_are_on_gamqp'], wrong
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]
    with rabbit.connect() as connection:
        connection.channel().queue_delete(app.queue)
