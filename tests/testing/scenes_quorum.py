"""Quorum queues and streams.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from typing import Any

from conversations import Talker
from scenes import queue, scene


def _given_back_until_the_limit(talk: Talker, method: str) -> None:
    talk.open(1, 2)
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', 'x-delivery-limit': 2})
    talk.ask('confirm.select')
    talk.settle(0.5)
    talk.publish('', '~q', b'again')
    talk.settle()
    for number in range(1, 5):
        if not any(name == 'basic.get-ok' for _, name, _ in talk.ask('basic.get', queue='~q')):
            break
        talk.ask(method, delivery_tag=number, requeue=True)
    talk.ask('queue.delete', queue='~q')


@scene
def quorum_redelivery(talk: Talker) -> None:
    _given_back_until_the_limit(talk, 'basic.reject')


@scene
def quorum_nack(talk: Talker) -> None:
    _given_back_until_the_limit(talk, 'basic.nack')


@scene
def quorum_channel_close(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, ch=2, durable=True, arguments={'x-queue-type': 'quorum'})
    talk.publish('', '~q', b'again', ch=2)
    talk.settle()
    for _ in range(2):
        talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
        talk.ask('channel.close', 1)
        talk.ask('channel.open', 1)
    talk.ask('basic.get', 1, queue='~q')
    talk.ask('queue.delete', 2, queue='~q')


@scene
def quorum_order_of_returns(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum'})
    for number in range(5):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    for _ in range(3):
        talk.ask('basic.get', queue='~q')
    for number in (2, 1, 3):
        talk.ask('basic.nack', delivery_tag=number, requeue=True)
    for _ in range(5):
        talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('queue.delete', queue='~q')


@scene
def quorum_priorities(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum'})
    for number, priority in enumerate((0, 3, None, 9, 5, 1, 4, 200)):
        talk.publish('', '~q', str(number).encode(), **({} if priority is None else {'priority': priority}))
        talk.settle()
    for _ in range(8):
        talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('queue.delete', queue='~q')


@scene
def quorum_global_prefetch(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, ch=2, durable=True, arguments={'x-queue-type': 'quorum'})
    talk.send('basic.qos', **{'prefetch_count': 2, 'global': True})
    talk.settle()
    talk.ask('basic.consume', queue='~q', consumer_tag='a')


@scene
def quorum_dead_letters(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, '~dead')
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', 'x-dead-letter-exchange': '',
                                         'x-dead-letter-routing-key': '~dead', 'x-delivery-limit': 1})  # fmt: skip
    talk.publish('', '~q', b'1')
    talk.publish('', '~q', b'2', expiration='2500')
    talk.settle()
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.reject', delivery_tag=1, requeue=False)
    talk.settle(3.0)
    talk.ask('basic.get', queue='~dead', no_ack=True)
    talk.ask('basic.get', queue='~dead', no_ack=True)
    talk.publish('', '~q', b'3')
    talk.settle()
    for number in (4, 5, 6):
        talk.ask('basic.get', queue='~q')
        talk.ask('basic.reject', delivery_tag=number, requeue=True)
    talk.settle(0.3)
    talk.ask('queue.delete', 2, queue='~q')


@scene
def quorum_single_active_get(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', 'x-single-active-consumer': True})
    talk.ask('basic.get', queue='~q')
    talk.ask('queue.delete', 2, queue='~q')


@scene
def streams(talk: Talker) -> None:
    talk.open(1, 2, 3, 4)
    queue(talk, durable=True, arguments={'x-queue-type': 'stream'})
    talk.ask('confirm.select')
    for number in range(4):
        talk.publish('', '~q', str(number).encode(), application_headers={'h': 1})
        talk.settle()
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='no qos')
    talk.ask('basic.qos', 1, prefetch_count=2)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a', arguments={'x-stream-offset': 1})
    talk.ask('basic.ack', 1, delivery_tag=1)
    talk.ask('basic.ack', 1, delivery_tag=2)
    talk.ask('basic.qos', 3, prefetch_count=10)
    talk.ask('basic.consume', 3, queue='~q', consumer_tag='b', arguments={'x-stream-offset': 'first'})
    talk.ask('basic.cancel', 3, consumer_tag='b')
    talk.ask('basic.consume', 3, queue='~q', consumer_tag='c')
    talk.publish('', '~q', b'new')
    talk.settle()
    talk.ask('basic.cancel', 3, consumer_tag='c')
    talk.ask('basic.qos', 4, prefetch_count=10)
    talk.ask('basic.consume', 4, queue='~q', no_ack=True, consumer_tag='d')


@scene
def streams_refuse(talk: Talker) -> None:
    talk.open(1, 2, 3, 4, 5)
    queue(talk, durable=True, arguments={'x-queue-type': 'stream'})
    talk.ask('basic.qos', 2, prefetch_count=2)
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='a', arguments={'x-stream-offset': 'nonsense'})
    talk.ask('basic.qos', 3, prefetch_count=2)
    talk.ask('basic.consume', 3, queue='~q', consumer_tag='a', arguments={'x-stream-offset': True})
    talk.ask('queue.delete', 4, queue='~q')


@scene
def stream_get(talk: Talker) -> None:
    talk.open(1)
    queue(talk, durable=True, arguments={'x-queue-type': 'stream'})
    talk.ask('basic.get', queue='~q')


@scene
def stream_purge(talk: Talker) -> None:
    talk.open(1)
    queue(talk, durable=True, arguments={'x-queue-type': 'stream'})
    talk.ask('queue.purge', queue='~q')


@scene
def quorum_consumer_timeout(talk: Talker) -> None:
    talk.open(1, 2)
    talk.ask('queue.declare', queue='~q', durable=True, arguments={'x-queue-type': 'quorum'})
    for body in (b'1', b'2', b'3'):
        talk.publish('', '~q', body)
    talk.settle()
    talk.ask('basic.qos', prefetch_count=2)
    talk.ask('basic.consume', queue='~q', consumer_tag='late', arguments={'x-consumer-timeout': 1000})
    talk.settle(4)
    talk.ask('basic.get', 2, queue='~q', no_ack=True)
    talk.ask('basic.ack', delivery_tag=1)
    talk.ask('basic.nack', delivery_tag=2, requeue=True)
    talk.ask('basic.ack', delivery_tag=2)
    for _ in range(3):
        talk.ask('basic.get', 2, queue='~q', no_ack=True)
    talk.ask('queue.delete', 2, queue='~q')


@scene
def quorum_exclusive_consumers(talk: Talker) -> None:
    talk.open(1, 2)
    talk.ask('queue.declare', queue='~q', durable=True, arguments={'x-queue-type': 'quorum'})
    talk.ask('basic.consume', queue='~q', consumer_tag='a', exclusive=True)
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b')
    talk.ask('basic.cancel', 2, consumer_tag='b')
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='c', exclusive=True)
    talk.ask('basic.cancel', 2, consumer_tag='c')
    talk.ask('basic.cancel', consumer_tag='a')
    talk.ask('queue.delete', queue='~q')


@scene
def stream_offset_in_bytes(talk: Talker) -> None:
    talk.open(1, 2)
    talk.ask('queue.declare', queue='~q', durable=True, arguments={'x-queue-type': 'stream'})
    talk.publish('', '~q', b'1')
    talk.settle()
    talk.ask('basic.qos', prefetch_count=5)
    talk.ask('basic.consume', queue='~q', consumer_tag='a', arguments={'x-stream-offset': b'first'})
    talk.settle(0.5)
    talk.ask('queue.delete', queue='~q', nowait=True)


@scene
def stream_filters(talk: Talker) -> None:
    talk.open(*range(1, 9))
    queue(talk, durable=True, arguments={'x-queue-type': 'stream'})
    talk.ask('confirm.select')
    for value in ('a', 'b', None, 'a', ''):
        talk.publish('', '~q', b'', application_headers={} if value is None else {'x-stream-filter-value': value})
        talk.settle()
    filters: list[dict[str, Any]] = [
        {'x-stream-filter': 'a'},
        {'x-stream-filter': ['a', 'b']},
        {'x-stream-filter': 'b', 'x-stream-match-unfiltered': True},
        {'x-stream-filter': 'b', 'x-stream-match-unfiltered': 'yes'},
        {'x-stream-filter': ['a', 5]},
        {'x-stream-filter': ''},
        {'x-stream-filter': 5, 'x-stream-match-unfiltered': True},
    ]
    for ch, arguments in enumerate(filters, 2):
        talk.ask('basic.qos', ch, prefetch_count=10)
        arguments = {'x-stream-offset': 'first', **arguments}
        talk.ask('basic.consume', ch, queue='~q', consumer_tag='t', arguments=arguments)
        talk.ask('basic.cancel', ch, consumer_tag='t')
    talk.ask('queue.delete', queue='~q')


@scene
def delayed_retry_arguments(talk: Talker) -> None:
    talk.open(*range(1, 6))
    wrong: dict[str, Any] = {'x-delayed-retry-type': 'nonsense', 'x-delayed-retry-min': -1, 'x-delayed-retry-max': 'x'}
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', **wrong})
    talk.publish('', '~q', b'1')
    talk.settle(0.5)
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.reject', delivery_tag=1, requeue=True)
    talk.ask('basic.get', queue='~q', no_ack=True)
    queue(talk, ch=2, durable=True, arguments={'x-queue-type': 'quorum', **wrong, 'x-delayed-retry-min': 5})
    queue(talk, '~r', 3, arguments={'x-delayed-retry-type': 'all'})
    queue(talk, '~s', 4, durable=True, arguments={'x-queue-type': 'stream', 'x-delayed-retry-max': 5})
    talk.ask('queue.delete', 5, queue='~q')
    talk.ask('queue.delete', 5, queue='~s')


def _given_back_late(talk: Talker, kind: str, *methods: str) -> None:
    """'1' is given back by each method; after the last it waits, and is not ready: 2.5 s, or 5 after two failures."""
    talk.open(1, 2)
    late = {'x-delayed-retry-type': kind, 'x-delayed-retry-min': 2500, 'x-delayed-retry-max': 10_000}
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', **late})
    talk.ask('confirm.select')
    for body in (b'1', b'2'):
        talk.publish('', '~q', body)
        talk.settle(0.5)
    for tag, method in enumerate(methods, 1):
        talk.ask('basic.get', queue='~q')
        talk.ask(method, delivery_tag=tag, requeue=True)
    for wait in (2.6, 2.5):
        talk.ask('queue.declare', 2, queue='~q', passive=True)
        talk.settle(wait)
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('queue.delete', queue='~q')


@scene
def delayed_retry_of_all(talk: Talker) -> None:
    _given_back_late(talk, 'all', 'basic.reject')


@scene
def delayed_retry_of_failed(talk: Talker) -> None:
    _given_back_late(talk, 'failed', 'basic.nack', 'basic.reject')


@scene
def delayed_retry_of_returned(talk: Talker) -> None:
    _given_back_late(talk, 'returned', 'basic.reject', 'basic.reject', 'basic.nack')


@scene
def delayed_retry_purged(talk: Talker) -> None:
    talk.open(1, 2)
    late = {'x-delayed-retry-type': 'all', 'x-delayed-retry-min': 3000}
    queue(talk, durable=True, arguments={'x-queue-type': 'quorum', **late})
    talk.ask('confirm.select')
    for body in (b'1', b'2'):
        talk.publish('', '~q', body)
        talk.settle(0.5)
    talk.ask('basic.get', queue='~q')
    talk.send('channel.close')
    talk.settle()
    talk.ask('queue.declare', 2, queue='~q', passive=True)
    talk.ask('queue.purge', 2, queue='~q')
    talk.settle(3.5)
    talk.ask('basic.get', 2, queue='~q', no_ack=True)
    talk.ask('queue.delete', 2, queue='~q')
