"""Celery by the one line ``broker_transport = 'gamqp.kombu:Transport'``: the plain command, each process a real one.

The application is ``programs/celery_app.py``; what a client sees of a worker is ``programs/celery_client.py``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import greenlets
import pytest
from celery_processes import PATIENCE, Application
from installed import is_installed
from node import Node
from ports import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed('celery'), reason='Celery is not installed'),
    pytest.mark.limit(6 * PATIENCE),
]
needs_redis = pytest.mark.skipif(
    not (shutil.which('redis-server') and is_installed('redis')), reason='redis is not installed'
)
GREEN_POOL = ('-P', greenlets.GREEN, '-c', '200')


@pytest.fixture
def application(rabbit: Any, tmp_path: Path) -> Iterator[Any]:
    """Makes applications with a queue of their own, which is deleted afterwards."""
    queues = []

    def make(broker: str = rabbit.url, **config: Any) -> Application:
        queues.append(f'celery.{uuid.uuid4()}')
        return Application(broker, queues[-1], tmp_path, **config)

    yield make
    with rabbit.connect() as connection:
        for queue in queues:
            connection.channel().queue_delete(queue)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a private redis."""
    (port,) = free_ports(1)
    options = ['--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', str(tmp_path)]
    process = subprocess.Popen(['redis-server', *options], stdout=subprocess.DEVNULL)
    try:
        yield f'redis://127.0.0.1:{port}/0'
    finally:
        process.kill()
        process.wait()


def test_a_worker_of_greenlets_and_its_clients(application: Any) -> None:
    """The usual command with its usual options, events turned on."""
    app = application()
    with app.worker(*GREEN_POOL, '-E') as worker:
        wrong = app.client()
        assert not wrong, '\n'.join([*wrong.values(), worker.log()[-4000:]])
        assert 'py-amqp' not in worker.log()
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]


def test_a_worker_goes_on_after_each_loss(rabbit: Any, application: Any) -> None:
    """With the usual options, in the midst of its work."""
    if not rabbit.managed:
        pytest.skip('the broker has no management API, by which connections are closed')
    app = application()
    with app.worker(*GREEN_POOL) as worker:
        for number in range(3):
            words = [f'{number}.{task}' for task in range(200)]
            app.note('noted', ' '.join(words), seconds=0.02)
            done = {f'done {word}' for word in words}
            greenlets.wait_until(lambda done=done: done & set(app.noted('noted')), PATIENCE)
            if number < 2:
                rabbit.node.close_connections(rabbit.vhost)
            greenlets.wait_until(lambda done=done: done <= set(app.noted('noted')), PATIENCE)
        assert worker.log().count('closed by a test') >= 2
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]
    assert app.ready() == 0


@pytest.mark.any_broker
@needs_redis
def test_results_in_redis(application: Any, redis: str) -> None:
    app = application(backend=redis, result_backend_thread_safe=True)
    with app.worker(*GREEN_POOL) as worker:
        wrong = app.client('canvas', 'results_come_back_to_many_greenlets', 'results_for_greenlets_that_come_and_go')
        assert not wrong, '\n'.join([*wrong.values(), worker.log()[-4000:]])


def test_quorum_queues(application: Any) -> None:
    """With them Celery limits the prefetch of each consumer, and sends what is for later by delayed delivery."""
    app = application(
        task_default_queue_type='quorum', task_default_exchange_type='topic', worker_detect_quorum_queues=True
    )
    with app.worker(*GREEN_POOL) as worker:
        wanted = ('results_come_back_to_many_greenlets', 'countdown_and_eta')
        wrong = app.client(*wanted)
        assert not wrong, '\n'.join([*wrong.values(), worker.log()[-4000:]])


@pytest.mark.any_broker
@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='nothing is patched: once is enough')
def test_the_same_application_with_prefork_is_on_py_amqp(application: Any) -> None:
    app = application()
    with app.worker('-P', 'prefork', '-c', '2') as worker:
        wrong = app.client('worker_and_client_are_on_gamqp')
        assert "'class': 'kombu.transport.pyamqp.Connection'" in wrong['worker_and_client_are_on_gamqp'], wrong
        assert not app.client('results_come_back_to_many_greenlets')
        said = worker.log().count("its connections are py-amqp's")
        assert 1 <= said <= 3, 'once in each process'
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]


