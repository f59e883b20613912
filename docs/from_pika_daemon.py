"""docs/from_pika.rst: a daemon that works on 20 messages at a time."""

import os
import signal

import gevent
import gevent.event

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


def work_on(message):
    print('got', message.body, flush=True)


stopping = gevent.event.Event()
gevent.signal_handler(signal.SIGTERM, stopping.set)

connection = gamqp.connect(URL, on_lost=lambda error: stopping.set())
channel = connection.channel()
channel.queue_declare('jobs', durable=True, auto_delete=False)
channel.subscribe('jobs', work_on, concurrency=20, prefetch=20)
print('consuming', flush=True)
stopping.wait()
connection.drain(timeout=30)  # raises why, if the connection was lost
