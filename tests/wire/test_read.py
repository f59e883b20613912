"""Values out of bytes: the letters, the bounds, what malformed input raises."""

from __future__ import annotations

import copy
import decimal
import pickle
from typing import Any

import pytest
from vectors import FIELDS, PLAIN, table

from gamqp import exceptions

# (value, bytes): read only
_READ_ONLY = [
    (-2, '62fe'),
    (254, '42fe'),
    (-2, '73fffe'),
    (-2, '55fffe'),
    (65534, '75fffe'),
    (2**32 - 1, '69ffffffff'),
    (-1, '6cffffffffffffffff'),
    (-1, '4cffffffffffffffff'),  # py-amqp's way of writing large numbers
    (2**63 - 1, '4c7fffffffffffffff'),
    (1.5, '663fc00000'),
    (True, '7402'),
    (b'\xff', '5300000001ff'),
]
READ_ONLY = [(value, bytes.fromhex(text)) for value, text in _READ_ONLY]


@pytest.mark.parametrize(('letter', 'value', 'text'), PLAIN)
def test_plain_values(wire: Any, letter: str, value: Any, text: str) -> None:
    data = bytes.fromhex(text)
    assert wire.loads(letter, data) == ([value], len(data))
    assert wire.loads(letter, b'abc' + data + b'tail', 3) == ([value], len(data) + 3)


@pytest.mark.parametrize(('letter', 'value', 'text'), PLAIN)
def test_plain_values_cut_short(wire: Any, letter: str, value: Any, text: str) -> None:
    data = bytes.fromhex(text)
    for end in range(len(data)):
        with pytest.raises(exceptions.FrameSyntaxError):
            wire.loads(letter, data[:end])


@pytest.mark.parametrize(('value', 'field'), FIELDS + READ_ONLY)
def test_field_values(wire: Any, value: Any, field: bytes) -> None:
    reader = wire.Reader(table(field) + b'tail')
    (found,) = reader.table().values()
    assert found == value
    assert type(found) is type(value)
    assert reader.offset == len(field) + 6


@pytest.mark.parametrize('seconds', [253402300800, 2**63 - 1, 2**63, 2**64 - 1])
def test_timestamps_that_no_datetime_holds_can_be_written_as_they_came(wire: Any, seconds: int) -> None:
    field = table(b'T' + seconds.to_bytes(8, 'big'))
    value = wire.Reader(field).table()
    assert value == {'k': seconds}
    assert wire.dumps('F', [value]) == field
    assert wire.dumps('F', [copy.deepcopy(value)]) == field
    assert wire.dumps('F', [pickle.loads(pickle.dumps(value))]) == field


@pytest.mark.parametrize(('value', 'field'), FIELDS + READ_ONLY)
def test_field_values_cut_short(wire: Any, value: Any, field: bytes) -> None:
    for end in range(len(field)):
        # The table says that the value is complete: the bound is the table, not the payload.
        with pytest.raises(exceptions.FrameSyntaxError):
            wire.Reader(table(field[:end]) + b'\0' * 300).table()
        with pytest.raises(exceptions.FrameSyntaxError):
            wire.Reader(table(field)[: end + 6]).table()


@pytest.mark.parametrize('code', [code for code in range(256) if chr(code) not in 'tbBsUuIilLfdDSATFVx'])
def test_unknown_letters(wire: Any, code: int) -> None:
    with pytest.raises(exceptions.FrameSyntaxError, match='unknown type'):
        wire.Reader(table(bytes([code]) + b'\0' * 16)).table()


def test_bits_share_octets(wire: Any) -> None:
    assert wire.loads('bbb', b'\x05') == ([True, False, True], 1)
    assert wire.loads('b' * 9, b'\x00\x01') == ([False] * 8 + [True], 2)
    assert wire.loads('bobb', b'\x01\x07\x02') == ([True, 7, False, True], 3)
    with pytest.raises(exceptions.FrameSyntaxError):
        wire.loads('b' * 9, b'\x00')


def test_text_that_is_not_utf8_stays_bytes(wire: Any) -> None:
    assert wire.loads('s', b'\x01\xff') == ([b'\xff'], 2)
    assert wire.loads('S', b'\0\0\0\x03\xed\xa0\x80') == ([b'\xed\xa0\x80'], 7)
    assert wire.Reader(b'\0\0\0\x03\x01\xffV').table() == {b'\xff': None}


def test_the_last_of_equal_keys_counts(wire: Any) -> None:
    assert wire.Reader(b'\0\0\0\x08\x01at\0\x01at\x01').table() == {'a': True}


@pytest.mark.parametrize(('tag', 'empty'), [(b'F', b'\x01k'), (b'A', b'')])
def test_depth_is_bounded(wire: Any, tag: bytes, empty: bytes) -> None:
    def nested(levels: int) -> bytes:
        data = b'\0\0\0\0'
        for _ in range(levels - 1):
            inner = empty + tag + data
            data = len(inner).to_bytes(4, 'big') + inner
        return data

    read = 'table' if tag == b'F' else 'array'
    getattr(wire.Reader(nested(wire.MAX_DEPTH)), read)()
    with pytest.raises(exceptions.FrameSyntaxError, match='deeper'):
        getattr(wire.Reader(nested(wire.MAX_DEPTH + 1)), read)()


def test_offset_outside(wire: Any) -> None:
    wire.Reader(b'ab', 2)
    for offset in (3, -1):
        with pytest.raises(exceptions.FrameSyntaxError):
            wire.Reader(b'ab', offset)


def test_errors_say_where_and_how_much(wire: Any) -> None:
    with pytest.raises(exceptions.FrameSyntaxError, match='offset 1 needs 5 bytes, 2 are there'):
        wire.loads('s', b'\x05ab')


def test_repr(wire: Any) -> None:
    assert repr(wire.Reader(b'abc', 1)) == '<Reader at 1 of 3>'


def test_unknown_letter_of_a_format(wire: Any) -> None:
    with pytest.raises(exceptions.FrameSyntaxError, match="'z'"):
        wire.loads('z', b'\0')


def test_decimals_do_not_depend_on_the_context(wire: Any) -> None:
    with decimal.localcontext(decimal.Context(prec=2, Emin=-3, traps=[decimal.Inexact])):
        assert str(wire.Reader(table(b'D\x14\x7f\xff\xff\xff')).table()['k']) == '2.147483647E-11'
