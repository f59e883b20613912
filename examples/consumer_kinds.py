"""Kinds of consumers, one small example each: priorities, exclusive, single-active, and quorum queues' delivery count.

    ./examples/run consumer_kinds

(Streams are in stream_reader.py.) Each function can be copied by itself.
"""

import os
import sys

import gevent
from gevent.event import Event

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
PREFIX = f'gamqp.kinds.{os.getpid()}'


def declare(channel, name, **arguments):
    return channel.queue_declare(f'{PREFIX}.{name}', durable=True, auto_delete=False, arguments=arguments).queue


def priorities(connection):
    """While the consumer of the higher priority can take more, the other one gets nothing."""
    channel = connection.channel()
    queue = declare(channel, 'priorities')
    got = []
    channel.subscribe(queue, lambda message: got.append('usual'))
    channel.subscribe(queue, lambda message: got.append('preferred'), arguments={'x-priority': 10})
    for _ in range(10):
        channel.publish(b'work', routing_key=queue)
    wait_until(lambda: len(got) == 10)
    channel.queue_delete(queue)
    return f'{got.count("preferred")} of 10 went to the preferred consumer'


def exclusive(connection):
    """Nobody else may consume from the queue meanwhile."""
    channel = connection.channel()
    queue = declare(channel, 'exclusive')
    with channel.consume(queue, exclusive=True):
        try:
            connection.channel().consume(queue)
        except gamqp.AccessRefused:
            answer = 'the second consumer was refused'
    channel.queue_delete(queue)
    return answer


def single_active(connection):
    """One works, the others stand by and take over in order."""
    channel = connection.channel()
    queue = declare(channel, 'single', **{'x-single-active-consumer': True})
    got = []
    first = channel.subscribe(queue, lambda message: got.append('first'))
    channel.subscribe(queue, lambda message: got.append('second'))
    channel.publish(b'1', routing_key=queue)
    wait_until(lambda: len(got) == 1)
    first.cancel()
    channel.publish(b'2', routing_key=queue)
    wait_until(lambda: len(got) == 2)
    channel.queue_delete(queue)
    return f'handled by the {got[0]}, then by the {got[1]}'


def delivery_count(connection):
    """A quorum queue counts how often a message failed, so a handler can give up on it."""
    channel = connection.channel()
    queue = declare(channel, 'quorum', **{'x-queue-type': 'quorum'})
    counts = []
    gave_up = Event()

    def handle(message):
        counts.append(message.headers.get('x-delivery-count', 0))
        if counts[-1] < 3:
            # A reject counts as a failure in every version; RabbitMQ 4.3 does not count a nack.
            message.reject(requeue=True)
        else:
            message.ack()  # or put it aside for a human
            gave_up.set()

    channel.subscribe(queue, handle)
    channel.publish(b'poison', routing_key=queue).wait()
    gave_up.wait(timeout=20)
    channel.queue_delete(queue)
    return f'delivery counts {counts}, then given up'


def wait_until(condition):
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.01)


def main():
    with gamqp.connect(URL) as connection:
        for kind in (priorities, exclusive, single_active, delivery_count):
            print(f'{kind.__name__}: {kind(connection)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
