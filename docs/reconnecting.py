"""A consumer that goes on after each loss of its connection, until SIGTERM: docs/connection_loss.rst shows it."""

import logging
import os
import random
import signal
import time

import gevent
import gevent.event

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
LOSSES = gamqp.Connection.recoverable_connection_errors

stopping = gevent.event.Event()
consumers = []


def work(message):
    print('got', message.body, flush=True)


def consume_until_lost():
    with gamqp.connect(URL, name='worker') as connection:
        channel = connection.channel()
        channel.queue_declare('jobs', durable=True, auto_delete=False)
        consumer = channel.subscribe('jobs', work, concurrency=20)
        consumers[:] = [consumer]
        print('consuming', flush=True)
        if not stopping.is_set():
            consumer.join()  # raises why it ended; returns when it was cancelled and its handlers are done


def stop():
    stopping.set()
    for consumer in consumers:
        consumer.cancel()


def main():
    gevent.signal_handler(signal.SIGTERM, stop)
    pause = 0.5  # seconds
    while not stopping.is_set():
        begun = time.monotonic()
        try:
            consume_until_lost()
        except LOSSES as error:
            logging.warning('starting again: %s', error)
        if time.monotonic() - begun > 60:
            pause = 0.5  # it had worked for a while
        stopping.wait(random.uniform(0, pause))
        pause = min(pause * 2, 30)


main()
