"""Arguments and method frames."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import inside
import pytest

from gamqp import exceptions
from gamqp.wire import spec

SAMPLES = {
    'o': 9,
    'B': 0x8001,
    'l': 0x80000001,
    'L': 2**63 + 1,
    's': 'shört',
    'S': 'löng',
    'b': True,
    'F': {'k': [1, {'n': None}]},
    'T': datetime(2020, 1, 2, tzinfo=timezone.utc),
}


@pytest.mark.parametrize('sig', spec.METHODS, ids=lambda sig: spec.METHODS[sig].name)
def test_every_method_comes_back(wire: Any, sig: Any) -> None:
    args = tuple(SAMPLES[letter] for _, letter in spec.METHODS[sig].args)
    frame = wire.encode_method(513, sig, args)
    assert isinstance(frame, bytes)
    assert frame[:3] == b'\x01\x02\x01'
    assert int.from_bytes(frame[3:7], 'big') == len(frame) - 8
    assert (int.from_bytes(frame[7:9], 'big'), int.from_bytes(frame[9:11], 'big')) == sig
    assert frame[-1] == 0xCE
    assert wire.decode_args(sig, frame[:-1], 11) == args
    assert wire.decode_args(sig, frame[11:], 0) == args
    for end in range(11, len(frame) - 1):
        with pytest.raises(exceptions.FrameSyntaxError, match=spec.METHODS[sig].name) as info:
            wire.decode_args(sig, frame[:end], 11)
        assert info.value.method_sig == sig


@pytest.mark.parametrize('sig', [sig for sig in spec.METHODS if spec.METHODS[sig].args])
def test_every_method_refuses_what_is_no_value(wire: Any, sig: Any) -> None:
    method = spec.METHODS[sig]
    good = [SAMPLES[letter] for _, letter in method.args]
    for index, (name, letter) in enumerate(method.args):
        if letter == 'b':
            continue  # anything is true or false
        args = (*good[:index], object(), *good[index + 1 :])
        with pytest.raises(exceptions.EncodeError, match=f'^{method.name}: {name}: expected'):
            wire.encode_method(1, sig, args)


def test_a_frame_byte_by_byte(wire: Any) -> None:
    frame = wire.encode_method(1, (50, 10), (0, 'q', False, True, False, True, False, {'x': 1}))
    parts = ['01', '0001', '00000014', '0032', '000a', '0000', '0171', '0a', '00000007', '0178', '4900000001', 'ce']
    assert frame.hex() == ''.join(parts)


def test_settling(wire: Any) -> None:
    for tag in (0, 1, 2**31, 2**32, 2**63, 2**64 - 1):
        for flag in (True, False):
            assert wire.encode_ack(3, tag, flag) == wire.encode_method(3, (60, 80), (tag, flag))
            assert wire.encode_reject(3, tag, flag) == wire.encode_method(3, (60, 90), (tag, flag))
            assert wire.encode_nack(3, tag, flag, True) == wire.encode_method(3, (60, 120), (tag, flag, True))
            assert wire.encode_nack(3, tag, flag, False) == wire.encode_method(3, (60, 120), (tag, flag, False))


class Number(int):
    """Not exactly an int."""


class Index:
    def __index__(self) -> int:
        return 258


def test_settling_by_what_is_almost_a_number(wire: Any) -> None:
    for tag in (True, Number(258), Index()):
        assert wire.encode_ack(3, tag, False) == wire.encode_ack(3, int(tag.__index__()), False)
        assert wire.encode_nack(tag, 7, False, True) == wire.encode_nack(int(tag.__index__()), 7, False, True)


def test_an_ack_is_written_into_its_bytes(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, no format is interpreted for it: that took as long as all else that an ack needs."""
    expected = compiled.encode_method(3, (60, 80), (2**40, False))
    inside.without_format_of_acks(monkeypatch, compiled)
    assert compiled.encode_ack(3, 2**40, False) == expected


@pytest.mark.parametrize('tag', [-1, 2**64, 2**70, None, '1', 1.0])
@pytest.mark.parametrize('channel_id', [-1, 65536, 2**32 + 1, None, 1])
def test_settling_what_cannot_be(wire: Any, channel_id: Any, tag: Any) -> None:
    for encode, rest in ((wire.encode_ack, (0,)), (wire.encode_nack, (0, 0)), (wire.encode_reject, (0,))):
        with pytest.raises(exceptions.EncodeError):
            encode(channel_id, tag, *rest)


@pytest.mark.parametrize(
    ('sig', 'args', 'text'),
    [
        ((60, 10), (0, 65536, False), 'basic.qos: prefetch_count: integer 65536'),
        ((60, 10), (0, 1), 'basic.qos: 2 arguments given, 3 expected: prefetch_size'),
        ((50, 10), (0, 'q', 0, 0, 0, 0, 0, {'a': [{}, object()]}), r"queue.declare: arguments\['a'\]\[1\]: object"),
        ((99, 1), (), r'no method \(99, 1\)'),
    ],
)
def test_errors_name_method_and_argument(wire: Any, sig: Any, args: Any, text: str) -> None:
    with pytest.raises(exceptions.EncodeError, match=text):
        wire.encode_method(1, sig, args)


@pytest.mark.parametrize('channel_id', [-1, 65536, None])
def test_channels_that_cannot_be(wire: Any, channel_id: Any) -> None:
    with pytest.raises(exceptions.EncodeError):
        wire.encode_method(channel_id, (60, 10), (0, 1, False))


def test_frame_max_counts_the_whole_frame(wire: Any) -> None:
    args = (0, 9, {}, 'x' * 100, '')
    size = len(wire.encode_method(0, (10, 10), args))
    assert wire.encode_method(0, (10, 10), args, size) == wire.encode_method(0, (10, 10), args, 0)
    with pytest.raises(exceptions.EncodeError, match=f'connection.start: frame of {size} bytes.* allows {size - 1}'):
        wire.encode_method(0, (10, 10), args, size - 1)


def test_unknown_methods_are_not_decoded(wire: Any) -> None:
    with pytest.raises(exceptions.InvalidCommand):
        wire.decode_args((60, 99), b'', 0)


def test_arguments_of_a_later_revision_are_ignored(wire: Any) -> None:
    assert wire.decode_args((60, 21), b'\x01t' + b'more', 0) == ('t',)


def test_formats_may_be_bytes(wire: Any) -> None:
    assert wire.dumps(b'ss', ['a', 'b']) == b'\x01a\x01b'
    assert wire.loads(b'ss', b'\x01a\x01b') == (['a', 'b'], 4)
