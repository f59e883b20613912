"""Headers and properties through a real broker: what gamqp, py-amqp and pika each write, all three read the same.

py-amqp and pika block this thread while they wait, and nothing else runs here meanwhile.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import broker_tools
import pytest
from installed import is_installed

import gamqp

amqp = pytest.importorskip('amqp', reason='py-amqp is not installed')

WHEN = datetime(2026, 2, 3, 4, 5, 6)

VALUES: dict[str, Any] = {
    'true': True, 'false': False, 'none': None, 'empty': '', 'text': 'grüße 队列', 'zero': 0, 'one': 1, 'minus one': -1,
    'byte': 127, 'below a byte': -129, 'short': 32767, 'above a short': 32768, 'unsigned short': 65535,
    'int': 2**31 - 1, 'lowest int': -(2**31), 'above an int': 2**31, 'unsigned int': 2**32 - 1, 'above that': 2**32,
    'largest': 2**63 - 1, 'lowest': -(2**63), 'float': 1.5, 'small': -1e-300, 'decimal': Decimal('12.34'),
    'list': [1, 'two', [3.0, None, [True]], {'four': 4}], 'no list': [], 'table': {'a': {'b': [{'c': False}]}, 'd': {}},
    'k' * 128: 'a long name', 'schlüssel': 'a name that is not ASCII', 'bytes': b'\xff\x00\xfe', 'at': WHEN,
}  # fmt: skip
PROPERTIES = {
    'content_type': 'application/json', 'content_encoding': 'binary', 'delivery_mode': 2, 'priority': 5,
    'correlation_id': 'c-1', 'reply_to': 'somewhere', 'expiration': '60000', 'message_id': 'm-1', 'type': 'order',
    'user_id': 'guest', 'app_id': 'tests',
}  # fmt: skip


class Client:
    """One library: ``put`` and ``get`` a message of these properties; ``headers`` are one of them."""

    name = ''
    floats = True  # whether it can write them, and reads them whole

    def put(self, queue: str, body: bytes, headers: Any, **properties: Any) -> None:
        raise NotImplementedError

    def get(self, queue: str) -> tuple[bytes, dict[str, Any]]:
        raise NotImplementedError


class Gamqp(Client):
    name = 'gamqp'

    def __init__(self, rabbit: Any) -> None:
        self._connection = rabbit.connect()
        self._channel = self._connection.channel()
        self.close = self._connection.close

    def put(self, queue: str, body: bytes, headers: Any, **properties: Any) -> None:
        message = gamqp.Message(body, application_headers=headers, **properties)
        self._channel.basic_publish_confirm(message, '', queue)

    def get(self, queue: str) -> tuple[bytes, dict[str, Any]]:
        message = self._channel.basic_get(queue, no_ack=True)
        return bytes(message.body), dict(message.properties)


class PyAmqp(Client):
    name = 'py-amqp'

    def __init__(self, rabbit: Any) -> None:
        host = f'127.0.0.1:{rabbit.node.port}'
        self._connection = amqp.Connection(host, virtual_host=rabbit.vhost, confirm_publish=True)
        self._connection.connect()
        self._channel = self._connection.channel()
        self.close = self._connection.close

    def put(self, queue: str, body: bytes, headers: Any, **properties: Any) -> None:
        message = amqp.Message(body, application_headers=headers, **properties)
        self._channel.basic_publish(message, '', queue)

    def get(self, queue: str) -> tuple[bytes, dict[str, Any]]:
        message = self._channel.basic_get(queue, no_ack=True)
        body = message.body
        return body.encode() if isinstance(body, str) else bytes(body), dict(message.properties)


class Pika(Client):
    name = 'pika'
    floats = False

    def __init__(self, rabbit: Any) -> None:
        import pika

        self._pika = pika
        credentials = pika.PlainCredentials('guest', 'guest')
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters('127.0.0.1', rabbit.node.port, rabbit.vhost, credentials)
        )
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self.close = self._connection.close

    def put(self, queue: str, body: bytes, headers: Any, **properties: Any) -> None:
        self._channel.basic_publish('', queue, body, self._pika.BasicProperties(headers=headers, **properties))

    def get(self, queue: str) -> tuple[bytes, dict[str, Any]]:
        _, properties, body = self._channel.basic_get(queue, auto_ack=True)
        known = {name: value for name, value in vars(properties).items() if value is not None}
        if 'headers' in known:
            known['application_headers'] = known.pop('headers')
        return body, known


CLIENTS = [PyAmqp, *([Pika] if is_installed('pika') else [])]


@pytest.fixture(params=CLIENTS, ids=[one.name for one in CLIENTS])
def other(request: pytest.FixtureRequest, rabbit: Any) -> Iterator[Client]:
    client = request.param(rabbit)
    yield client
    client.close()


@pytest.fixture
def ours(rabbit: Any) -> Iterator[Client]:
    client = Gamqp(rabbit)
    yield client
    client.close()


@pytest.fixture
def shared(rabbit: Any) -> Iterator[str]:
    with rabbit.connect() as connection:
        queue = broker_tools.shared_queue(connection.channel())
    yield queue
    with rabbit.connect() as connection:
        connection.channel().queue_delete(queue)


def plain(value: Any) -> Any:
    """What the libraries spell in ways of their own, in one way."""
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    return value


def has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_float, value.values()))
    if isinstance(value, list):
        return any(map(has_float, value))
    return isinstance(value, float)


def same(one: Any, two: Any) -> bool:
    one, two = plain(one), plain(two)
    return bool(one == two) and (isinstance(one, bool) == isinstance(two, bool))


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of py-amqp, which uses utcfromtimestamp
@pytest.mark.parametrize('name', VALUES)
def test_a_header_value_is_read_as_it_was_written(ours: Client, other: Client, shared: str, name: str) -> None:
    value = VALUES[name]
    if not other.floats and has_float(value):
        pytest.skip(f'{other.name} has no floats')
    for writer, reader in ((ours, other), (other, ours)):
        writer.put(shared, b'body', {name: value})
        body, properties = reader.get(shared)
        assert body == b'body'
        got = properties['application_headers']
        assert list(got) == [name], f'{writer.name} -> {reader.name}'
        assert same(got[name], value), f'{writer.name} -> {reader.name}: {got[name]!r}'


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_all_properties_and_headers_together(ours: Client, other: Client, shared: str) -> None:
    values = {name: value for name, value in VALUES.items() if other.floats or not has_float(value)}
    for writer, reader in ((ours, other), (other, ours)):
        writer.put(shared, b'\x00\xff', values, **PROPERTIES)
        body, properties = reader.get(shared)
        assert body == b'\x00\xff'
        headers = properties.pop('application_headers')
        assert {name for name in values if not same(headers[name], values[name])} == set(), writer.name
        assert len(headers) == len(values)
        assert {name: properties[name] for name in PROPERTIES} == PROPERTIES


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_random_tables(ours: Client, other: Client, shared: str) -> None:
    seed = 20260512
    draw = random.Random(seed)
    for number in range(broker_tools.repeats(40, 2000)):
        table = random_table(draw, 3)
        if not other.floats and has_float(table):
            continue
        for writer, reader in ((ours, other), (other, ours)):
            writer.put(shared, b'', table)
            headers = reader.get(shared)[1].get('application_headers', {})
            assert same(headers, table), f'seed {seed}, {number}: {writer.name} -> {reader.name}'


def random_table(draw: random.Random, depth: int) -> dict[str, Any]:
    return {f'n{number}': random_value(draw, depth) for number in range(draw.randint(0, 5))}


def random_value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(8 if depth else 6)
    if kind == 6:
        return [random_value(draw, depth - 1) for _ in range(draw.randint(0, 4))]
    if kind == 7:
        return random_table(draw, depth - 1)
    return (
        draw.choice([True, False, None]),
        draw.randint(-(2**63), 2**63 - 1) >> draw.randrange(64),
        draw.uniform(-1e9, 1e9),
        ''.join(draw.choice('aé队🙂') for _ in range(draw.randint(0, 20))),
        Decimal(draw.randint(-(2**31), 2**31 - 1)).scaleb(-draw.randint(0, 9)),
        draw.randbytes(draw.randint(0, 20)) + b'\xff',
    )[kind]


def test_a_header_value_that_is_no_text_is_kept_as_bytes(ours: Client, rabbit: Any, shared: str) -> None:
    """Not an error of the whole message. Written by hand: a table whose long string is not UTF-8."""
    with amqp.Connection(f'127.0.0.1:{rabbit.node.port}', virtual_host=rabbit.vhost) as connection:
        assert isinstance(connection.sock, socket.socket)
        message = amqp.Message(b'x', application_headers={'raw': b'\xc3\x28', 'fine': 'ü'})
        connection.channel().basic_publish(message, '', shared)
    with rabbit.connect() as connection:
        broker_tools.wait_ready(connection.channel(), shared, 1)
    headers = ours.get(shared)[1]['application_headers']
    assert headers == {'raw': b'\xc3\x28', 'fine': 'ü'}
