"""The programs of the documentation, run as a user runs them: docs/tutorials/ and those that other pages show."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from installed import is_installed
from program_output import printed_line

import gamqp

DOCS = Path(__file__).parents[2] / 'docs'
PATIENCE = 100  # seconds; each program takes a moment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.limit(120),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the programs of the documentation are for gevent'),
]


class Program:
    """A program of the documentation under way."""

    def __init__(self, url: str, name: str, *arguments: str, **more: str) -> None:
        environment = {**os.environ, 'AMQP_URL': url, 'PYTHONPATH': str(Path(gamqp.__file__).parents[1]), **more}
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'error', str(DOCS / f'{name}.py'), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """What it prints next."""
        return printed_line(self._process).rstrip('\n')

    def stop(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal, on which it must end well. Returns what it printed until then."""
        self._process.send_signal(number)
        return self.finish()

    def finish(self) -> str:
        out, err = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, out + err
        return out

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(rabbit: Any) -> Iterator[Callable[..., Program]]:
    """Starts programs; those that still run at the end are killed."""
    started: list[Program] = []

    def start(name: str, *arguments: str, url: str = rabbit.url, **more: str) -> Program:
        started.append(Program(url, name, *arguments, **more))
        return started[-1]

    yield start
    for program in started:
        program.kill()


@pytest.fixture
def tidy(channel: gamqp.Channel) -> Iterator[None]:
    """The queues of the programs are gone afterwards, and were before."""
    yield
    for queue in ('hello', 'tasks', 'factors', 'readings', 'jobs'):
        channel.queue_delete(queue)


Start = Callable[..., Program]
pytestmark.append(pytest.mark.usefixtures('tidy'))


def test_hello_world(start: Start) -> None:
    receiver = start('tutorials/hello_receive')
    assert receiver.line() == 'waiting for messages'
    assert start('tutorials/hello_send').finish() == 'sent\n'
    assert receiver.line() == 'received: Good morning!'
    assert receiver.stop() == ''


def test_work_queues(start: Start, channel: gamqp.Channel) -> None:
    first = start('tutorials/work_worker')
    assert first.line() == 'waiting for tasks'
    long = 'long' + '.' * 10_000
    assert start('tutorials/work_send', long, 'short.', 'last.').finish() == 'the broker has them\n'
    assert first.line() == f'begun: {long}'
    second = start('tutorials/work_worker')
    told = [second.line() for _ in range(5)]
    assert told == ['waiting for tasks', 'begun: short.', 'done: short.', 'begun: last.', 'done: last.']
    first.kill()
    assert second.line() == f'begun: {long}'  # what a worker had begun that died is done by another
    second.kill()
    third = start('tutorials/work_worker')
    assert [third.line(), third.line()] == ['waiting for tasks', f'begun: {long}']


