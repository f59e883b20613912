"""examples/daemon.py, run as a supervisor runs it: health, metrics, logs, losses, and an end that loses nothing."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import pytest
from ports import free_ports

import gamqp

PROGRAM = Path(__file__).parents[2] / 'examples' / 'daemon.py'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.limit(240),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the example is written for gevent'),
]


class Daemon:
    """The program under way, in a ``with`` block."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        self.prefix = f'{broker_tools.fresh_name("daemon")}.{os.getpid()}'
        (self.port,) = free_ports(1)
        self._log = folder / 'daemon.log'
        self._environment = {
            **os.environ,
            'AMQP_URL': url,
            'PYTHONPATH': str(Path(gamqp.__file__).parents[1]),
            'DAEMON_BIND': f'127.0.0.1:{self.port}',
            'DAEMON_PREFIX': self.prefix,
            **{f'DAEMON_{name.upper()}': str(value) for name, value in settings.items()},
        }
        self._process: Any = None

    def __enter__(self) -> Daemon:
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-W', 'error', str(PROGRAM)], env=self._environment, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """(status, body) of an HTTP request; (0, '') while nobody listens."""
        assert self._process.poll() is None, f'it has ended:\n{self._log.read_text()}'
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            connection.request('GET', path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionError:
            return 0, ''
        finally:
            connection.close()

    def await_status(self, path: str, status: int) -> None:
        greenlets.wait_until(lambda: self.get(path)[0] == status, what=f'{path}: {status}; {self._log.read_text()}')

    def done(self) -> int:
        """Messages handled, as /metrics tells."""
        found = re.search(r'^daemon_messages_total\{outcome="done"\} (\d+)', self.get('/metrics')[1], re.MULTILINE)
        return int(found[1]) if found else 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end. Returns the exit status."""
        return int(self._process.wait(90))

    def log(self) -> list[dict[str, Any]]:
        """What it has logged: each line is JSON."""
        return [json.loads(line) for line in self._log.read_text().rpartition('\n')[0].splitlines()]

    def queues(self) -> list[str]:
        return [f'{self.prefix}.{number}' for number in range(20)]

    def remove(self, channel: Any) -> int:
        """Remove its queues. Returns how many messages were left in them."""
        channel.queue_delete(f'{self.prefix}.failed')
        return sum(channel.queue_delete(queue) for queue in self.queues())


def publish(channel: Any, daemon: Daemon, count: int, seconds: float) -> None:
    for number in range(count):
        channel.publish(json.dumps({'seconds': seconds}), routing_key=daemon.queues()[number % 20], mandatory=True)
    assert channel.wait_for_confirms()


def test_a_loss_and_a_signal_lose_nothing(rabbit: Any, proxy: Any, channel: Any, tmp_path: Path) -> None:
    with Daemon(proxy.url(rabbit), tmp_path, consumers=2000) as daemon:
        daemon.await_status('/readyz', 200)
        assert daemon.get('/healthz') == (200, 'ok\n')

        proxy.cut()
        again = re.compile(r'^gamqp_recoveries_total\{.* 1', re.MULTILINE)
        greenlets.wait_until(lambda: again.search(daemon.get('/metrics')[1]))
        daemon.await_status('/readyz', 200)

        # Tried twice, then put aside.
        channel.publish(b'no JSON', routing_key=daemon.queues()[0]).wait()
        broker_tools.wait_ready(channel, f'{daemon.prefix}.failed', 1)

        # More than there are consumers: some are being handled when the signal comes, and some are waiting.
        publish(channel, daemon, 3000, 0.3)
        greenlets.wait_until(daemon.done)
        assert daemon.stop() == 0

    last = daemon.log()[-1]
    assert (last['text'], last['level'], last['finished']) == ('stopped', 'INFO', True)
    assert last['done'] + daemon.remove(channel) == 3000
    failures = [line for line in daemon.log() if line['level'] == 'ERROR']
    assert [line['text'].partition(':')[0] for line in failures] == ['requeue', 'reject']
    assert all('JSONDecodeError' in line['traceback'] for line in failures)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
def test_what_does_not_end_in_time_goes_back_to_its_queue(
    rabbit: Any, channel: Any, tmp_path: Path, number: int
) -> None:
    with Daemon(rabbit.url, tmp_path, consumers=20, drain=0.2) as daemon:
        daemon.await_status('/readyz', 200)
        publish(channel, daemon, 20, 3600)
        greenlets.wait_until(lambda: 'gamqp_delivered_messages_total' in daemon.get('/metrics')[1])
        assert daemon.stop(number) == 2
    assert daemon.log()[-1]['finished'] is False
    for queue in daemon.queues():
        broker_tools.wait_ready(channel, queue, 1)
    assert daemon.remove(channel) == 20


def test_what_keeps_it_from_starting_is_logged_and_ends_it(rabbit: Any, tmp_path: Path) -> None:
    if not rabbit.managed:
        pytest.skip('whose password it is, only its owner knows')
    with Daemon(rabbit.url.replace('guest:guest@', 'guest:wrong@'), tmp_path, consumers=20) as daemon:
        assert daemon.wait() == 1
    assert any('ACCESS_REFUSED' in line['text'] for line in daemon.log())
    with Daemon('amqp://localhost:port', tmp_path, consumers=20) as daemon:
        assert daemon.wait() == 1


def test_a_queue_that_is_deleted_keeps_it_waiting(rabbit: Any, channel: Any, tmp_path: Path) -> None:
    with Daemon(rabbit.url, tmp_path, consumers=20) as daemon:
        daemon.await_status('/readyz', 200)
        name = daemon.queues()[7]
        channel.queue_delete(name)
        channel.queue_declare(name, durable=True, auto_delete=False)
        publish(channel, daemon, 20, 0)
        greenlets.wait_until(lambda: daemon.done() == 20)
        assert daemon.stop() == 0
    assert daemon.remove(channel) == 0


def test_it_is_not_ready_while_the_broker_is_away(node: Any, tmp_path: Path) -> None:
    with Daemon(node.url(), tmp_path, consumers=200, longest_pause=1) as daemon:
        daemon.await_status('/readyz', 200)
        node.stop()
        daemon.await_status('/readyz', 503)
        assert daemon.get('/healthz') == (200, 'ok\n')
        node.start()
        daemon.await_status('/readyz', 200)
        with gamqp.connect(node.url()) as connection:
            channel = connection.channel()
            publish(channel, daemon, 100, 0)
            greenlets.wait_until(lambda: daemon.done() == 100)
            node.stop()
            daemon.await_status('/readyz', 503)
        # What acks had not arrived it cannot know.
        assert daemon.stop() == 2
