"""Tutorial 7: three ways to know that the broker has what was published."""

import os
import time

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
COUNT = 2000


def one_by_one(channel, queue):
    """Wait for each confirm before the next publish."""
    for number in range(COUNT):
        channel.publish(str(number), routing_key=queue).wait()


def in_batches(channel, queue, size=100):
    """Publish some, then wait for all of these."""
    for number in range(COUNT):
        channel.publish(str(number), routing_key=queue)
        if number % size == size - 1 and not channel.wait_for_confirms():
            raise RuntimeError('the broker has refused a message')
    channel.wait_for_confirms()


def streaming(channel, queue):
    """Publish without a break, and look at the receipts afterwards."""
    receipts = [channel.publish(str(number), routing_key=queue) for number in range(COUNT)]
    for receipt in receipts:
        receipt.wait()


with gamqp.connect(URL) as connection:
    channel = connection.channel()
    for way in (one_by_one, in_batches, streaming):
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        begin = time.perf_counter()
        way(channel, queue)
        seconds = time.perf_counter() - begin
        count = channel.queue_delete(queue)
        print(f'{way.__name__:12} {count} messages, {count / seconds:,.0f} a second')
