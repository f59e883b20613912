"""docs/celery.rst: a Celery application on gamqp. One line is different."""

import os
import time

from celery import Celery

app = Celery('celery_app', broker=os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672//'), backend='rpc://')
app.conf.broker_transport = 'gamqp.kombu:Transport'  # this one
app.conf.broker_connection_retry_on_startup = True
app.conf.task_acks_late = True


@app.task
def fetch(name):
    time.sleep(0.1)  # stands for a request: 200 of these take no longer than one
    return f'{name} has been fetched'
