"""The property section, both ways."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from gamqp import exceptions

WHEN = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
# Every property with its flag and bytes, in the order of the wire.
EACH: list[tuple[str, Any, int, bytes]] = [
    ('content_type', 'a/b', 0x8000, b'\x03a/b'),
    ('content_encoding', 'utf-8', 0x4000, b'\x05utf-8'),
    ('application_headers', {'k': None}, 0x2000, b'\0\0\0\x03\x01kV'),
    ('delivery_mode', 2, 0x1000, b'\x02'),
    ('priority', 0, 0x0800, b'\0'),
    ('correlation_id', 'c', 0x0400, b'\x01c'),
    ('reply_to', 'r', 0x0200, b'\x01r'),
    ('expiration', '60000', 0x0100, b'\x0560000'),
    ('message_id', 'm', 0x0080, b'\x01m'),
    ('timestamp', 1577934245, 0x0040, b'\0\0\0\0\x5e\x0d\x5d\xa5'),
    ('type', 't', 0x0020, b'\x01t'),
    ('user_id', 'u', 0x0010, b'\x01u'),
    ('app_id', 'p', 0x0008, b'\x01p'),
    ('cluster_id', '', 0x0004, b'\0'),
]
ALL = {name: value for name, value, _, _ in EACH}
ALL_BYTES = b'\xff\xfc' + b''.join(data for _, _, _, data in EACH)


def write(wire: Any, properties: Any) -> bytes:
    writer = wire.Encoder()
    wire.write_properties(writer, properties)
    return bytes(writer.getvalue())


@pytest.mark.parametrize(('name', 'value', 'flag', 'data'), EACH)
def test_each(wire: Any, name: str, value: Any, flag: int, data: bytes) -> None:
    section = flag.to_bytes(2, 'big') + data
    assert write(wire, {name: value}) == section
    assert wire.decode_properties(section + b'tail', 0) == {name: value}
    assert wire.decode_properties(b'head' + section, 4) == {name: value}


def test_all_in_whatever_order(wire: Any) -> None:
    assert write(wire, ALL) == ALL_BYTES
    assert write(wire, dict(reversed(ALL.items()))) == ALL_BYTES
    assert wire.decode_properties(ALL_BYTES, 0) == ALL
    assert list(wire.decode_properties(ALL_BYTES, 0)) == list(ALL)


def test_cut_short_anywhere(wire: Any) -> None:
    for end in range(len(ALL_BYTES)):
        with pytest.raises(exceptions.FrameSyntaxError):
            wire.decode_properties(ALL_BYTES[:end], 0)


@pytest.mark.parametrize('nothing', [None, {}, {'priority': None, 'application_headers': None}])
def test_none_is_absent(wire: Any, nothing: Any) -> None:
    assert write(wire, nothing) == b'\0\0'


def test_timestamp_as_seconds(wire: Any) -> None:
    assert write(wire, {'timestamp': 1577934245}) == write(wire, {'timestamp': WHEN})


def test_flag_words_that_continue(wire: Any) -> None:
    assert wire.decode_properties(b'\x08\x01\x00\x01\x00\x00\x07', 0) == {'priority': 7}
    with pytest.raises(exceptions.FrameSyntaxError, match='0x8000'):
        wire.decode_properties(b'\x08\x01\x80\x00\x07', 0)
    with pytest.raises(exceptions.FrameSyntaxError, match='0x0002'):
        wire.decode_properties(b'\x00\x02', 0)
    with pytest.raises(exceptions.FrameSyntaxError):
        wire.decode_properties(b'\x00\x01' * 1000, 0)


@pytest.mark.parametrize('name', ['headers', 'Priority', 'foo', 7])
def test_names_that_are_no_property_are_ignored(wire: Any, name: Any) -> None:
    assert write(wire, {name: object()}) == b'\0\0'
    assert write(wire, {name: 1, 'priority': 7}) == write(wire, {'priority': 7}) == b'\x08\0\x07'


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('priority', 256, 'priority: integer 256'),
        ('delivery_mode', '2', 'delivery_mode: expected an integer'),
        ('content_type', 5, 'content_type: expected str'),
        ('message_id', 'x' * 256, 'message_id: short string'),
        ('application_headers', {'a': [object()]}, r"application_headers\['a'\]\[0\]: object"),
        ('application_headers', 'text', 'application_headers: expected a table'),
        ('timestamp', 1.5, 'timestamp: expected an integer'),
    ],
)
def test_errors_name_the_property(wire: Any, name: str, value: Any, text: str) -> None:
    with pytest.raises(exceptions.EncodeError, match=text):
        write(wire, {name: value})
