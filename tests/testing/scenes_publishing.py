"""Publishing: errors, confirms, transactions, limits of queues, dead letters.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from conversations import Talker
from scenes import queue, scene


@scene
def publish_errors(talk: Talker) -> None:
    talk.open(1, 2, 3, 4, 5)
    talk.publish('~missing', 'k')
    talk.settle()
    talk.publish('', 'nowhere', b'back', ch=2, mandatory=True, content_type='text/plain')
    talk.settle()
    talk.publish('', 'nowhere', ch=2, user_id='somebody')
    talk.settle()
    for channel, expiration in ((3, 'abc'), (4, '5x'), (5, '-1')):
        talk.publish('', 'nowhere', ch=channel, expiration=expiration)
        talk.settle()


@scene
def publish_immediate(talk: Talker) -> None:
    talk.open(1)
    talk.publish('', 'nowhere', immediate=True)
    talk.settle()


@scene
def publish_expiration_values(talk: Talker) -> None:
    talk.open(*range(1, 9))
    for channel, value in enumerate(('', '1.5', ' 5', '+5', '99999999999999999999', '1e3', '4294967296', '0'), 1):
        talk.publish('', 'nowhere', ch=channel, expiration=value, mandatory=True)
        talk.settle()


@scene
def confirms(talk: Talker) -> None:
    talk.open(1, 2)
    talk.ask('confirm.select')
    queue(talk)
    talk.publish('', '~q')
    talk.settle()
    talk.publish('', 'nowhere', mandatory=True)
    talk.settle()
    talk.publish('', 'nowhere')
    talk.settle()
    talk.ask('confirm.select', nowait=True)
    talk.ask('tx.select')
    talk.ask('tx.select', 2)
    talk.ask('confirm.select', 2)


@scene
def many_confirms_at_once(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('confirm.select')
    talk.publish('', '~q')
    talk.settle()
    talk.publish('', 'nowhere', mandatory=True)
    talk.settle()
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def transactions(talk: Talker) -> None:
    talk.open(1, 2, 3)
    queue(talk)
    talk.ask('tx.select')
    talk.publish('', '~q', b'1')
    talk.publish('', 'nowhere', b'back', mandatory=True)
    talk.ask('queue.declare', queue='~q', passive=True)
    talk.ask('tx.commit')
    talk.publish('', '~q', b'2')
    talk.ask('tx.rollback')
    talk.ask('queue.declare', queue='~q', passive=True)
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.ack', delivery_tag=1)
    talk.ask('tx.rollback')
    talk.ask('basic.ack', delivery_tag=1)
    talk.ask('tx.commit')
    talk.ask('tx.commit', 2)
    talk.ask('tx.rollback', 3)


@scene
def transactions_with_rejects(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('tx.select')
    for number in range(3):
        talk.publish('', '~q', str(number).encode())
    talk.ask('tx.commit')
    for _ in range(3):
        talk.ask('basic.get', queue='~q')
    talk.ask('basic.nack', delivery_tag=2, multiple=True, requeue=True)
    talk.ask('queue.declare', queue='~q', exclusive=True)
    talk.ask('tx.commit')
    talk.ask('queue.declare', queue='~q', exclusive=True)
    talk.ask('basic.ack', delivery_tag=2)


@scene
def transaction_that_cannot_be_carried_out(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    talk.ask('tx.select')
    talk.publish('', '~q', b'1')
    talk.publish('', '~q', b'2')
    talk.ask('tx.commit')
    talk.ask('queue.declare', queue='~q', passive=True)


@scene
def large_bodies(talk: Talker) -> None:
    talk.open(1, tune={'channel_max': 10, 'frame_max': 8192, 'heartbeat': 0})
    queue(talk)
    for size in (0, 1, 8184, 8185, 20000):
        talk.send('basic.publish', 1, exchange='', routing_key='~q', body=b'x' * size, limit=8192)
        talk.settle()
        talk.ask('basic.get', queue='~q', no_ack=True)


@scene
def time_to_live(talk: Talker) -> None:
    talk.open(1)
    queue(talk, '~dead')
    queue(talk, arguments={'x-message-ttl': 100, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~dead'})
    talk.publish('', '~q', b'1', expiration='20')
    talk.publish('', '~q', b'2')
    talk.settle(0.5)
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.get', queue='~dead')
    talk.ask('basic.get', queue='~dead')


@scene
def time_to_live_zero(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.publish('', '~q', b'1', expiration='0')
    talk.settle()
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.consume', queue='~q', consumer_tag='a')
    talk.publish('', '~q', b'2', expiration='0')
    talk.settle()


@scene
def dead_letters(talk: Talker) -> None:
    talk.open(1)
    queue(talk, '~dead')
    talk.ask('exchange.declare', exchange='~dlx', type='fanout', auto_delete=True)
    talk.ask('queue.bind', queue='~dead', exchange='~dlx')
    queue(talk, arguments={'x-dead-letter-exchange': '~dlx', 'x-max-length': 2})
    for number in range(4):
        talk.publish('', '~q', str(number).encode(), application_headers={'CC': ['~x'], 'own': 1}, expiration='60000')
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.reject', delivery_tag=1, requeue=False)
    for _ in range(4):
        talk.ask('basic.get', queue='~dead', no_ack=True)


@scene
def dead_letters_in_circles(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~r'})
    queue(talk, '~r', arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~q', 'x-message-ttl': 20})
    talk.publish('', '~q', b'round')
    for number in (1, 2, 3):
        talk.ask('basic.get', queue='~q')
        talk.send('basic.reject', delivery_tag=number, requeue=False)
        talk.settle(0.3)
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.publish('', '~r', b'automatic')
    talk.settle(0.3)
    talk.ask('basic.get', queue='~q', no_ack=True)


@scene
def reject_publish(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    talk.ask('confirm.select')
    for number in range(3):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.get', queue='~q')


@scene
def reject_publish_dlx(talk: Talker) -> None:
    talk.open(1)
    queue(talk, '~dead')
    queue(talk, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish-dlx', 'x-dead-letter-exchange': '',
                           'x-dead-letter-routing-key': '~dead'})  # fmt: skip
    talk.ask('confirm.select')
    for number in range(2):
        talk.publish('', '~q', str(number).encode())
        talk.settle()
    talk.ask('basic.get', queue='~dead')


@scene
def limit_of_bytes(talk: Talker) -> None:
    talk.open(1)
    queue(talk, arguments={'x-max-length-bytes': 10})
    for body in (b'1234', b'5678', b'abcd', b'12345678901'):
        talk.publish('', '~q', body)
    for _ in range(3):
        talk.ask('basic.get', queue='~q', no_ack=True)


@scene
def dead_letters_to_a_quorum_queue(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, '~dead', durable=True, arguments={'x-queue-type': 'quorum'})
    queue(talk, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~dead'})
    talk.publish('', '~q', b'1')
    talk.settle()
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.reject', delivery_tag=1, requeue=False)
    talk.settle(0.5)
    talk.ask('basic.get', queue='~dead', no_ack=True)
    talk.ask('queue.delete', 2, queue='~dead')


@scene
def dead_letter_to_a_consumer_that_waits(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, '~dead')
    talk.ask('basic.consume', 2, queue='~dead', consumer_tag='d')
    queue(talk, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~dead'})
    talk.publish('', '~q', b'1')
    talk.settle()
    talk.ask('basic.get', queue='~q')
    talk.ask('basic.reject', delivery_tag=1, requeue=False)


@scene
def more_given_back_than_there_is_room_for(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk, '~q', arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    queue(talk, '~r', arguments={'x-max-length': 1})
    for name in ('~q', '~r'):
        talk.publish('', name, b'1')
        talk.ask('basic.get', queue=name)
        talk.publish('', name, b'2')
        talk.settle()
    talk.ask('basic.nack', delivery_tag=0, multiple=True, requeue=True)
    for name in ('~q', '~r'):
        talk.ask('basic.get', queue=name, no_ack=True)
        talk.ask('basic.get', queue=name, no_ack=True)


@scene
def dead_letters_count_failed_deliveries(talk: Talker) -> None:
    talk.open(1)
    tag = 0
    for last in ('nack', 'reject'):
        for first in ('', 'nack', 'reject'):
            queue(talk, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~dead'})
            talk.ask('queue.declare', queue='~dead', durable=True, arguments={'x-queue-type': 'quorum'})
            talk.publish('', '~q', b'1')
            talk.settle()
            for method, requeue in ((first, True), (last, False)):
                if method:
                    talk.ask('basic.get', queue='~q')
                    tag += 1
                    talk.ask(f'basic.{method}', delivery_tag=tag, requeue=requeue)
            talk.ask('basic.get', queue='~dead')
            tag += 1
            talk.ask('queue.delete', queue='~dead')
            talk.ask('queue.delete', queue='~q')
