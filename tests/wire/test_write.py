"""Values into bytes: the choice of types, and one kind of error for all that cannot be sent."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserDict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from vectors import FIELDS, PLAIN, table

from gamqp import exceptions


class Number(enum.IntEnum):
    SEVEN = 7


class Text(str):
    def encode(self, *args: Any) -> bytes:  # type: ignore[override]
        raise AssertionError('not asked')


class Sequence(list):  # type: ignore[type-arg]
    pass


class NoIndex:
    pass


@pytest.mark.parametrize(('letter', 'value', 'text'), PLAIN)
def test_plain_values(wire: Any, letter: str, value: Any, text: str) -> None:
    assert wire.dumps(letter, [value]) == bytes.fromhex(text)


@pytest.mark.parametrize(('value', 'field'), FIELDS)
def test_field_values(wire: Any, value: Any, field: bytes) -> None:
    assert wire.dumps('F', [{'k': value}]) == table(field)


@pytest.mark.parametrize(
    ('value', 'like'),
    [
        (Number.SEVEN, 7),
        (Text('abc'), 'abc'),
        (Sequence([1]), [1]),
        ((1, 2), [1, 2]),
        (OrderedDict(a=1), {'a': 1}),
        (UserDict(a=1), {'a': 1}),
        (bytearray(b'ab'), b'ab'),
        (memoryview(b'abcd')[::2], b'ac'),
        (Decimal('1E+3'), Decimal(1000)),
        (Decimal('0E+999'), Decimal(0)),
        (Decimal('-0.0'), Decimal('0.0')),
        (datetime(2020, 1, 2, 3, 4, 5), datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        (
            datetime(2020, 1, 2, 5, 4, 5, 999999, tzinfo=timezone(timedelta(hours=2))),
            datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_written_as_something_plainer(wire: Any, value: Any, like: Any) -> None:
    assert wire.dumps('F', [{'k': value}]) == wire.dumps('F', [{'k': like}])


@pytest.mark.parametrize('letter', ['s', 'S', 'F', 'A'])
def test_none_is_empty(wire: Any, letter: str) -> None:
    assert wire.dumps(letter, [None]) == (b'\0' if letter == 's' else b'\0\0\0\0')


def test_bytes_are_strings_as_they_are(wire: Any) -> None:
    assert wire.dumps('sS', [b'\xff', bytearray(b'\xfe')]) == b'\x01\xff\0\0\0\x01\xfe'
    assert wire.dumps('F', [{b'\xff': None}]) == b'\0\0\0\x03\x01\xffV'


def test_bits_share_octets(wire: Any) -> None:
    assert wire.dumps('bbb', [1, 0, True]) == b'\x05'
    assert wire.dumps('b' * 9, [False] * 8 + [True]) == b'\x00\x01'
    assert wire.dumps('bobb', [True, 7, False, True]) == b'\x01\x07\x02'


REFUSED: list[tuple[str, Any, str]] = [
    ('o', 256, '0: integer 256 is outside of 0 to 255'),
    ('o', -1, 'integer -1'),
    ('B', 65536, 'integer 65536'),
    ('l', 2**32, 'outside of 0 to 4294967295'),
    ('L', 2**64, 'outside'),
    ('L', -1, 'outside'),
    ('L', 10**4000, 'of 13288 bits'),
    ('L', 1.0, 'expected an integer, got float'),
    ('L', '1', 'expected an integer, got str'),
    ('L', None, 'expected an integer, got NoneType'),
    ('s', 'x' * 256, 'short string of 256 bytes'),
    ('s', 'ü' * 128, 'short string of 256 bytes'),
    ('s', '\ud800', 'lone surrogate'),
    ('S', 'a\udfff', 'lone surrogate'),
    ('s', 5, 'expected str or bytes, got int'),
    ('F', [1], 'expected a table'),
    ('F', 'ab', 'expected a table'),
    ('A', {'a': 1}, 'expected an array'),
    ('A', 'ab', 'expected an array'),
    ('T', datetime(1969, 12, 31, 23, 59, 59), 'outside'),
    ('T', datetime.min.replace(tzinfo=timezone(timedelta(hours=2))), 'out of range'),
    ('T', -1, 'outside'),
    ('T', 'now', 'expected an integer'),
    ('f', 'x', '32-bit float'),
    ('f', 1e300, '32-bit float'),
    ('z', 0, "letter 'z'"),
    ('F', {'k': 2**64}, r"0\['k'\]: integer"),
    ('F', {'k': 2**63}, r"0\['k'\]: integer 9223372036854775808 is outside"),
    ('F', {'k': -(2**63) - 1}, r"\['k'\]: integer"),
    ('F', {'k': float('nan')}, r"\['k'\]: nan"),
    ('F', {'k': float('-inf')}, r"\['k'\]: -inf"),
    ('F', {'k': Decimal('NaN')}, r"\['k'\]: Decimal NaN"),
    ('F', {'k': Decimal('-Infinity')}, r"\['k'\]: Decimal -Infinity"),
    ('F', {'k': Decimal(2**31)}, r"\['k'\]: integer"),
    ('F', {'k': Decimal('1E-256')}, 'scale'),
    ('F', {'k': Decimal('1E+999999')}, 'does not fit'),
    ('F', {'k': Decimal(1) / Decimal(3)}, 'does not fit'),
    ('F', {'k': object()}, 'object has no AMQP type'),
    ('F', {'k': {1, 2}}, 'set has no AMQP type'),
    ('F', {'k': 1j}, 'complex has no AMQP type'),
    ('F', {'k': date(2020, 1, 1)}, 'date has no AMQP type'),
    ('F', {'a': {'b': [0, 1, object()]}}, r"0\['a'\]\['b'\]\[2\]: object has no AMQP type"),
    ('F', {1: 2}, r'\[1\]: a key must be str, not int'),
    ('F', {None: 2}, 'a key must be str'),
    ('F', {'x' * 256: 2}, 'short string of 256 bytes'),
    ('F', {'\udc80': 2}, 'lone surrogate'),
    ('F', {'k': '\udc80'}, r"\['k'\]: text has no UTF-8"),
    ('A', [0, object()], r'0\[1\]: object'),
]


@pytest.mark.parametrize(('letter', 'value', 'text'), REFUSED)
def test_what_cannot_be_sent(wire: Any, letter: str, value: Any, text: str) -> None:
    with pytest.raises(exceptions.EncodeError, match=text) as info:
        wire.dumps(letter, [value])
    assert info.value.__cause__ is None


@pytest.mark.parametrize('depth', [1, 2])
def test_values_that_contain_themselves(wire: Any, depth: int) -> None:
    loop: Any = []
    loop.append({'k': loop} if depth == 2 else loop)
    with pytest.raises(exceptions.EncodeError, match='contains itself'):
        wire.dumps('A', [loop])


def test_depth_is_the_one_that_can_be_read(wire: Any) -> None:
    value: Any = {}
    for _ in range(wire.MAX_DEPTH - 1):
        value = {'k': value}
    assert wire.loads('F', wire.dumps('F', [value]))[0] == [value]
    with pytest.raises(exceptions.EncodeError):
        wire.dumps('F', [{'k': value}])


def test_number_of_values(wire: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match='1 arguments given, 2 expected'):
        wire.dumps('oo', [1])


def test_a_released_memoryview(wire: Any) -> None:
    view = memoryview(b'abc')
    view.release()
    with pytest.raises(exceptions.EncodeError):
        wire.dumps('S', [view])


def test_growing(wire: Any) -> None:
    for size in (0, 1, 255, 256, 257, 300, 100_000):
        assert wire.dumps('SoS', [b'x' * size, 7, b'y' * 300]) == (
            size.to_bytes(4, 'big') + b'x' * size + b'\x07\0\0\x01\x2c' + b'y' * 300
        )


def test_large_tables_come_back(wire: Any) -> None:
    value = {f'key-{number}': [number, str(number), {'n': number * 1_000_000_007}] for number in range(3000)}
    assert wire.loads('F', wire.dumps('F', [value]))[0] == [value]


def test_repr(wire: Any) -> None:
    writer = wire.Encoder()
    writer.u32(1)
    assert repr(writer) == '<Encoder with 4 bytes>'
    assert len(writer) == 4
    assert writer.getvalue() == b'\0\0\0\x01'
