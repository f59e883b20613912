"""A consumer whose connection is opened again by itself, until SIGTERM: docs/recovery.rst shows it."""

import os
import signal

import gevent

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


def work(message):
    print('got', message.body, flush=True)


connection = gamqp.connect(URL, recover=True, name='worker')
channel = connection.channel()
channel.queue_declare('jobs', durable=True, auto_delete=False)
consumer = channel.subscribe('jobs', work, concurrency=20)
gevent.signal_handler(signal.SIGTERM, consumer.cancel)
print('consuming', flush=True)
consumer.join()  # returns when it was cancelled and its handlers are done
connection.close()