@pytest.mark.any_broker
def test_an_idle_worker_misses_no_heartbeat(rabbit: Any, application: Any) -> None:
    """Heartbeats of all its connections, remote control included: none of them is closed."""
    if not rabbit.managed:
        pytest.skip('the broker has no management API')
    app = application(broker_heartbeat=1)
    with app.worker(*GREEN_POOL) as worker:
        ours = lambda: {  # noqa: E731
            one['name']: one.get('timeout') for one in rabbit.node.connections(rabbit.vhost) if one.get('timeout')
        }
        greenlets.wait_until(lambda: list(ours().values()).count(1) == 2, PATIENCE)
        before = ours()
        greenlets.sleep(4)
        assert ours() == before, worker.log()[-4000:]
        assert 'lost' not in worker.log()


@pytest.mark.any_broker
def test_a_warm_shutdown_finishes_what_was_begun(application: Any) -> None:
    app = application(worker_prefetch_multiplier=1)
    with app.worker('-P', greenlets.GREEN, '-c', '2') as worker:
        app.note('warm', 'a b c d', seconds=1)
        greenlets.wait_until(lambda: len(app.noted('warm')) >= 2, PATIENCE)
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]
    begun, done = ({line for line in app.noted('warm') if line.startswith(word)} for word in ('begun', 'done'))
    assert len(begun) == len(done) >= 2, app.noted('warm')
    greenlets.wait_until(lambda: app.ready() == 4 - len(done), PATIENCE)


@pytest.mark.any_broker
def test_after_a_cold_shutdown_all_that_was_not_acked_is_in_the_queue(rabbit: Any, application: Any) -> None:
    """What Celery does with tasks that it kills is its own matter: it acks them, unless the signal finds the hub."""
    if not rabbit.managed:
        pytest.skip('the broker has no management API')
    app = application()
    with app.worker('-P', greenlets.GREEN, '-c', '2') as worker:
        app.note('cold', 'a b', seconds=600)
        greenlets.wait_until(lambda: len(app.noted('cold')) == 2, PATIENCE)
        worker.signal(signal.SIGQUIT)
        worker.wait_for_end()
    queue = f'queues/{quote(rabbit.vhost, safe="")}/{app.queue}'

    def settled() -> bool:
        counts = rabbit.node.api(queue)
        acked = counts.get('message_stats', {}).get('ack', 0)
        return bool(acked + counts.get('messages_ready', 0) == 2 and counts.get('messages_unacknowledged') == 0)

    greenlets.wait_until(settled, PATIENCE)
    assert not [line for line in app.noted('cold') if line.startswith('done')]


@pytest.mark.any_broker
def test_a_worker_that_starts_before_the_broker(rabbit: Any, application: Any) -> None:
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    with Node(rabbit.label) as node:
        node.stop()
        app = application(node.url())
        with app.command('worker', '-l', 'INFO', *GREEN_POOL) as worker:
            worker.wait_for_log('Cannot connect to', 'Trying again')
            node.start()
            worker.wait_for_log(' ready.')
            app.note('later', 'a')
            greenlets.wait_until(lambda: 'done a' in app.noted('later'), PATIENCE)


@pytest.mark.any_broker
def test_beat_sends_what_is_due(application: Any) -> None:
    """Beat is not patched, so its connection is py-amqp's."""
    schedule = {'each': {'task': 'note', 'schedule': 0.2, 'args': ['beaten', 'x']}}
    app = application(beat_schedule=schedule, beat_max_loop_interval=1)
    with app.worker(*GREEN_POOL), app.command('beat', '-l', 'INFO') as beat:
        greenlets.wait_until(lambda: app.noted('beaten').count('done x') > 2, PATIENCE)
        assert "its connections are py-amqp's" in beat.log()


@pytest.mark.any_broker
@pytest.mark.skipif(not is_installed('flower'), reason='flower is not installed')
def test_flower_shows_a_worker_its_tasks_and_the_broker(rabbit: Any, application: Any) -> None:
    (port,) = free_ports(1)
    app = application()
    options = [f'--port={port}', '--address=127.0.0.1']
    if rabbit.managed:
        options.append(f'--broker-api={rabbit.node.management.replace("://", "://guest:guest@")}/api/')
    app.environment['FLOWER_UNAUTHENTICATED_API'] = 'true'

    def page(path: str) -> str:
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/{path}', timeout=60) as answer:
                return str(answer.read())
        except OSError:
            return ''

    with app.worker(*GREEN_POOL, '-E'), app.command('flower', *options) as flower:
        greenlets.wait_until(lambda: app.queue in page('api/workers'), PATIENCE)
        app.note('flower', 'a')
        greenlets.wait_until(lambda: '"note"' in page('api/tasks'), PATIENCE)
        if rabbit.managed:  # the page of the broker, which it finds by the URI of the connection
            greenlets.wait_until(lambda: app.queue in page('api/queues/length'), PATIENCE)
        assert flower.process.poll() is None
