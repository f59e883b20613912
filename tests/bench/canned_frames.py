"""The bytes that the canned broker sends: replies, and batches of deliveries that are encoded before they are needed.

Standard library only. Does not belong here: sockets, what a client has sent.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence

__all__ = ('EMPTY_TABLE', 'START', 'TUNE', 'content', 'delivery', 'method', 'replay', 'short', 'spread')

EMPTY_TABLE = bytes(4)

# Bytes of a batch, about; and messages of one, at most.
BATCH, BATCH_MESSAGES = 1 << 20, 1000

FRAME_MAX, CHANNEL_MAX = 131072, 2047

_FRAME = struct.Struct('>BHI')


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text


def _long(text: bytes) -> bytes:
    return struct.pack('>I', len(text)) + text


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + b'\xce'


def method(channel: int, numbers: tuple[int, int], arguments: bytes = b'') -> bytes:
    """A frame with a method."""
    return _frame(1, channel, struct.pack('>HH', *numbers) + arguments)


_CAPABILITIES = (b'publisher_confirms', b'basic.nack', b'consumer_cancel_notify', b'exchange_exchange_bindings')
_PROPERTIES = _long(
    short(b'product') + b'S' + _long(b'RabbitMQ')
    + short(b'version') + b'S' + _long(b'4.3.0')
    + short(b'capabilities') + b'F' + _long(b''.join(short(name) + b't\x01' for name in _CAPABILITIES))
)  # fmt: skip
START = method(0, (10, 10), b'\x00\x09' + _PROPERTIES + _long(b'PLAIN AMQPLAIN') + _long(b'en_US'))
# No heartbeats: nothing but messages is to be on the wire.
TUNE = method(0, (10, 30), struct.pack('>HIH', CHANNEL_MAX, FRAME_MAX, 0))


def content(channel: int, size: int, headers: int = 2, reply_to: bytes = b'') -> bytes:
    """Header and body frames, with the properties that programs with tasks send."""
    pairs = [(b'lang', b'py'), (b'task', b'proj.tasks.add')]
    pairs += [(b'header-%d' % number, b'value of it') for number in range(headers - len(pairs))]
    table = _long(b''.join(short(key) + b'S' + _long(value) for key, value in pairs[:headers]))
    flags = (1 << 15) | (1 << 14) | (1 << 13) | (1 << 12) | (1 << 10)
    properties = short(b'application/json') + short(b'utf-8') + table + b'\x02'
    properties += short(b'4cc0b8c2-0000-4000-8000-000000000000')
    if reply_to:
        flags |= 1 << 9
        properties += short(reply_to)
    frames = [_frame(2, channel, struct.pack('>HHQH', 60, 0, size, flags) + properties)]
    room = FRAME_MAX - 8
    whole = _frame(3, channel, b'x' * room)
    frames += [whole] * (size // room)
    if size % room:
        frames.append(_frame(3, channel, b'x' * (size % room)))
    return b''.join(frames)


def delivery(channel: int, consumer_tag: bytes, number: int, routing_key: bytes) -> bytes:
    """The frame of basic.deliver."""
    arguments = short(consumer_tag) + struct.pack('>QB', number, 0) + short(b'') + short(routing_key)
    return method(channel, (60, 60), arguments)


def replay(channel: int, consumer_tag: bytes, count: int | None, size: int, headers: int = 2) -> Iterator[bytearray]:
    """Deliveries for one consumer, in batches, each valid until the next one is asked for. count None: without end."""
    one = delivery(channel, consumer_tag, 0, b'replay') + content(channel, size, headers)
    step = max(1, min(BATCH_MESSAGES, BATCH // len(one)))
    batch = bytearray(one * step)
    at = 12 + len(consumer_tag)  # of the delivery tag in a delivery
    first = 1
    while count is None or first <= count:
        number = step if count is None else min(step, count - first + 1)
        if number < step:
            batch = bytearray(one * number)
        tags = array('Q', range(first, first + number))
        if sys.byteorder == 'little':
            tags.byteswap()
        octets = tags.tobytes()
        for place in range(8):
            batch[at + place :: len(one)] = octets[place::8]
        yield batch
        first += number


def spread(consumers: Sequence[tuple[int, bytes]], count: int, size: int) -> Iterator[bytearray]:
    """Deliveries for many consumers (channel, consumer tag) in turn, in one batch."""
    numbers: dict[int, int] = {}
    contents: dict[int, bytes] = {}
    batch = bytearray()
    for position in range(count):
        channel, consumer_tag = consumers[position % len(consumers)]
        numbers[channel] = number = numbers.get(channel, 0) + 1
        if channel not in contents:
            contents[channel] = content(channel, size)
        batch += delivery(channel, consumer_tag, number, b'spread') + contents[channel]
    yield batch
