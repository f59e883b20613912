"""Celery's programs as processes of their own: workers, beat and clients of the application ``programs/celery_app.py``.

Also what other tests with a worker need: a process with its log, and a task as Celery writes it. What must not
enter: kombu, Celery and amqp, which belong into those processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlets

import gamqp

PROGRAMS = Path(__file__).parent / 'programs'
CELERY = ('-m', 'celery')
PATIENCE = 150  # seconds for a worker to start and to do its tasks; it takes five


class Command:
    """A process under way, with its log."""

    def __init__(self, process: Any, log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace')

    def check_running(self) -> None:
        assert self.process.poll() is None, f'it has ended:\n{self.log()[-4000:]}'

    def wait_for_log(self, *words: str) -> None:
        """Wait until all these words were logged."""

        def said() -> bool:
            self.check_running()
            return all(word in self.log() for word in words)

        try:
            greenlets.wait_until(said, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f'{words} was not logged:\n{self.log()[-4000:]}') from error

    def signal(self, number: int) -> None:
        """Send a signal to the process that was started, not to its children."""
        self.process.send_signal(number)

    def wait_for_end(self) -> int:
        greenlets.wait_until(lambda: self.process.poll() is not None, PATIENCE)
        return int(self.process.returncode)


@contextlib.contextmanager
def started(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[Command]:
    """Python with these arguments, in the folder of its log; whatever is left of it at the end is killed."""
    with log.open('wb') as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=log.parent,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield Command(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def task_message(task: str, *arguments: Any, eta: str | None = None) -> gamqp.Message:
    """A call of a task as Celery writes it. eta: when it is due, in ISO 8601; None for now."""
    number = str(uuid.uuid4())
    embed = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}
    headers = {'lang': 'py', 'task': task, 'id': number, 'root_id': number, 'eta': eta, 'retries': 0}
    return gamqp.Message(
        json.dumps([arguments, {}, embed]),
        content_type='application/json',
        content_encoding='utf-8',
        correlation_id=number,
        delivery_mode=2,
        application_headers=headers,
    )


class Application:
    """The application with its settings; each command of it gets them by its environment."""

    def __init__(self, broker: str, queue: str, folder: Path, backend: str = 'rpc://', **config: Any) -> None:
        self.broker = broker
        self.queue = queue
        self.folder = folder
        self._count = 0
        self.environment = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join([*filter(None, sys.path), str(PROGRAMS)]),
            'PYTHONWARNINGS': 'ignore',
            'BROKER': broker,
            'BACKEND': backend,
            'QUEUE': queue,
            'CONFIG': json.dumps(config),
        }

    @contextlib.contextmanager
    def command(self, *arguments: str, program: tuple[str, ...] = CELERY) -> Iterator[Command]:
        """``celery -A celery_app …``."""
        self._count += 1
        log = self.folder / f'log.{self._count}'
        with started([*program, '-A', 'celery_app', *arguments], self.environment, log) as command:
            yield command

    @contextlib.contextmanager
    def worker(self, *arguments: str, program: tuple[str, ...] = CELERY) -> Iterator[Command]:
        """A worker that is ready."""
        with self.command('worker', '-l', 'INFO', '-n', self.queue, *arguments, program=program) as worker:
            worker.wait_for_log(' ready.')
            yield worker

    def client(self, *wanted: str) -> dict[str, str]:
        """Run ``celery_client.py``. Returns what went wrong, by scenario."""
        arguments = [sys.executable, str(PROGRAMS / 'celery_client.py'), greenlets.GREEN, str(self.folder), *wanted]
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, timeout=4 * PATIENCE)
        said = {name: wrong for name, wrong, _ in map(json.loads, done.stdout.splitlines())}
        assert said, done.stderr
        return {name: wrong for name, wrong in said.items() if wrong}

    # -- tasks, without a client of Celery -----------------------------------------------------

    def note(self, file: str, lines: str, seconds: float = 0) -> None:
        """Send a task ``note`` for each of these words; the queue must be there."""
        with gamqp.connect(self.broker) as connection:
            channel = connection.channel()
            for line in lines.split():
                message = task_message('note', str(self.folder / file), line, seconds)
                channel.basic_publish(message, '', self.queue)
            connection.flush(30)

    def noted(self, file: str) -> list[str]:
        """The lines that tasks ``note`` have written there: 'begun word', and then 'done word'."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / file).read_text(encoding='utf-8').splitlines()
        return []

    def ready(self) -> int:
        """How many tasks are in the queue, and with no worker."""
        with gamqp.connect(self.broker) as connection:
            return int(connection.channel().queue_declare(self.queue, passive=True).message_count)
