"""A consumer that goes on after each loss of its connection: docs/connection_loss.rst shows it."""

import logging
import os
import random
import time

import gevent

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
LOSSES = gamqp.Connection.recoverable_connection_errors


def work(message):
    print('got', message.body, flush=True)


def consume_until_lost():
    with gamqp.connect(URL, name='worker') as connection:
        channel = connection.channel()
        channel.queue_declare('jobs', durable=True, auto_delete=False)
        consumer = channel.subscribe('jobs', work, concurrency=20)
        print('consuming', flush=True)
        consumer.join()  # raises why it ended


def main():
    pause = 0.5  # seconds
    while True:
        begun = time.monotonic()
        try:
            consume_until_lost()
            return  # somebody has cancelled the consumer
        except LOSSES as error:
            logging.warning('starting again: %s', error)
        if time.monotonic() - begun > 60:
            pause = 0.5  # it had worked for a while
        gevent.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 30)


main()
