"""What passed a proxy, kept in files, and read when messages are missing: who had them last.

    record = WireRecord(tmp_path)
    with Proxy(port, record=record) as proxy:
        …
    record.read()
    record.faults_of_client([b'17'], back=[])

The bodies of messages are their names, so each body must be another one. Shares no code with the library under test,
nor with what checks the stream while it passes.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_METHOD, _BODY = 1, 3
_CLOSE = (10, 50)
_CHANNEL_OPEN, _CHANNEL_OPEN_OK = (20, 10), (20, 11)
_PUBLISH, _DELIVER, _ACK, _NACK, _REJECT = (60, 40), (60, 60), (60, 80), (60, 120), (60, 90)

#: A message of one channel, from its opening on: number of the channel, how often it was opened, delivery tag.
Place = tuple[int, int, int]


class WireRecord:
    """The bytes of all connections of some proxies, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self.confirmed: Counter[bytes] = Counter()  # body: how often the broker has confirmed it
        self.deliveries: Counter[bytes] = Counter()  # body: how often it went to the client
        self.settled: Counter[bytes] = Counter()  # body: how often the client has acked, nacked or rejected it
        self.swallowed: set[bytes] = set()  # delivered, and not settled before the client closed that connection

    def files(self) -> tuple[BinaryIO, BinaryIO]:
        """For a new connection: what goes to the broker, and what comes from it."""
        name = self._folder / f'{next(self._numbers):05}'
        return name.with_suffix('.up').open('wb'), name.with_suffix('.down').open('wb')

    def read(self) -> None:
        """Count what became of each message. The proxies are closed."""
        for up in self._folder.glob('*.up'):
            self._read_pair(up.read_bytes()[8:], up.with_suffix('.down').read_bytes())

    def faults_of_client(self, missing: Iterable[bytes], back: Container[bytes]) -> dict[bytes, str]:
        """Of messages for which the client tells a confirm, and which its handlers never got: those that it has lost.

        The others the broker has: it confirmed them, and they were not settled by the client on any connection.
        back: those that were in the queues again once the client had closed its connections.
        """
        return {
            body: fault
            for body in missing
            for fault, found in (
                ('was not confirmed', not self.confirmed[body]),
                ('was settled', self.settled[body] > 0),
                ('was delivered, and kept until the connection was closed', body in self.swallowed and body in back),
            )
            if found
        }

    def _read_pair(self, up: bytes, down: bytes) -> None:
        sent, received = _Way(up, _PUBLISH, (_ACK, _NACK, _REJECT)), _Way(down, _DELIVER, (_ACK,))
        self.deliveries.update(received.messages.values())
        self.confirmed.update(sent.messages[place] for place in _named(received.tags, sent.messages))
        settled = _named(sent.tags, received.messages)
        self.settled.update(received.messages[place] for place in settled)
        if sent.closes:
            self.swallowed.update(body for place, body in received.messages.items() if place not in settled)


def _named(tags: list[tuple[Place, bool]], messages: Container[Place]) -> set[Place]:
    """The messages that these tags mean, alone or by one that stands for all before it."""
    named: set[Place] = set()
    up_to: Counter[tuple[int, int]] = Counter()  # by channel and life: all tags up to this one were meant
    for (channel, life, tag), multiple in tags:
        first = up_to[channel, life] + 1 if multiple else tag
        named.update(place for one in range(first, tag + 1) if (place := (channel, life, one)) in messages)
        if multiple:
            up_to[channel, life] = max(tag, up_to[channel, life])
    return named


class _Way:
    """What one way of a connection carried."""

    def __init__(self, stream: bytes, content: tuple[int, int], settling: tuple[tuple[int, int], ...]) -> None:
        self.messages: dict[Place, bytes] = {}
        self.tags: list[tuple[Place, bool]] = []  # settled messages of the other way; whether with all before
        self.closes = False  # the connection
        self._content, self._settling = content, settling
        self._lives: Counter[int] = Counter()
        self._counts: Counter[tuple[int, int]] = Counter()  # publishes of a channel, from its opening on
        self._places: dict[int, Place] = {}  # of the content that is under way, by channel
        for kind, channel, payload in _frames(stream):
            if kind == _METHOD:
                self._method(channel, payload)
            elif kind == _BODY:
                place = self._places[channel]
                self.messages[place] = self.messages.get(place, b'') + payload

    def _method(self, channel: int, payload: bytes) -> None:
        method = struct.unpack_from('>HH', payload)
        if method in (_CHANNEL_OPEN, _CHANNEL_OPEN_OK):
            self._lives[channel] += 1
        elif method == _CLOSE:
            self.closes = True
        elif method == self._content:
            life = (channel, self._lives[channel])
            self._counts[life] += 1
            tag = _tag_of_delivery(payload) if method == _DELIVER else self._counts[life]
            self._places[channel] = (*life, tag)
        elif method in self._settling:
            tag, bits = struct.unpack_from('>QB', payload, 4)
            multiple = method != _REJECT and bool(bits & 1)
            self.tags.append(((channel, self._lives[channel], tag), multiple))


def _tag_of_delivery(payload: bytes) -> int:
    after_consumer_tag = 5 + payload[4]
    return int.from_bytes(payload[after_consumer_tag : after_consumer_tag + 8], 'big')


def _frames(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Whole frames: the last one may have been cut."""
    at = 0
    while at + 7 <= len(stream):
        kind, channel, size = struct.unpack_from('>BHI', stream, at)
        if at + 8 + size > len(stream):
            return
        yield kind, channel, stream[at + 7 : at + 7 + size]
        at += 8 + size
