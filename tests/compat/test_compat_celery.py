"""Real Celery workers on gamqp by install_as_amqp, each a process of its own.

The prefork, solo and threads pools run kombu's event loop, which knows nothing of our hub; the pools of gevent
and eventlet run a loop over drain_events.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from celery_processes import PATIENCE, started, task_message
from installed import is_installed
from node import Node

import gamqp

PROGRAM = Path(__file__).parent / 'programs' / 'celery_worker.py'

pytestmark = [
    pytest.mark.skipif(not is_installed('celery'), reason='Celery is not installed'),
    pytest.mark.limit(4 * PATIENCE),
]


class Worker:
    """A worker under way, and its tasks."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.queue = f'celery.{uuid.uuid4()}'
        self.file = folder / 'done'
        self.file.touch()

    @contextlib.contextmanager
    def running(self, pool: str, concurrency: int) -> Iterator[None]:
        arguments = [str(PROGRAM), pool, str(concurrency), self.url, self.queue, str(self.file)]
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'PYTHONWARNINGS': 'ignore'}
        with started(arguments, environment, self.file.with_name('log')) as self._command:
            yield

    def publish(self, channel: gamqp.Channel, line: str, pause: float = 0, countdown: float | None = None) -> None:
        eta = None
        if countdown is not None:
            eta = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=countdown)).isoformat()
        channel.basic_publish(task_message('note', line, pause, eta=eta), '', self.queue)

    def done(self) -> set[str]:
        return set(self.file.read_text(encoding='utf-8').split())

    def wait_for(self, lines: set[str], what: str) -> None:
        def come() -> bool:
            self._command.check_running()
            return lines <= self.done()

        try:
            greenlets.wait_until(come, PATIENCE)
        except AssertionError as error:
            done = len(lines & self.done())
            log = self._command.log()[-4000:]
            raise AssertionError(f'{what}: {done} of {len(lines)} tasks done\n{log}') from error


@pytest.mark.parametrize('pool', ['solo', 'prefork', 'threads'])
@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the worker is not patched: once is enough')
def test_a_worker_with_a_loop_of_its_own_does_all_tasks(rabbit: Any, tmp_path: Path, pool: str) -> None:
    """Ten for later, ten for now. What comes while the worker waits for a reply is no more input of its socket."""
    worker = Worker(rabbit.url, tmp_path)
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(worker.queue, durable=True, auto_delete=False)
        for number in range(10):
            worker.publish(channel, f'later{number}', countdown=0.1 * number)
            worker.publish(channel, f'now{number}')
        connection.flush(30)
        with worker.running(pool, 2):
            worker.wait_for({f'{kind}{number}' for kind in ('later', 'now') for number in range(10)}, pool)
        channel.queue_delete(worker.queue)


@pytest.mark.slow
def test_a_worker_of_greenlets_goes_on_after_each_loss(own_node: Node, tmp_path: Path) -> None:
    """Its loop must hear of each loss: otherwise kombu reconnects in silence and nobody consumes any more."""
    worker = Worker(own_node.url(), tmp_path)
    with gamqp.connect(own_node.url()) as connection:
        connection.channel().queue_declare(worker.queue, durable=True, auto_delete=False)
    with worker.running(greenlets.GREEN, 200):
        for number in range(4):
            lines = {f'{number}.{task}' for task in range(300)}
            with gamqp.connect(own_node.url()) as connection:
                channel = connection.channel()
                for line in lines:
                    worker.publish(channel, line, pause=0.02)
                connection.flush(30)
            # In the midst of it: some are done, most are not.
            greenlets.wait_until(lambda lines=lines: lines & worker.done(), PATIENCE)
            if number < 3:
                own_node.close_connections('/')
            worker.wait_for(lines, f'after {number + 1} losses')
    with gamqp.connect(own_node.url()) as connection:
        connection.channel().queue_delete(worker.queue)
