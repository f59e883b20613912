"""A daemon with 10,000 consumers in one process, and how to stop it: SIGTERM or Ctrl-C drains it.

    ./examples/run fanout_daemon                  # until it gets a signal
    ./examples/run fanout_daemon --self-test      # feeds itself, stops, and tells what it took

What to copy: a group of connections, which are opened again by themselves after a loss, and over which it spreads the
consumers; some greenlets set these up, so that round trips overlap; handlers only, no loop; a signal handler that
drains, so that handlers finish, their acks are sent and everything else goes back to the queues. Give the URLs of all
nodes of a cluster, and the connections go to all of them.
"""

import argparse
import os
import resource
import signal
import sys
import time

import gevent
from gevent.event import Event
from gevent.pool import Pool

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
PREFIX = f'gamqp.fanout.{os.getpid()}'


class Daemon:
    def __init__(self, options):
        self.options = options
        self.group = gamqp.Group(URL, connections=options.connections, name='fanout')
        self.queues = [f'{PREFIX}.{number}' for number in range(options.queues)]
        self.handled = [0] * options.consumers  # messages, by consumer

    def declare(self):
        with self.group.channel() as channel:
            for queue in self.queues:
                channel.queue_declare(queue, durable=True, auto_delete=False)

    def start(self):
        """All consumers, 20 at a time."""
        starting = Pool(20)
        for number in range(self.options.consumers):
            starting.spawn(self.start_one, number)
        starting.join(raise_error=True)

    def start_one(self, number):
        self.group.subscribe(self.queues[number % len(self.queues)], self.handler(number), prefetch=10)

    def handler(self, number):
        def handle(message):
            # Work that waits for something, a database for example, lets the others run meanwhile.
            self.handled[number] += 1

        return handle

    def stop(self):
        """Drain all connections at once. Returns whether everything was finished."""
        return self.group.drain(timeout=30)


def self_test(daemon):
    """Until each consumer has had a message; then a look at an idle process. Returns what to print."""
    with gamqp.connect(URL) as connection:
        channel = connection.channel()
        begin = time.perf_counter()
        sent = 0
        while 0 in daemon.handled:
            for queue in daemon.queues:
                channel.publish(b'hello', routing_key=queue)
            sent += len(daemon.queues)
            if sent % 1000 < len(daemon.queues):
                gevent.sleep(0)
        channel.wait_for_confirms()
        while sum(daemon.handled) < sent:
            gevent.sleep(0.01)
        fed = time.perf_counter() - begin
    cpu, begin = time.process_time(), time.perf_counter()
    gevent.sleep(daemon.options.idle)
    idle = (time.process_time() - cpu) / (time.perf_counter() - begin)
    return f'fed {sent:,} messages in {fed:.1f} s, each consumer got one; idle CPU {idle:.2%} of a core'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--consumers', type=int, default=10_000)
    parser.add_argument('--connections', type=int, default=4)
    parser.add_argument('--queues', type=int, default=100)
    parser.add_argument('--idle', type=float, default=5, help='seconds of the look at the idle process')
    parser.add_argument('--self-test', action='store_true')
    options = parser.parse_args()

    stopping = Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(signal_number, stopping.set)

    daemon = Daemon(options)
    daemon.declare()
    before, begin = resident(), time.perf_counter()
    daemon.start()
    seconds = time.perf_counter() - begin
    each = (resident() - before) / options.consumers
    print(
        f'{options.consumers:,} consumers on {len(daemon.queues)} queues, {len(daemon.group.connections)} connections: '
        f'{seconds:.2f} s, {seconds / options.consumers * 1000:.3f} ms and {each:.2f} kB each',
        flush=True,
    )
    if options.self_test:
        print(self_test(daemon), flush=True)
    else:
        stopping.wait()
    begin = time.perf_counter()
    finished = daemon.stop()
    seconds = time.perf_counter() - begin
    print(f'drained and closed in {seconds:.2f} s, {"all" if finished else "NOT all"} work finished')
    with gamqp.connect(URL) as connection:
        channel = connection.channel()
        left = sum(channel.queue_delete(queue) for queue in daemon.queues)
    print(f'handled {sum(daemon.handled):,}, left in the queues {left:,}')
    return 0 if finished else 1


def resident():
    """Memory of this process in kB."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1024


if __name__ == '__main__':
    sys.exit(main())