def test_a_worker_finishes_its_task_when_it_is_to_end(start: Start, channel: gamqp.Channel) -> None:
    worker = start('tutorials/work_worker')
    assert worker.line() == 'waiting for tasks'
    start('tutorials/work_send', *['a task..'] * 50).finish()
    assert worker.line() == 'begun: a task..'
    said = ['begun: a task..', *worker.stop(signal.SIGTERM).splitlines()]
    assert said == ['begun: a task..', 'done: a task..'] * (len(said) // 2)
    left = channel.queue_declare('tasks', passive=True).message_count
    assert left == 50 - len(said) // 2  # what was not begun is still there
    assert left > 0


def test_publish_and_subscribe(start: Start) -> None:
    listeners = [start('tutorials/logs_receive') for _ in range(2)]
    assert [one.line() for one in listeners] == ['listening', 'listening']
    start('tutorials/logs_send', 'the', 'kettle', 'boils').finish()
    assert [one.line() for one in listeners] == ['the kettle boils', 'the kettle boils']
    assert [one.stop() for one in listeners] == ['', '']


def test_routing(start: Start) -> None:
    bad, all_ = start('tutorials/routing_receive', 'error'), start('tutorials/routing_receive', 'info', 'error')
    assert [bad.line(), all_.line()] == ['listening', 'listening']
    start('tutorials/routing_send', 'info', 'it is late').finish()
    start('tutorials/routing_send', 'error', 'the disk is full').finish()
    assert bad.line() == 'error: the disk is full'
    assert [all_.line(), all_.line()] == ['info: it is late', 'error: the disk is full']
    assert bad.stop() + all_.stop() == ''


def test_topics(start: Start) -> None:
    receiver = start('tutorials/topics_receive', 'berlin.#', '*.*.humidity')
    assert receiver.line() == 'listening'
    for place, value in [('lima.bath.temperature', '25'), ('berlin.bath.humidity', '60'), ('lima.bath.humidity', '70')]:
        start('tutorials/topics_send', place, value).finish()
    assert [receiver.line(), receiver.line()] == ['berlin.bath.humidity 60', 'lima.bath.humidity 70']
    assert receiver.stop() == ''


def test_request_and_reply(start: Start) -> None:
    server = start('tutorials/rpc_server')
    assert server.line() == 'waiting for requests'
    out = start('tutorials/rpc_client', '12', '97', '0').finish()
    assert out.splitlines() == ['12: 2 2 3', '97: 97', '0: the server says: 0 has no prime factors']
    page = (DOCS / 'tutorials' / 'rpc.rst').read_text(encoding='utf-8')
    assert all(f'    {line}\n' in page for line in out.splitlines())
    assert server.stop(signal.SIGTERM) == ''


def test_publisher_confirms(start: Start) -> None:
    lines = start('tutorials/confirms').finish().splitlines()
    found = [re.fullmatch(r'(\w+) +2000 messages, [\d,]+ a second', line) for line in lines]
    assert [one and one[1] for one in found] == ['one_by_one', 'in_batches', 'streaming']


def test_streams(start: Start) -> None:
    assert start('tutorials/stream_send', '17', '18', '19').finish() == 'stored\n'
    everything, rest = start('tutorials/stream_receive', 'first'), start('tutorials/stream_receive', '2')
    assert [everything.line() for _ in range(4)] == ['reading', '0 17', '1 18', '2 19']
    assert [rest.line(), rest.line()] == ['reading', '2 19']
    assert everything.stop() + rest.stop() == ''


def test_the_quick_start(start: Start) -> None:
    assert start('quickstart').finish().split() == ['one', 'two', 'three']


def test_the_daemon_for_those_who_know_pika(start: Start, channel: gamqp.Channel) -> None:
    daemon = start('from_pika_daemon')
    assert daemon.line() == 'consuming'
    channel.publish('work', routing_key='jobs').wait()
    assert daemon.line() == 'got work'
    assert daemon.stop(signal.SIGTERM) == ''


def test_the_program_written_for_py_amqp(start: Start, channel: gamqp.Channel, rabbit: Any) -> None:
    host = f'127.0.0.1:{rabbit.node.port}'
    program = start('from_py_amqp_consumer', AMQP_HOST=host, AMQP_VHOST=rabbit.vhost)
    assert program.line() == 'consuming'
    for body in ('work', 'end'):
        channel.publish(body, routing_key='jobs').wait()
        assert program.line() == f'got {body}'
    assert program.finish() == ''


def gets_the_next(program: Program, channel: gamqp.Channel, number: int) -> None:
    """The program, which has had the numbers below this one, gets it."""
    channel.publish(str(number), routing_key='jobs').wait()
    line = program.line()
    while number and line == f'got {number - 1}':  # again, where its ack was lost
        line = program.line()
    assert line == f'got {number}'


def test_the_consumer_that_connects_again(start: Start, channel: gamqp.Channel, rabbit: Any, proxy: Any) -> None:
    program = start('reconnecting', url=proxy.url(rabbit))
    assert program.line() == 'consuming'
    for number in range(2):
        gets_the_next(program, channel, number)
        proxy.cut()
        assert program.line() == 'consuming'
    program.stop(signal.SIGTERM)


def test_the_consumer_whose_connection_recovers(start: Start, channel: gamqp.Channel, rabbit: Any, proxy: Any) -> None:
    program = start('recovering', url=proxy.url(rabbit))
    assert program.line() == 'consuming'
    for number in range(2):
        gets_the_next(program, channel, number)
        proxy.cut()
    program.stop(signal.SIGTERM)


@pytest.mark.any_broker
@pytest.mark.skipif(not is_installed('celery'), reason='Celery is not installed')
def test_the_celery_application(rabbit: Any, channel: gamqp.Channel) -> None:
    environment = {
        **os.environ,
        'AMQP_URL': rabbit.url,
        'PYTHONPATH': os.pathsep.join([str(DOCS), str(Path(gamqp.__file__).parents[1])]),
        'PYTHONWARNINGS': 'ignore',
        'C_FORCE_ROOT': '1',
    }
    worker = subprocess.Popen(
        [sys.executable, '-m', 'celery', '-A', 'celery_app', 'worker', '-P', 'gevent', '-c', '200', '-l', 'INFO'],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ask = "import celery_app; print(celery_app.fetch.delay('the news').get(timeout=60))"
    try:
        answered = subprocess.check_output([sys.executable, '-c', ask], env=environment, text=True, timeout=PATIENCE)
        assert answered == 'the news has been fetched\n'
    finally:
        worker.terminate()
        said, _ = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert 'transport:   gamqp://' in said
    channel.queue_delete('celery')


def test_the_tests_of_the_page_on_testing(rabbit: Any, tmp_path: Path) -> None:
    (tmp_path / 'conftest.py').write_text((DOCS / 'testing_conftest.py').read_text(encoding='utf-8'))
    (tmp_path / 'test_jobs.py').write_text((DOCS / 'testing_example.py').read_text(encoding='utf-8'))
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-W', 'error', str(tmp_path)],
        env={**os.environ, 'AMQP_URL': rabbit.url, 'PYTHONPATH': str(Path(gamqp.__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert '2 passed' in done.stdout, done.stdout + done.stderr
