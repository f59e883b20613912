"""A Celery worker on gamqp: ``celery_worker.py POOL CONCURRENCY URL QUEUE FILE``. Its task adds a line to FILE."""

from __future__ import annotations

import sys

POOL, CONCURRENCY, URL, QUEUE, FILE = sys.argv[1:6]
if POOL == 'gevent':
    from gevent import monkey

    monkey.patch_all()
elif POOL == 'eventlet':
    import eventlet

    eventlet.monkey_patch()

import gamqp  # noqa: E402

gamqp.install_as_amqp()

import os  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

from celery import Celery  # noqa: E402

app = Celery('worker', broker=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_heartbeat=0,  # else Celery's green loop waits 0.1 s after each event
    task_acks_late=POOL in ('gevent', 'eventlet'),
    task_default_queue=QUEUE,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=4,
)


@app.task(name='note')
def note(line: Any, pause: float = 0) -> None:
    time.sleep(pause)
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f'{line}\n'.encode())  # one call: the lines of several processes do not mix
    os.close(descriptor)


if __name__ == '__main__':
    app.worker_main(
        [
            *('worker', '-P', POOL, '-c', CONCURRENCY, '-l', 'INFO', '-n', QUEUE),
            *('--without-gossip', '--without-mingle', '--without-heartbeat'),
        ]
    )
