"""Exchanges and bindings, and where they lead a message.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from typing import Any

from conversations import Talker
from scenes import queue, scene


@scene
def exchange_again_with_other_type(talk: Talker) -> None:
    talk.open(1, 2, 3)
    talk.ask('exchange.declare', exchange='~x', type='direct')
    talk.ask('exchange.declare', exchange='~x', type='fanout')
    talk.ask('exchange.declare', 2, exchange='~x', type='direct', internal=True)
    talk.ask('exchange.delete', 3, exchange='~x')


@scene
def exchange_again_auto_delete_and_alternate(talk: Talker) -> None:
    talk.open(1, 2, 3)
    talk.ask('exchange.declare', exchange='~x', type='direct')
    talk.ask('exchange.declare', exchange='~x', type='direct', auto_delete=True)
    talk.ask('exchange.declare', 2, exchange='~x', type='direct', arguments={'alternate-exchange': 'amq.fanout'})
    talk.ask('exchange.delete', 3, exchange='~x')


@scene
def exchange_delete(talk: Talker) -> None:
    talk.open(1, 2, 3)
    talk.ask('exchange.declare', exchange='~x', type='direct')
    queue(talk)
    talk.ask('queue.bind', queue='~q', exchange='~x', routing_key='k')
    talk.ask('exchange.delete', 2, exchange='~x', if_unused=True)
    talk.ask('exchange.delete', 1, exchange='~x')
    talk.ask('exchange.delete', 1, exchange='~x')
    talk.ask('exchange.delete', 1, exchange='amq.direct')
    talk.ask('exchange.delete', 3, exchange='')


@scene
def bind_to_what_is_missing(talk: Talker) -> None:
    talk.open(1, 2, 3, 4)
    queue(talk)
    talk.ask('queue.bind', 1, queue='~q', exchange='~missing', routing_key='k')
    talk.ask('queue.bind', 2, queue='~missing', exchange='amq.direct', routing_key='k')
    talk.ask('queue.bind', 3, queue='~missing', exchange='~missing', routing_key='k')
    talk.ask('queue.bind', 4, queue='~q', exchange='', routing_key='k')


@scene
def exchange_bind_errors(talk: Talker) -> None:
    talk.open(1, 2, 3, 4)
    talk.ask('exchange.bind', 1, destination='~missing', source='amq.direct', routing_key='k')
    talk.ask('exchange.bind', 2, destination='amq.direct', source='~missing', routing_key='k')
    talk.ask('exchange.bind', 3, destination='', source='amq.direct', routing_key='k')
    talk.ask('exchange.bind', 4, destination='amq.direct', source='', routing_key='k')


@scene
def unbind(talk: Talker) -> None:
    talk.open(1, 2, 3)
    queue(talk)
    talk.ask('queue.unbind', queue='~q', exchange='amq.direct', routing_key='never')
    talk.ask('queue.unbind', queue='~missing', exchange='amq.direct', routing_key='never')
    talk.ask('queue.unbind', 2, queue='~q', exchange='~missing', routing_key='never')
    talk.ask('queue.bind', 3, queue='~q', exchange='amq.direct', routing_key='k')
    talk.ask('queue.unbind', 3, queue='~q', exchange='amq.direct', routing_key='k')
    talk.publish('amq.direct', 'k', ch=3, mandatory=True)
    talk.settle()
    talk.ask('exchange.unbind', 3, destination='amq.fanout', source='amq.direct', routing_key='k')


@scene
def last_declared_queue(talk: Talker) -> None:
    talk.open(1, 2, 3)
    talk.ask('queue.declare', queue='', exclusive=True)
    talk.ask('queue.bind', queue='', exchange='amq.fanout', routing_key='')
    talk.ask('queue.purge', queue='')
    talk.ask('basic.consume', queue='', consumer_tag='t')
    talk.ask('queue.delete', queue='')
    talk.ask('queue.purge', 2, queue='')
    talk.ask('basic.consume', 3, queue='')


@scene
def topic_patterns(talk: Talker) -> None:
    talk.open(1)
    for number, pattern in enumerate(('#', '*', 'a.#', 'a.*', '#.b', '*.*', 'a.#.b', '', '#.#', 'a..b')):
        queue(talk, f'~q{number}')
        talk.ask(
            'queue.bind', queue=f'~q{number}', exchange='amq.topic', routing_key=f'~.{pattern}' if number else '~.#'
        )
    for key in ('', 'a', 'a.b', 'b', 'a.b.c', 'a.c.b', 'a..b', '.', '..'):
        talk.publish('amq.topic', f'~.{key}', key.encode())
    for number in range(10):
        for _ in range(10):
            talk.send('basic.get', queue=f'~q{number}', no_ack=True)
        talk.settle()


@scene
def headers_exchange(talk: Talker) -> None:
    talk.open(1)
    talk.ask('exchange.declare', exchange='~x', type='headers', auto_delete=True)
    bindings: list[dict[str, Any]] = [
        {},
        {'a': 1},
        {'a': 1, 'b': 'x'},
        {'x-match': 'any', 'a': 1, 'b': 'x'},
        {'x-match': 'any'},
        {'x-match': 'all', 'x-c': 1},
        {'x-match': 'all-with-x', 'x-c': 1},
        {'x-match': 'any-with-x', 'x-c': 1, 'a': 7},
        {'a': None},
        {'a': '1'},
        {'x-match': 'any', 'x-c': 1},
        {'a': True},
    ]
    for number, arguments in enumerate(bindings):
        queue(talk, f'~q{number}')
        talk.ask('queue.bind', queue=f'~q{number}', exchange='~x', routing_key='', arguments=arguments)
    for at, headers in enumerate(
        ({}, {'a': 1}, {'b': 'x'}, {'a': 1, 'b': 'x'}, {'x-c': 1}, {'a': 7}, {'a': 1.0}, {'a': '1'})
    ):
        talk.publish('~x', '', str(at).encode(), application_headers=headers)
    talk.publish('~x', '', b'none')
    for number in range(len(bindings)):
        for _ in range(9):
            talk.send('basic.get', queue=f'~q{number}', no_ack=True)
        talk.settle()


@scene
def headers_wrong_match(talk: Talker) -> None:
    talk.open(1, 2)
    queue(talk)
    talk.ask('queue.bind', 1, queue='~q', exchange='amq.headers', arguments={'x-match': 'nonsense'})
    talk.ask('queue.bind', 2, queue='~q', exchange='amq.headers', arguments={'x-match': 5})


@scene
def alternate_and_internal(talk: Talker) -> None:
    talk.open(1, 2)
    talk.ask('exchange.declare', exchange='~alt', type='fanout', auto_delete=True)
    talk.ask(
        'exchange.declare', exchange='~x', type='direct', arguments={'alternate-exchange': '~alt'}, auto_delete=True
    )
    talk.ask('exchange.declare', exchange='~in', type='fanout', internal=True, auto_delete=True)
    queue(talk)
    queue(talk, '~r')
    talk.ask('queue.bind', queue='~q', exchange='~alt')
    talk.ask('queue.bind', queue='~r', exchange='~in')
    talk.ask('exchange.bind', destination='~in', source='~x', routing_key='in')
    talk.publish('~x', 'nowhere', b'1', mandatory=True)
    talk.publish('~x', 'in', b'2')
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('basic.get', queue='~r', no_ack=True)
    talk.publish('~in', 'in', b'2', ch=2)
    talk.settle()


@scene
def exchange_auto_delete_cascade(talk: Talker) -> None:
    talk.open(1, 2)
    for name in ('~a', '~b', '~c'):
        talk.ask('exchange.declare', exchange=name, type='fanout', auto_delete=True)
    queue(talk)
    talk.ask('exchange.bind', destination='~b', source='~a')
    talk.ask('exchange.bind', destination='~c', source='~b')
    talk.ask('queue.bind', queue='~q', exchange='~c')
    talk.publish('~a', '', b'through three')
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('queue.delete', queue='~q')
    talk.ask('exchange.declare', exchange='~a', type='fanout', passive=True)


@scene
def carbon_copies(talk: Talker) -> None:
    talk.open(1, 2, 3)
    for name in ('~q', '~r', '~s'):
        queue(talk, name)
    talk.publish('', '~q', b'1', application_headers={'CC': ['~r'], 'BCC': ['~s'], 'h': 1})
    for name in ('~q', '~r', '~s'):
        talk.ask('basic.get', queue=name, no_ack=True)
    talk.publish('', '~q', b'1', ch=2, application_headers={'CC': '~r'})
    talk.settle()
    talk.publish('', '~q', b'1', ch=3, application_headers={'BCC': 5})
    talk.settle()


@scene
def exchange_bindings(talk: Talker) -> None:
    talk.open(1)
    for name, kind in (('~a', 'topic'), ('~b', 'direct')):
        talk.ask('exchange.declare', exchange=name, type=kind, auto_delete=True)
    queue(talk)
    talk.ask('exchange.bind', destination='~b', source='~a', routing_key='x.#')
    talk.ask('exchange.bind', destination='~b', source='~a', routing_key='x.#')
    talk.ask('exchange.bind', destination='~a', source='~b', routing_key='x.y')
    talk.ask('queue.bind', queue='~q', exchange='~b', routing_key='x.y')
    talk.publish('~a', 'x.y', b'once', mandatory=True)
    talk.publish('~a', 'z', b'back', mandatory=True)
    talk.settle()
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('exchange.unbind', destination='~b', source='~a', routing_key='x.#')
    talk.ask('exchange.declare', exchange='~a', type='topic', passive=True)
    talk.ask('exchange.declare', exchange='~b', type='topic', passive=True)


@scene
def odd_names(talk: Talker) -> None:
    talk.open(1)
    for name in ('~\u00fcml\u00e4ut', '~with space', "~quote'd"):
        queue(talk, name)
        talk.publish('', talk.prefix + name[1:], b'x', mandatory=True)
        talk.ask('basic.get', queue=name, no_ack=True)
    talk.ask('queue.declare', queue="~quote'd missing", passive=True)


@scene
def local_random_exchange(talk: Talker) -> None:
    talk.open(*range(1, 7))
    talk.ask('exchange.declare', exchange='~x', type='x-local-random', auto_delete=True)
    talk.publish(f'{talk.prefix}x', 'any', mandatory=True)
    talk.settle()
    queue(talk)
    talk.ask('queue.bind', queue='~q', exchange='~x', routing_key='')
    talk.ask('queue.bind', queue='~q', exchange='~x', routing_key='', arguments={'a': 1})
    talk.publish(f'{talk.prefix}x', 'any', mandatory=True)
    talk.ask('basic.get', queue='~q', no_ack=True)
    talk.ask('queue.bind', 2, queue='~q', exchange='~x', routing_key='k')
    talk.ask('exchange.bind', 3, destination='amq.fanout', source='~x', routing_key='')
    talk.ask('exchange.bind', 3, destination='amq.fanout', source='~x', routing_key='k')
    for ch, kind in ((4, 'quorum'), (5, 'stream')):
        queue(talk, f'~{kind}', ch, durable=True, arguments={'x-queue-type': kind})
        talk.ask('queue.bind', ch, queue=f'~{kind}', exchange='~x', routing_key='')
        talk.ask('queue.delete', 6, queue=f'~{kind}')
    talk.ask('queue.bind', 6, queue='~missing', exchange='~x', routing_key='')


@scene
def local_random_exchange_chooses_one(talk: Talker) -> None:
    talk.open(1)
    talk.ask('exchange.declare', exchange='~x', type='x-local-random', auto_delete=True)
    for name in ('~a', '~b'):
        queue(
            talk, name, arguments={'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~all', 'x-max-length': 0}
        )
        talk.ask('queue.bind', queue=name, exchange='~x', routing_key='')
    queue(talk, '~all')
    for _ in range(5):
        talk.publish(f'{talk.prefix}x', '')
        talk.settle()
    talk.ask('queue.declare', queue='~all', passive=True)
