"""A Celery application as its users write it, with the one line. Environment: BROKER, BACKEND, QUEUE, CONFIG (JSON)."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery

app = Celery('celery_app', broker=os.environ['BROKER'], backend=os.environ.get('BACKEND', 'rpc://'))
app.conf.broker_transport = 'gamqp.kombu:Transport'
app.conf.update(
    task_default_queue=os.environ['QUEUE'],
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=60,  # on a busy machine 50 handshakes at a time, each of TLS, take longer than 4 s
    result_expires=60,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # What RabbitMQ 4 wants of queues that are not durable.
    control_queue_exclusive=True,
    event_queue_exclusive=True,
    **json.loads(os.environ.get('CONFIG', '{}')),
)


@app.task(name='add')
def add(x: int, y: int) -> int:
    return x + y


@app.task(name='total')
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name='pause', acks_late=True)
def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name='note', acks_late=True)
def note(file: str, line: str, seconds: float = 0) -> None:
    """Add a line to a file: first 'begun', then, after a while, 'done'."""
    _append(file, f'begun {line}')
    time.sleep(seconds)
    _append(file, f'done {line}')


def _append(file: str, line: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f'{line}\n'.encode())  # one call: the lines of several tasks do not mix
    os.close(descriptor)


@app.task(name='flaky', bind=True, max_retries=5)
def flaky(self: Any, file: str) -> int:
    """Fail twice, and tell at which attempt it went well."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.01, exc=OSError('not yet'))
    Path(file).touch()
    return int(self.request.retries)


@app.task(name='about')
def about() -> dict[str, Any]:
    """What this worker runs on."""
    import amqp

    with app.producer_pool.acquire(block=True) as producer:
        connection = producer.connection.connection
        return {
            'class': f'{type(connection).__module__}.{type(connection).__name__}',
            'amqp': amqp.__name__,
            'confirms': connection.confirm_publish,
            'patched': sorted(name for name in ('gevent', 'eventlet') if name in sys.modules),
        }
