"""Publish, confirm and consume on greenlets: 100 publishers, 1,000 consumers, one process.

Run it with ./quickstart, or by itself with a broker in AMQP_URL. What to copy:
publishers share one connection and one channel each may be shared too; consumers
are callbacks, and any greenlet may drain them.
"""

import os
import sys
import time

import gevent

import gamqp

MESSAGES, PUBLISHERS, CONSUMERS, QUEUES, DRAINERS = 20_000, 100, 1_000, 100, 4
URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
EXCHANGE = f'gamqp.quickstart.{os.getpid()}'


class Consuming:
    """Consumers on a connection of their own, so that a busy publisher cannot slow their acks."""

    def __init__(self):
        self.connection = gamqp.connect(URL, name='quickstart consumers')
        self.seen = {}  # message id -> how often it came
        channel = self.connection.channel()
        channel.exchange_declare(EXCHANGE, 'direct', auto_delete=False)
        self.queues = [channel.queue_declare(exclusive=True).queue for _ in range(QUEUES)]
        for number, queue in enumerate(self.queues):
            channel.queue_bind(queue, EXCHANGE, routing_key=str(number))
        for number in range(CONSUMERS):
            if number % 100 == 0:  # a channel for every hundred consumers
                channel = self.connection.channel()
                channel.basic_qos(0, 50, False)
            channel.basic_consume(self.queues[number % QUEUES], callback=self.on_message)
        self.drainers = [gevent.spawn(self.drain) for _ in range(DRAINERS)]

    def on_message(self, message):
        number = int(message.body)
        self.seen[number] = self.seen.get(number, 0) + 1
        message.ack()

    def drain(self):
        while len(self.seen) < MESSAGES:
            try:
                self.connection.drain_events(timeout=1)
            except TimeoutError:
                pass  # nothing came for a second: look again

    def ask_broker(self):
        """What the broker says of our queues: (consumers, messages still there)."""
        channel = self.connection.channel()
        counts = [channel.queue_declare(queue, passive=True) for queue in self.queues]
        return sum(c.consumer_count for c in counts), sum(c.message_count for c in counts)


def publish(channel, first, latencies):
    """One of 100 publishers on one channel; each waits for the confirm of its own message."""
    for number in range(first, MESSAGES, PUBLISHERS):
        message = gamqp.Message(str(number).encode(), delivery_mode=2, content_type='text/plain')
        begin = time.perf_counter()
        channel.basic_publish_confirm(message, EXCHANGE, routing_key=str(number % QUEUES), mandatory=True)
        latencies.append(time.perf_counter() - begin)


def show_progress(latencies, seen):
    live = sys.stdout.isatty()
    while True:
        done = len(seen) / MESSAGES
        bar = '#' * int(done * 40)
        if live or done >= 1:
            start, end = ('\r', '') if live and done < 1 else ('\r' * live, '\n')
            print(f'{start}[{bar:40}] confirmed {len(latencies):6,}  consumed {len(seen):6,}', end=end, flush=True)
        if done >= 1:
            return
        gevent.sleep(0.05)


def main():
    consuming = Consuming()
    with gamqp.connect(URL, name='quickstart publishers') as connection:
        print('{product} {version} on {platform}'.format_map(connection.server_properties), end=': ')
        print(f'{PUBLISHERS} publishers, {CONSUMERS:,} consumers on {QUEUES} queues')
        channel = connection.channel()
        latencies = []
        begin = time.perf_counter()
        progress = gevent.spawn(show_progress, latencies, consuming.seen)
        publishers = [gevent.spawn(publish, channel, first, latencies) for first in range(PUBLISHERS)]
        gevent.joinall(publishers, raise_error=True)
        gevent.joinall(consuming.drainers, timeout=30, raise_error=True)
        seconds = time.perf_counter() - begin
        progress.join(timeout=1)
        progress.kill()
    consumers, ready = consuming.ask_broker()
    consuming.connection.channel().exchange_delete(EXCHANGE)
    consuming.connection.close()

    latencies.sort()
    p50, p95, p99 = (latencies[int(len(latencies) * q)] * 1000 for q in (0.50, 0.95, 0.99))
    lost = MESSAGES - len(consuming.seen)
    duplicated = sum(times - 1 for times in consuming.seen.values())
    print(f"""
messages           {len(latencies):>10,}   published, confirmed and consumed
rate               {len(latencies) / seconds:>10,.0f}   a second
confirm latency    {p50:>10.1f}   ms median   (95 %: {p95:.1f}, 99 %: {p99:.1f}, longest: {latencies[-1] * 1000:.1f})
broker's count     {consumers:>10,}   consumers, {ready} messages left in its queues
lost               {lost:>10,}
duplicated         {duplicated:>10,}""")
    return 0 if lost == duplicated == ready == 0 and consumers == CONSUMERS else 1


if __name__ == '__main__':
    sys.exit(main())
