"""Declarations of queues and exchanges, with each argument.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from typing import Any

from conversations import Talker
from scenes import SCENES

DECLARE: dict[str, dict[str, Any]] = {
    'durable': {'queue': '~q', 'durable': True},
    'exclusive': {'queue': '~q', 'exclusive': True},
    'no name': {'exclusive': True},
    'passive and missing': {'queue': '~missing', 'passive': True},
    'reserved name': {'queue': 'amq.mine'},
    'reserved name, passive': {'queue': 'amq.mine', 'passive': True},
    'transient': {'queue': '~q'},
    'auto-delete': {'queue': '~q', 'durable': True, 'auto_delete': True},
    'line ends': {'queue': '~q\n', 'exclusive': True},
    'default in passive': {'queue': '', 'passive': True},
    'quorum': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'quorum'}},
    'quorum transient': {'queue': '~q', 'arguments': {'x-queue-type': 'quorum'}},
    'quorum exclusive': {'queue': '~q', 'exclusive': True, 'arguments': {'x-queue-type': 'quorum'}},
    'quorum exclusive durable': {
        'queue': '~q',
        'durable': True,
        'exclusive': True,
        'arguments': {'x-queue-type': 'quorum'},
    },
    'quorum auto-delete': {
        'queue': '~q',
        'durable': True,
        'auto_delete': True,
        'arguments': {'x-queue-type': 'quorum'},
    },
    'quorum without name': {'durable': True, 'arguments': {'x-queue-type': 'quorum'}},
    'quorum priority': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'quorum', 'x-max-priority': 5}},
    'quorum lazy': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'quorum', 'x-queue-mode': 'lazy'}},
    'stream': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'stream'}},
    'stream transient': {'queue': '~q', 'arguments': {'x-queue-type': 'stream'}},
    'stream ttl': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'stream', 'x-message-ttl': 5}},
    'stream max-length': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'stream', 'x-max-length': 5}},
    'unknown type': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 'nonsense'}},
    'type no text': {'queue': '~q', 'durable': True, 'arguments': {'x-queue-type': 5}},
}
ARGUMENTS: list[tuple[str, Any]] = [
    *(('x-message-ttl', value) for value in (0, 5, -1, 'a', 2**32, 2**33, True, 1.5, None, 2**40)),
    *(('x-expires', value) for value in (0, 5000, -1, 'a', 2**32)),
    *(('x-max-length', value) for value in (0, 5, -1, 'a', True)),
    *(('x-max-length-bytes', value) for value in (0, -1, 'a')),
    *(('x-max-priority', value) for value in (0, 10, 256, -1, 'a')),
    *(('x-overflow', value) for value in ('drop-head', 'reject-publish', 'reject-publish-dlx', 'nonsense', 5)),
    *(('x-dead-letter-exchange', value) for value in ('', '~x', 5)),
    *(('x-dead-letter-routing-key', value) for value in ('k', 5)),
    *(('x-single-active-consumer', value) for value in (True, False, 1, 'true')),
    *(('x-queue-mode', value) for value in ('lazy', 'default', 'nonsense', 5)),
    *(('x-queue-version', value) for value in (1, 2, 3, 'a')),
    *(('x-delivery-limit', value) for value in (5, -1, 'a')),
    *(('x-queue-type', value) for value in ('classic',)),
    *(('x-unknown', value) for value in (5,)),
    ('x-max-age', '1D'),
    ('x-consumer-timeout', 5000),
    ('x-consumer-timeout', -5),
]
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ('as before', {}, {}),
    ('passive', {}, {'passive': True}),
    ('not durable', {}, {'durable': False}),
    ('auto-delete', {}, {'auto_delete': True}),
    ('exclusive', {}, {'exclusive': True}),
    ('other ttl', {'arguments': {'x-message-ttl': 5000}}, {'arguments': {'x-message-ttl': 6000}}),
    ('no ttl', {'arguments': {'x-message-ttl': 5000}}, {'arguments': {}}),
    ('new ttl', {}, {'arguments': {'x-message-ttl': 5000}}),
    ('other type of number', {'arguments': {'x-message-ttl': 5000}}, {'arguments': {'x-message-ttl': '5000'}}),
    ('new priority', {}, {'arguments': {'x-max-priority': 5}}),
    ('new dlx', {}, {'arguments': {'x-dead-letter-exchange': 'a'}}),
    ('other dlx', {'arguments': {'x-dead-letter-exchange': 'b'}}, {'arguments': {'x-dead-letter-exchange': 'a'}}),
    ('new overflow', {}, {'arguments': {'x-overflow': 'drop-head'}}),
    ('new limit', {}, {'arguments': {'x-max-length': 5}}),
    ('new limit of bytes', {}, {'arguments': {'x-max-length-bytes': 5}}),
    ('new expires', {}, {'arguments': {'x-expires': 500000}}),
    ('single active', {}, {'arguments': {'x-single-active-consumer': True}}),
    ('classic by name', {}, {'arguments': {'x-queue-type': 'classic'}}),
    ('quorum now', {}, {'arguments': {'x-queue-type': 'quorum'}}),
    ('mode', {}, {'arguments': {'x-queue-mode': 'lazy'}}),
    ('unknown', {}, {'arguments': {'x-unknown': 'lazy'}}),
    ('two at once', {}, {'arguments': {'x-max-length': 5, 'x-message-ttl': 5}, 'durable': False}),
    ('delivery limit', {}, {'arguments': {'x-delivery-limit': 5}}),
]
EXCHANGES: dict[str, dict[str, Any]] = {
    **{kind: {'exchange': '~x', 'type': kind} for kind in ('direct', 'fanout', 'topic', 'headers')},
    'unknown type': {'exchange': '~x', 'type': 'nonsense'},
    'no type': {'exchange': '~x', 'type': ''},
    'default': {'exchange': '', 'type': 'direct'},
    'default passive': {'exchange': '', 'type': 'direct', 'passive': True},
    'reserved': {'exchange': 'amq.mine', 'type': 'direct'},
    'missing passive': {'exchange': '~missing', 'type': 'direct', 'passive': True},
    'predeclared': {'exchange': 'amq.direct', 'type': 'direct', 'durable': True},
    'predeclared, other type': {'exchange': 'amq.direct', 'type': 'topic', 'durable': True},
    'predeclared, not durable': {'exchange': 'amq.direct', 'type': 'direct'},
    'alternate no text': {'exchange': '~x', 'type': 'direct', 'arguments': {'alternate-exchange': 5}},
    'alternate missing': {'exchange': '~x', 'type': 'direct', 'arguments': {'alternate-exchange': '~nowhere'}},
    'no wait': {'exchange': '~x', 'type': 'direct', 'nowait': True},
}


def _declaring(name: str, arguments: dict[str, Any]) -> None:
    def declares(talk: Talker) -> None:
        talk.open(1)
        talk.ask('queue.declare', **arguments)
        talk.ask('queue.delete', queue=arguments.get('queue', ''))

    SCENES[f'queue declare {name}'] = declares


def _with_argument(name: str, value: Any) -> None:
    def declares(talk: Talker) -> None:
        talk.open(1)
        talk.ask('queue.declare', queue='~q', exclusive=True, arguments={name: value})

    SCENES[f'queue argument {name} {value!r}'] = declares


def _again(name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    def declares(talk: Talker) -> None:
        talk.open(1, 2)
        talk.ask('queue.declare', queue='~q', **{'durable': True, **first})
        talk.ask('queue.declare', queue='~q', **{'durable': True, **first, **second})
        talk.ask('queue.delete', 2, queue='~q')

    SCENES[f'queue again {name}'] = declares


def _exchange(name: str, arguments: dict[str, Any]) -> None:
    def declares(talk: Talker) -> None:
        talk.open(1, 2)
        talk.ask('exchange.declare', **arguments)
        talk.ask('exchange.delete', 2, exchange=arguments['exchange'])

    SCENES[f'exchange declare {name}'] = declares


for _name, _arguments in DECLARE.items():
    _declaring(_name, _arguments)
for _name, _value in ARGUMENTS:
    _with_argument(_name, _value)
for _row in SAME:
    _again(*_row)
for _name, _arguments in EXCHANGES.items():
    _exchange(_name, _arguments)
