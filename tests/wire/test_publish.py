"""Messages into frames."""

from __future__ import annotations

from typing import Any

import inside
import pytest
from greenlet import getcurrent, greenlet

from gamqp import exceptions

PROPERTIES = {'content_type': 'text/plain', 'delivery_mode': 2, 'application_headers': {'k': 1}}


def publish(wire: Any, body: Any = b'', properties: Any = None, frame_max: int = 0, **other: Any) -> Any:
    options = {'channel_id': 1, 'exchange': 'ex', 'routing_key': 'key', 'mandatory': False, 'immediate': False}
    return wire.encode_publish(properties=properties, body=body, frame_max=frame_max, **(options | other))


def frames(data: Any) -> list[tuple[int, int, bytes]]:
    found = []
    while data:
        size = int.from_bytes(data[3:7], 'big')
        assert data[7 + size] == 0xCE
        found.append((data[0], int.from_bytes(data[1:3], 'big'), bytes(data[7 : 7 + size])))
        data = data[8 + size :]
    return found


def test_byte_by_byte(wire: Any) -> None:
    data = publish(wire, b'body', PROPERTIES, channel_id=258, mandatory=1)
    assert frames(data) == [
        (1, 258, b'\0\x3c\0\x28' + b'\0\0' + b'\x02ex' + b'\x03key' + b'\x01'),
        (2, 258, b'\0\x3c\0\0' + b'\0\0\0\0\0\0\0\x04' + b'\xb0\0\x0atext/plain\0\0\0\x07\x01kI\0\0\0\x01\x02'),
        (3, 258, b'body'),
    ]


def test_no_body_no_frame(wire: Any) -> None:
    assert [kind for kind, _, _ in frames(publish(wire))] == [1, 2]


@pytest.mark.parametrize('frame_max', [4096, 8192])
@pytest.mark.parametrize('over', [-1, 0, 1])
@pytest.mark.parametrize('times', [1, 2])
def test_bodies_are_cut_at_frame_max(wire: Any, frame_max: int, over: int, times: int) -> None:
    most = frame_max - 8
    body = bytes(range(256)) * 80
    body = body[: most * times + over]
    parts = [payload for kind, _, payload in frames(publish(wire, body, None, frame_max)) if kind == 3]
    assert b''.join(parts) == body
    assert all(len(part) == most for part in parts[:-1])
    assert len(parts) == times + (over > 0)
    (content,) = wire.Decoder(frame_max=frame_max).feed(publish(wire, body, PROPERTIES, frame_max))
    assert content.body == body
    assert content.properties == PROPERTIES


@pytest.mark.parametrize(
    ('body', 'octets'),
    [
        (b'ab', b'ab'),
        (bytearray(b'ab'), b'ab'),
        (memoryview(b'ab'), b'ab'),
        (memoryview(b'abcd').cast('H'), b'abcd'),
        ('grü', b'gr\xc3\xbc'),
        ('', b''),
    ],
)
def test_bodies(wire: Any, body: Any, octets: bytes) -> None:
    (content,) = wire.Decoder().feed(publish(wire, body))
    assert content.body == octets


@pytest.mark.parametrize('body', [None, 5, ['a'], memoryview(b'abcd')[::2], '\ud800', {}])
def test_what_is_no_body(wire: Any, body: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match='body: '):
        publish(wire, body)


def test_a_large_body_without_limit_is_one_frame(wire: Any) -> None:
    body = b'x' * 5_000_000
    assert [len(payload) for kind, _, payload in frames(publish(wire, body)) if kind == 3] == [5_000_000]


def test_the_buffer_is_the_callers(wire: Any) -> None:
    first, second = publish(wire, b'a'), publish(wire, b'b')
    assert first is not second
    first.extend(b'mine')
    assert publish(wire, b'b') == second


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'exchange': 'x' * 256}, 'basic.publish: exchange: short string of 256'),
        ({'exchange': 5}, 'basic.publish: exchange: expected str'),
        ({'routing_key': '\ud800'}, 'basic.publish: routing_key: text has no UTF-8'),
        ({'channel_id': 65536}, 'integer 65536'),
        ({'channel_id': None}, 'expected an integer'),
        (
            {'properties': {'application_headers': {'a': {'b': object()}}}},
            r"basic.publish: application_headers\['a'\]\['b'\]: object",
        ),
        (
            {'properties': {'application_headers': {'a': 'x' * 5000}}, 'frame_max': 4096},
            'basic.publish.*frame of 50.. bytes, the connection allows 4096',
        ),
        ({'exchange': 'x' * 200, 'frame_max': 100}, 'basic.publish: frame of 2.. bytes, the connection allows 100'),
        ({'frame_max': 8, 'body': b'x'}, 'the connection allows 8'),
        ({'frame_max': 1, 'body': b'x'}, 'the connection allows 1'),
    ],
)
def test_what_cannot_be_sent(wire: Any, options: Any, text: str) -> None:
    with pytest.raises(exceptions.EncodeError, match=text):
        publish(wire, **options)


def test_bytes_and_nothing_for_names(wire: Any) -> None:
    (content,) = wire.Decoder().feed(publish(wire, exchange=None, routing_key=b'\xff'))
    assert content.delivery_info['exchange'] == ''
    assert content.delivery_info['routing_key'] == b'\xff'


def test_the_other_direction(wire: Any) -> None:
    data = wire.encode_content(4, (60, 71), (7, True, 'ex', 'key', 3), PROPERTIES, 'text', 4096)
    (content,) = wire.Decoder(frame_max=4096).feed(data)
    assert (inside.method_of(content), inside.channel_id_of(content), content.delivery_tag) == ((60, 71), 4, 7)
    assert (content.body, content.properties) == (b'text', PROPERTIES)
    published = wire.encode_content(1, (60, 40), (0, 'ex', 'key', True, False), PROPERTIES, b'b', 0)
    assert published == publish(wire, b'b', PROPERTIES, mandatory=True)


@pytest.mark.parametrize('sig', [(60, 80), (99, 99)])
def test_methods_that_carry_no_content(wire: Any, sig: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match='carries no content'):
        wire.encode_content(1, sig, (), None, b'', 0)


def test_a_mapping_that_publishes_while_it_is_published(wire: Any) -> None:
    class Nested(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            return [('k', len(publish(wire, b'inner')))]

    (content,) = wire.Decoder().feed(publish(wire, b'outer', {'application_headers': Nested()}))
    assert content.headers == {'k': len(publish(wire, b'inner'))}
    assert content.body == b'outer'


def test_mappings_that_switch_greenlets_while_they_are_published(wire: Any) -> None:
    """The stack of each is moved away while it is in the middle of an encoding."""
    main = getcurrent()

    class Switching(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            for item in super().items():
                main.switch()
                yield item

    tables = [Switching(n=number, t=Switching(a=['x' * number, number / 4], b=None)) for number in range(9)]
    plain = [{'n': number, 't': {'a': ['x' * number, number / 4], 'b': None}} for number in range(9)]
    encoding = [greenlet(publish) for _ in tables]
    done = [
        task.switch(wire, b'body', {'application_headers': table}) for task, table in zip(encoding, tables, strict=True)
    ]
    while not all(task.dead for task in encoding):
        done = [before if task.dead else task.switch() for task, before in zip(encoding, done, strict=True)]
    assert done == [publish(wire, b'body', {'application_headers': table}) for table in plain]


def test_constants(wire: Any) -> None:
    assert wire.HEARTBEAT == b'\x08\0\0\0\0\0\0\xce'
    assert wire.PROTOCOL_HEADER == b'AMQP\0\0\x09\x01'
