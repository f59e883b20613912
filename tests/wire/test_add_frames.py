"""add_frames: a received message as frames again, which give the same message."""

from __future__ import annotations

import random
from typing import Any

import inside
import pytest

DELIVER, RETURN = (60, 60), (60, 50)
PROPERTIES = {'content_type': 'text/plain', 'application_headers': {'a': [1, 'b'], 'c': {'d': None}}, 'priority': 3}


def decoded(wire: Any, data: Any) -> Any:
    decoder = wire.Decoder()
    (content,) = decoder.feed(data)
    assert not decoder.pending
    return content


@pytest.mark.parametrize('properties', [{}, PROPERTIES], ids=['bare', 'properties'])
@pytest.mark.parametrize('size', [0, 1, 4000, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1_000_000])
def test_a_message_survives(wire: Any, size: int, properties: dict[str, Any]) -> None:
    body = random.Random(size).randbytes(size)
    args = ('tag', 2**63 + 5, True, 'exchange', 'key')
    first = decoded(wire, wire.encode_content(513, DELIVER, args, properties, body, 4096))
    parts: list[Any] = []
    count = wire.add_frames(first, parts)
    data = b''.join(parts)
    assert count == len(data)
    again = decoded(wire, data)
    for name in (
        '_channel_id',
        '_method',
        'delivery_tag',
        'consumer_tag',
        'redelivered',
        '_size',
        'body',
        'properties',
    ):
        assert getattr(again, name) == getattr(first, name), name
    assert again.delivery_info == first.delivery_info


def test_several_stand_one_behind_the_other(wire: Any) -> None:
    parts: list[Any] = []
    for number in range(50):
        args = (f'tag {number}', number, False, '', 'key')
        wire.add_frames(decoded(wire, wire.encode_content(7, DELIVER, args, {}, b'x' * number, 0)), parts)
    assert [inside.size_of(content) for content in wire.Decoder().feed(b''.join(parts))] == list(range(50))


def test_the_other_methods_with_content_too(wire: Any) -> None:
    args = (312, 'NO_ROUTE', 'exchange', 'key')
    first = decoded(wire, wire.encode_content(1, RETURN, args, {}, b'x', 0))
    parts: list[Any] = []
    wire.add_frames(first, parts)
    assert decoded(wire, b''.join(parts)).delivery_info == first.delivery_info


def test_a_large_body_is_not_copied(wire: Any) -> None:
    first = decoded(wire, wire.encode_content(1, DELIVER, ('tag', 1, False, '', ''), {}, bytes(1_000_000), 131072))
    parts: list[Any] = []
    wire.add_frames(first, parts)
    assert all(part.obj is first.body for part in parts if isinstance(part, memoryview))
    assert sum(len(part) for part in parts if isinstance(part, memoryview)) == 1_000_000
