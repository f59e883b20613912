"""Consumers, acks and what comes again; priorities; direct replies.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from conversations import Talker
from scenes import queue, scene


@scene
def get_and_acks(talk: Talker) -> None:
    talk.open(1, 2, 3)
    queue(talk)
    talk.ask('basic.get', queue='~q')
    for body in (b'1', b'2', b'3', b'4'):
        talk.publish('', '~q', body, delivery_mode=2, application_headers={'n': 1})
    for _ in range(4):
        talk.ask('basic.get', queue='~q')
    talk.ask('basic.nack', delivery_tag=2, requeue=True)
    talk.ask('basic.reject', delivery_tag=1, requeue=True)
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.ack', delivery_tag=4, multiple=True)
    talk.ask('basic.recover', requeue=True)
    talk.ask('basic.get', queue='~q')
    talk.ask('queue.declare', queue='~q', passive=True)
    talk.ask('basic.ack', delivery_tag=77)
    talk.ask('basic.get', 2, queue='~missing')
    talk.ask('basic.ack', 3, delivery_tag=0, multiple=True)
    talk.ask('basic.nack', 3, delivery_tag=0, multiple=False)


@scene
def recover_without_requeue(talk: Talker) -> None:
    talk.open(1)
    talk.ask('basic.recover', requeue=False)


@scene
def consume_and_prefetch(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('basic.qos', prefetch_count=2)
    for number in range(5):
        talk.publish('', '~q', str(number).encode())
    talk.ask('basic.consume', queue='~q', consumer_tag='a')
    talk.ask('basic.ack', delivery_tag=1)
    talk.ask('basic.nack', delivery_tag=2, requeue=True)
    talk.ask('basic.nack', delivery_tag=0, multiple=True, requeue=False)
    talk.ask('basic.cancel', consumer_tag='a')
    talk.ask('basic.cancel', consumer_tag='never')
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def two_consumers_take_turns(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a', no_ack=True)
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b', no_ack=True)
    for number in range(6):
        talk.publish('', '~q', str(number).encode())
        talk.settle()


@scene
def consumer_priorities(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.ask('basic.qos', 1, prefetch_count=1)
    talk.ask('basic.qos', 2, prefetch_count=1)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b', arguments={'x-priority': 5})
    for number in range(4):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.ack', 1, delivery_tag=1)
    talk.ask('basic.ack', 2, delivery_tag=1)


@scene
def consumer_errors(talk: Talker) -> None:
    talk.open(1, 2, 3, 4)
    queue(talk)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a', exclusive=True)
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b')
    talk.ask('basic.consume', 3, queue='~missing', consumer_tag='b')
    talk.ask('basic.consume', 4, queue='~q', arguments={'x-priority': 'high'})
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')


@scene
def exclusive_consumer_beside_another(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b', exclusive=True)


@scene
def global_prefetch(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    queue(talk, '~r')
    talk.send('basic.qos', **{'prefetch_count': 2, 'global': True})
    talk.settle()
    talk.ask('basic.consume', queue='~q', consumer_tag='a')
    talk.ask('basic.consume', queue='~r', consumer_tag='b')
    for number in range(5):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    for number in range(1, 6):
        talk.ask('basic.ack', delivery_tag=number)
    talk.publish('', '~r', b'r')
    talk.settle()


@scene
def prefetch_size(talk: Talker) -> None:
    talk.open(1)
    talk.ask('basic.qos', prefetch_size=5)


@scene
def single_active_consumer(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, arguments={'x-single-active-consumer': True})
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='b')
    for number in range(3):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.cancel', 1, consumer_tag='a')
    talk.publish('', '~q', b'later', ch=2)
    talk.settle()
    talk.ask('channel.close', 1)


@scene
def channel_close_gives_back(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    for number in range(3):
        talk.publish('', '~q', str(number).encode(), ch=2)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('channel.close', 1)
    talk.ask('channel.open', 1)
    for _ in range(3):
        talk.ask('basic.get', 1, queue='~q')


@scene
def queue_delete_cancels(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.publish('', '~q')
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('queue.delete', 2, queue='~q', if_unused=True)
    talk.ask('channel.open', 3)
    talk.ask('queue.delete', 3, queue='~q')
    talk.ask('basic.ack', 1, delivery_tag=1)
    talk.ask('queue.delete', 3, queue='~q')


@scene
def queue_delete_if_empty(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.publish('', '~q')
    talk.settle()
    talk.ask('queue.delete', 2, queue='~q', if_empty=True)
    talk.ask('queue.purge', queue='~q')
    talk.ask('queue.purge', queue='~missing')


@scene
def auto_delete_queue(talk: Talker) -> None:
    talk.open(1)
    queue(talk, auto_delete=True)
    talk.ask('basic.consume', 1, queue='~q', consumer_tag='a')
    talk.ask('basic.cancel', 1, consumer_tag='a')
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def priorities(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-max-priority': 5})
    for number, priority in enumerate((0, 3, None, 9, 5, 1)):
        talk.publish('', '~q', str(number).encode(), **({} if priority is None else {'priority': priority}))
    for _ in range(6):
        talk.ask('basic.get', queue='~q')
    talk.ask('basic.nack', delivery_tag=0, multiple=True, requeue=True)
    for _ in range(6):
        talk.ask('basic.get', queue='~q', no_ack=True)


@scene
def direct_reply_to(talk: Talker) -> None:
    talk.open(1, 2, 3, 4, 5)
    talk.publish('', 'nowhere', reply_to='amq.rabbitmq.reply-to')
    talk.settle()
    talk.ask('basic.consume', 2, queue='amq.rabbitmq.reply-to', consumer_tag='r')
    talk.ask('basic.consume', 3, queue='amq.rabbitmq.reply-to', consumer_tag='r', no_ack=True)
    queue(talk, ch=3)
    talk.publish('', '~q', b'question', ch=3, reply_to='amq.rabbitmq.reply-to')
    talk.settle()  # the next method goes another way, and may be there before the message
    talk.ask('basic.get', 4, queue='~q', no_ack=True)
    talk.ask('basic.consume', 3, queue='amq.rabbitmq.reply-to', consumer_tag='s', no_ack=True)
    talk.ask('queue.declare', 5, queue='amq.rabbitmq.reply-to', passive=True)
    talk.publish('', 'amq.rabbitmq.reply-to.nonsense', ch=5, mandatory=True)
    talk.settle()


@scene
def cancelled_with_all_prefetch_taken(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('basic.qos', prefetch_count=1)
    talk.ask('basic.consume', queue='~q', consumer_tag='a')
    for number in range(3):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.cancel', consumer_tag='a')
    talk.ask('basic.ack', delivery_tag=1)
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def recover_redelivers(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('basic.consume', queue='~q', consumer_tag='a')
    for number in range(2):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.recover', requeue=True)
    talk.ask('basic.recover-async', requeue=True)
    talk.ask('basic.ack', delivery_tag=6, multiple=True)
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def queue_declared_again_while_consumed(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('basic.consume', queue='~q', consumer_tag='a', no_ack=True, nowait=True)
    talk.ask('queue.declare', queue='~q', exclusive=True)
    talk.ask('queue.declare', queue='~q', exclusive=True, nowait=True)
    talk.ask('queue.purge', queue='~q', nowait=True)
    talk.ask('queue.bind', queue='~q', exchange='amq.fanout', nowait=True)
    talk.publish('amq.fanout', '', b'x')
    talk.settle()
    talk.ask('basic.cancel', consumer_tag='a', nowait=True)
    talk.ask('queue.delete', queue='~q', nowait=True)
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def delete_if_empty_and_unused(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.ask('basic.qos', 2, prefetch_count=1)
    talk.ask('basic.consume', 2, queue='~q', consumer_tag='c')
    talk.publish('', '~q', b'1')
    talk.publish('', '~q', b'2')
    talk.settle()
    talk.ask('queue.delete', queue='~q', if_empty=True, if_unused=True)


@scene
def exclusive_consumer_of_a_single_active_queue(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-single-active-consumer': True})
    talk.ask('basic.consume', queue='~q', consumer_tag='c', exclusive=True)
