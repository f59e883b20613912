"""For the programs ``with_*.py``: one message by kombu and one Celery task, there and back, in one patched process.

Needs the arguments MODE URL, where MODE is 'transport' (``gamqp.kombu``) or 'drop-in' (``install_as_amqp``). The queues
are deleted with their consumers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from typing import Any

import gamqp

MODE, URL = sys.argv[1:3]

if MODE == 'drop-in':
    gamqp.install_as_amqp()
TRANSPORT = 'gamqp.kombu:Transport' if MODE == 'transport' else None

QUEUE = f'traced.{uuid.uuid4()}'

workers: list[Any] = []  # one that is dropped ends


def by_kombu(around_publish: Any = None) -> None:
    """Publish to a queue of our own and handle what comes."""
    import kombu

    handled = []
    with kombu.Connection(URL, transport=TRANSPORT, connect_timeout=60) as connection:
        queue = kombu.Queue(QUEUE, kombu.Exchange(QUEUE, auto_delete=True), QUEUE, exclusive=True)

        def handle(body: Any, message: Any) -> None:
            handled.append(body)
            message.ack()

        with connection.Consumer(queue, callbacks=[handle], accept=['json']), connection.Producer() as producer:
            with around_publish or contextlib.nullcontext():
                producer.publish({'a': 1}, exchange=queue.exchange, routing_key=QUEUE)
            while not handled:
                connection.drain_events(timeout=30)
        assert isinstance(connection.connection, gamqp.Connection)
    assert handled == [{'a': 1}]


def by_celery(fail: bool = False) -> None:
    """Publish a task and let a worker of this process do it. The worker goes on: its end would take seconds."""
    import celery
    import kombu
    from celery.contrib.testing.worker import start_worker

    app = celery.Celery('traced', broker=URL)
    name = f'{QUEUE}.celery'
    app.conf.update(
        broker_transport=TRANSPORT,
        result_backend='cache+memory://',
        task_default_queue=name,
        task_queues=[kombu.Queue(name, kombu.Exchange(name, auto_delete=True), name, auto_delete=True)],
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
    )

    @app.task(name='add')
    def add(a: int, b: int) -> int:
        if fail:
            raise ValueError('the task failed')
        return a + b

    workers.append(start_worker(app, pool='gevent', concurrency=2, perform_ping_check=False))
    workers[-1].__enter__()
    assert isinstance(app.connection().connection, gamqp.Connection)
    result = add.delay(1, 2).get(timeout=30, propagate=False)
    assert isinstance(result, ValueError) if fail else result == 3


def leave() -> None:
    """End the program now, with all that it has printed."""
    sys.stdout.flush()
    os._exit(0)
