"""Orders of one customer one after the other, those of different customers at the same time, by several processes.

    ./examples/run partitions 0 3           # member 0 of 3; start 1 and 2 as well
    ./examples/run partitions 0 1 100       # one member, which publishes 100 orders first

SIGTERM and Ctrl-C end it when the orders under way are handled; others take over. They do so when it is killed, too:
what was under way comes again.
"""

from __future__ import annotations

import os
import signal
import sys

import gevent

import gamqp


def handle(order: gamqp.Message) -> None:
    customer = order.delivery_info['routing_key']
    gevent.sleep(0.01)  # what a real one does with it
    print(f'{customer}: {order.body}', flush=True)


def main(member: int, members: int, count: int = 0) -> None:
    url = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
    with gamqp.connect(url, name=f'orders {member} of {members}', recover=True) as connection:
        orders = gamqp.partitions(connection, 'example-orders', 16)
        for number in range(count):
            orders.publish(f'order {number}', key=f'customer {number % 7}', mandatory=True)
        orders.channel.wait_for_confirms()
        consumers = orders.subscribe(handle, member, members)
        for signum in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(signum, consumers.cancel)
        print(f'member {member} of {members} is ready', flush=True)
        consumers.join()
        print(f'handled {consumers.acked}', flush=True)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:] or ('0', '1')))
