"""Input that means harm: only our error classes come out, and memory follows what arrived."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from golden import NAMES, load

from gamqp import exceptions

ERRORS = (
    exceptions.FrameError,
    exceptions.FrameSyntaxError,
    exceptions.InboundBodyTooLarge,
    exceptions.InvalidCommand,
    exceptions.UnexpectedFrame,
)


def harmless(wire: Any, data: bytes) -> None:
    """Decode all there is to decode; any foreign exception fails the test."""
    decoder = wire.Decoder(frame_max=131072)
    events = decoder.feed(data)
    assert decoder.error is None or type(decoder.error) in ERRORS
    for event in events:
        if isinstance(event, tuple):
            continue
        for name in ('properties', 'headers', 'delivery_info'):
            with suppress(exceptions.FrameSyntaxError):
                getattr(event, name)


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'get-ok-split'])
def test_every_change_of_one_byte(wire: Any, name: str) -> None:
    data = load(name)
    changes = range(256) if len(data) < 120 else (0, 1, 2, 0x41, 0x46, 0x53, 0x7F, 0x80, 0xCE, 0xFF)
    for at in range(len(data)):
        for change in changes:
            harmless(wire, data[:at] + bytes([change]) + data[at + 1 :])


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'get-ok-split'])
def test_cut_anywhere(wire: Any, name: str) -> None:
    data = load(name)
    for at in range(len(data)):
        harmless(wire, data[:at])
        harmless(wire, data[:at] + b'\xce')
        harmless(wire, data[at:])


def peak(act: Any) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


METHOD = bytes.fromhex('0100010000001400 3c003c 0374616700000000000000090002657800ce'.replace(' ', ''))
METHOD = METHOD[:6] + bytes([len(METHOD) - 8]) + METHOD[7:]


def header(size: int) -> bytes:
    return b'\x02\0\x01\0\0\0\x0e\0\x3c\0\0' + size.to_bytes(8, 'big') + b'\0\0\xce'


@pytest.mark.parametrize('size', [2**20, 2**29, 2**31, 2**32, 2**62, 2**64 - 1])
def test_a_declared_size_allocates_nothing(wire: Any, size: int) -> None:
    def feed() -> None:
        decoder = wire.Decoder()
        decoder.feed(METHOD + header(size) + b'\x03\0\x01\0\0\0\x01x\xce' * 10)
        decoder = wire.Decoder()
        decoder.feed(METHOD + header(size) + b'\x03\0\x01\x7f\xff\xff\xff' + b'x' * 1000)
        decoder = wire.Decoder()
        decoder.feed(b'\x01\0\x01' + (size % 2**32).to_bytes(4, 'big') + b'x' * 1000)

    feed()
    assert peak(feed) < 2_000_000


def test_lengths_inside_a_payload_allocate_nothing(wire: Any) -> None:
    def read() -> None:
        for letter in 'SFAx':
            with pytest.raises(exceptions.FrameSyntaxError):
                wire.loads(letter, b'\xff\xff\xff\xff' + b'\0' * 100)
            with pytest.raises(exceptions.FrameSyntaxError):
                wire.loads(letter, b'\x7f\xff\xff\xff' + b'\0' * 100)

    assert peak(read) < 1_000_000


def test_a_body_byte_by_byte_does_not_multiply(wire: Any) -> None:
    size = 100_000
    pieces = b'\x03\0\x01\0\0\0\x01x\xce' * (size - 1)

    def feed() -> None:
        decoder = wire.Decoder()
        decoder.feed(METHOD + header(size))
        for at in range(0, len(pieces), 9_000):
            decoder.feed(pieces[at : at + 9_000])
        assert decoder.pending

    assert peak(feed) < 3 * size + 1_000_000


def test_frames_without_payload_are_not_kept(wire: Any) -> None:
    def feed() -> None:
        decoder = wire.Decoder()
        decoder.feed(METHOD + header(5) + b'\x03\0\x01\0\0\0\0\xce' * 100_000)
        assert decoder.error is None

    assert peak(feed) < 3_000_000


def test_after_an_error_nothing_is_kept(wire: Any) -> None:
    decoder = wire.Decoder()
    decoder.feed(b'\xff' * 10)

    def feed() -> None:
        for _ in range(200):
            room = decoder.room()
            room[:] = b'x' * len(room)
            decoder.commit(len(room))

    assert peak(feed) < 3_000_000


@pytest.mark.parametrize('levels', [65, 1000, 100_000])
def test_nesting_does_not_reach_the_stack(wire: Any, levels: int) -> None:
    data = b''
    for _ in range(min(levels, 2000)):
        data = b'A' + len(data).to_bytes(4, 'big') + data
    data = b'A\xff\xff\xff\xff' * (levels - 2000) + data if levels > 2000 else data
    with pytest.raises(exceptions.FrameSyntaxError):
        wire.loads('A', len(data).to_bytes(4, 'big') + data)


def test_a_trickle_is_linear(wire: Any) -> None:
    """A large frame in small pieces: the decoder must not look at all of it again each time."""
    body = b'x' * 400_000
    data = bytes(wire.encode_content(1, (60, 60), ('t', 1, False, '', ''), None, body, 0))
    decoder = wire.Decoder()
    looked = 0
    for at in range(0, len(data), 100):
        events = decoder.feed(data[at : at + 100])
        looked += len(events)
    assert looked == 1
    assert events[0].body == body
