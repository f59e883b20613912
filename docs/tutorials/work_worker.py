"""Tutorial 2: do the tasks, one at a time. SIGTERM and Ctrl-C let it finish the one it has."""

import os
import signal

import gevent
import gevent.event

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


def work(message):
    print('begun:', message.body, flush=True)
    gevent.sleep(0.1 * message.body.count('.'))  # stands for work that waits: a query, a request
    print('done:', message.body, flush=True)


stopping = gevent.event.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    gevent.signal_handler(number, stopping.set)

connection = gamqp.connect(URL, on_lost=lambda error: stopping.set())
channel = connection.channel()
channel.queue_declare('tasks', durable=True, auto_delete=False)
channel.subscribe('tasks', work, concurrency=1, prefetch=1)
print('waiting for tasks', flush=True)
stopping.wait()
connection.drain(timeout=30)
