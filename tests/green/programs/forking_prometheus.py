"""Program: fork with connections that Prometheus is told of. Arguments: library, when, URL.

Prints a line in the child and then one in the parent: the names that are told, and how many messages were published
and confirms lost in all.
"""

from __future__ import annotations

import os
import sys

import backends

library, when, url = sys.argv[1:]
backends.begin(library, when)

import prometheus_client  # noqa: E402

import gamqp  # noqa: E402
import gamqp.prometheus  # noqa: E402
from gamqp import green  # noqa: E402


def tell() -> None:
    samples = [sample for family in collector.collect() for sample in family.samples]
    names = sorted({sample.labels['connection'] for sample in samples})
    sums = [
        sum(sample.value for sample in samples if sample.name == f'gamqp_{name}')
        for name in ('published_messages_total', 'lost_confirms_total', 'unconfirmed_messages')
    ]
    print(*names, *map(int, sums), flush=True)


collector = gamqp.prometheus.register(prometheus_client.CollectorRegistry())
ended = gamqp.connect(url, name='ended')
ended.channel().publish(b'x', routing_key='nowhere').wait()
ended.close()
connection = gamqp.connect(url, name='parent')
channel = connection.channel()
for _ in range(3):
    channel.publish(b'x', routing_key='nowhere')
tellings = list(collector.collect())
pid = os.fork()
if not pid:
    if library == 'eventlet':
        import eventlet.hubs

        eventlet.hubs.use_hub()  # as its documentation asks of every child
    assert ended.stats()['published'] == connection.stats()['published'] == connection.stats()['lost'] == 0
    mine = gamqp.connect(url, name='child')
    mine.channel().publish(b'x', routing_key='nowhere').wait()
    ended.connect()
    ended.channel().publish(b'x', routing_key='nowhere').wait()
    tell()
    mine.close()
    ended.close()
    os._exit(0)
while os.waitpid(pid, os.WNOHANG) == (0, 0):
    green.backend().sleep(0.01)
channel.wait_for_confirms()
tell()
connection.close()
