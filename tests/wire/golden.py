"""What a real RabbitMQ sent (``tests/data/*.hex``), what it means, and the same with faults."""

from __future__ import annotations

import os
import random
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import inside

DATA = os.path.join(os.path.dirname(__file__), '..', 'data')
NAMES = sorted(name.removesuffix('.hex') for name in os.listdir(DATA) if name.endswith('.hex'))


def load(name: str) -> bytes:
    with open(os.path.join(DATA, f'{name}.hex'), encoding='ascii') as lines:
        return bytes.fromhex(''.join(line for line in lines if not line.startswith('#')))


def meaning(event: Any) -> Any:
    """An event as plain values: tuples stay, a content becomes (method, delivery_info, properties, body)."""
    if isinstance(event, tuple):
        return event
    return inside.method_of(event), event.delivery_info, event.properties, event.body


def mutated(chance: random.Random, data: bytes) -> bytes:
    """*data* with a few bytes changed, cut, inserted or doubled."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out)) if out else 0
        kind = chance.randrange(5)
        if kind == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and out:
            out[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0xCE, chance.randrange(256)))
        elif kind == 2:
            del out[at : at + chance.randint(1, 8)]
        elif kind == 3:
            out[at:at] = chance.randbytes(chance.randint(1, 8))
        else:
            out[at:at] = out[at : at + chance.randint(1, 64)]
    return bytes(out)


_START = {
    'capabilities': {
        'publisher_confirms': True,
        'exchange_exchange_bindings': True,
        'basic.nack': True,
        'consumer_cancel_notify': True,
        'connection.blocked': True,
        'consumer_priorities': True,
        'authentication_failure_close': True,
        'per_consumer_qos': True,
        'direct_reply_to': True,
    },
    'cluster_name': 'gamqpwire@vm',
    'copyright': 'Copyright (c) 2007-2022 VMware, Inc. or its affiliates.',
    'information': 'Licensed under the MPL 2.0. Website: https://rabbitmq.com',
    'platform': 'Erlang/OTP 25.2.3',
    'product': 'RabbitMQ',
    'version': '3.10.8',
}
_WHEN = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
_ALL_TYPES = {
    'b': -2,
    'B': 254,
    's': -2,
    'u': 65534,
    'i': 2**32 - 2,
    'I': -2,
    'l': -2,
    'L': -2,
    'f': 1.5,
    'd': -2.25,
    'D': Decimal('1.50'),
    'S': 'grü',
    'x': b'\xff\x00',
    't': True,
    'T': _WHEN,
    'V': None,
    'A': [None, False, 7],
    'F': {'n': None},
    b'\xff\xfe': None,
    'bad': b'\xff',
}


def _delivery(tag: int) -> dict[str, Any]:
    return {
        'consumer_tag': 'ctag-1',
        'delivery_tag': tag,
        'redelivered': False,
        'exchange': '',
        'routing_key': 'golden',
    }


def _fetched(tag: int, key: str, count: int) -> dict[str, Any]:
    return {'delivery_tag': tag, 'redelivered': False, 'exchange': '', 'routing_key': key, 'message_count': count}


#: name -> events; what is missing here is tested by name.
EXPECTED: dict[str, list[Any]] = {
    'start': [(0, (10, 10), (0, 9, _START, 'AMQPLAIN PLAIN', 'en_US'))],
    'tune': [(0, (10, 30), (2047, 131072, 60))],
    'open-ok': [(0, (10, 41), ('',))],
    'channel-open-ok': [(1, (20, 11), ('',))],
    'queue-declare-ok': [(1, (50, 11), ('golden', 0, 0))],
    'consume-ok': [(1, (60, 21), ('ctag-1',))],
    'get-empty': [(1, (60, 72), ('',))],
    'cancel': [(1, (50, 41), (0,)), (1, (60, 30), ('ctag-1', True))],
    'confirm-select-ok': [(1, (85, 11), ())],
    'ack-multiple': [(1, (60, 80), (11, True))],
    'channel-close': [(1, (20, 40), (404, "NOT_FOUND - no queue 'absent' in vhost '/'", 50, 10))],
    'connection-close': [(0, (10, 50), (504, "CHANNEL_ERROR - expected 'channel.open'", 60, 10))],
    'blocked': [(0, (10, 60), ('low on memory',))],
    'unblocked': [(0, (10, 61), ())],
    'heartbeat': [],
    'deliver-empty': [((60, 60), _delivery(2), {}, b'')],
    'deliver-task': [
        (
            (60, 60),
            _delivery(3),
            {
                'content_type': 'application/json',
                'content_encoding': 'utf-8',
                'application_headers': {
                    'lang': 'py',
                    'task': 'add',
                    'retries': 0,
                    'eta': None,
                    'timelimit': [None, None],
                    'ignore_result': False,
                },
                'delivery_mode': 2,
                'priority': 0,
                'correlation_id': '0f9c1f0a-0f9c-4f0a-8f9c-1f0a0f9c1f0a',
                'reply_to': '1f9c1f0a',
                'user_id': 'guest',
            },
            b'[[1, 2], {}, {}]',
        )
    ],
    'deliver-all-types': [
        (
            (60, 60),
            _delivery(1),
            {
                'content_type': 'text/plain',
                'content_encoding': 'utf-8',
                'application_headers': _ALL_TYPES,
                'delivery_mode': 2,
                'priority': 5,
                'correlation_id': 'corr',
                'reply_to': 'reply',
                'expiration': '60000',
                'message_id': 'id-1',
                'timestamp': 1577934245,
                'type': 'kind',
                'app_id': 'app',
                'cluster_id': 'cluster',
            },
            b'hello',
        )
    ],
    'deliver-dead-letter': [
        (
            (60, 60),
            _delivery(4),
            {
                'application_headers': {
                    'a': 1,
                    'x-death': [
                        {
                            'count': 1,
                            'reason': 'expired',
                            'queue': 'golden-dl',
                            'time': datetime(2026, 11, 23, 16, 53, 44, tzinfo=timezone.utc),
                            'exchange': '',
                            'routing-keys': ['golden-dl'],
                        }
                    ],
                    'x-first-death-exchange': '',
                    'x-first-death-queue': 'golden-dl',
                    'x-first-death-reason': 'expired',
                }
            },
            b'dead',
        )
    ],
    'return': [
        (
            (60, 50),
            {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'nowhere'},
            {'delivery_mode': 1},
            b'lost',
        )
    ],
    'get-ok': [((60, 71), _fetched(5, 'golden-get', 1), {'message_id': 'm1'}, b'fetched')],
}
