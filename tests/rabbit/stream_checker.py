"""What a client may send: a checker of AMQP byte streams that shares no code with the library under test.

Job: follows one direction of a connection, chunk by chunk, and raises `BadStream` at the first byte that no
correct peer could have sent: a broken frame, a frame too large, content without its method, content of two
messages mixed on one channel. Counts what went by.

Ban: nothing of gamqp; knows frames and the shape of content, not the arguments of methods (but the routing
key of a publish, to tell messages apart, and the tag of an ack, which may stand for many).
"""

from __future__ import annotations

import struct
from collections import Counter

HEADER = b'AMQP\x00\x00\x09\x01'

METHOD, CONTENT_HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE

PUBLISH = (60, 40)
ACK = (60, 80)
# The methods that content follows: basic publish, return, deliver, get-ok.
_WITH_CONTENT = {PUBLISH, (60, 50), (60, 60), (60, 71)}


class BadStream(AssertionError):
    """The peer sent what AMQP does not allow."""


class Stream:
    """One direction of one connection. `client` tells which end sent it."""

    def __init__(self, client: bool = True, frame_max: int = 131072) -> None:
        self.frame_max = frame_max
        self.frames = 0
        self.heartbeats = 0
        self.methods: Counter[tuple[int, int]] = Counter()
        self.published: list[tuple[int, str, int]] = []  # channel, routing key, body size: of whole messages
        self.acked: dict[int, set[int]] = {}  # channel -> tags of deliveries, in the life of one channel
        self.handshake: dict[tuple[int, int], bytes] = {}  # methods of class connection, with their arguments
        self.bytes = 0
        self._expect_header = client
        self._buffer = bytearray()
        # channel -> [bytes of body to come (None: the header is to come), routing key, size]
        self._open: dict[int, list[object]] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises BadStream."""
        self.bytes += len(data)
        self._buffer += data
        if self._expect_header:
            if len(self._buffer) < len(HEADER):
                return
            if bytes(self._buffer[:8]) != HEADER:
                raise BadStream(f'began with {bytes(self._buffer[:8])!r}')
            del self._buffer[:8]
            self._expect_header = False
        at = 0
        while len(self._buffer) - at >= 7:
            kind, channel, size = struct.unpack_from('>BHI', self._buffer, at)
            if size + 8 > self.frame_max:
                raise BadStream(f'{self._where()}: type {kind}, channel {channel}, size {size} > {self.frame_max}')
            if len(self._buffer) - at < size + 8:
                break
            payload = bytes(self._buffer[at + 7 : at + 7 + size])
            if self._buffer[at + 7 + size] != FRAME_END:
                raise BadStream(f'{self._where()}: type {kind}, channel {channel}, size {size} has no frame end')
            self._frame(kind, channel, payload)
            at += size + 8
        del self._buffer[:at]

    @property
    def whole(self) -> bool:
        """Whether the stream may end here: no part of a frame, or of a message, has gone by."""
        return not self._buffer and not self._open

    def _where(self) -> str:
        return f'frame {self.frames}, byte {self.bytes - len(self._buffer)}'

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        self.frames += 1
        if kind == HEARTBEAT:
            if channel or payload:
                raise BadStream(f'{self._where()}: heartbeat with channel {channel}, {payload!r}')
            self.heartbeats += 1
        elif kind == METHOD:
            self._method(channel, payload)
        elif kind == CONTENT_HEADER:
            self._content_header(channel, payload)
        elif kind == BODY:
            self._body(channel, payload)
        else:
            raise BadStream(f'{self._where()}: frame type {kind}')

    def _method(self, channel: int, payload: bytes) -> None:
        sig = struct.unpack_from('>HH', payload)
        if channel in self._open:
            raise BadStream(f'{self._where()}: method {sig} inside the content of a message on channel {channel}')
        self.methods[sig] += 1
        if sig[0] == 10:
            self.handshake[sig] = payload[4:]
        if sig == ACK:
            tag, multiple = struct.unpack_from('>Q?', payload, 4)
            acked = self.acked.setdefault(channel, set())
            acked.add(tag)
            while multiple and (tag := tag - 1) and tag not in acked:
                acked.add(tag)
        if sig in _WITH_CONTENT:
            key = ''
            if sig == PUBLISH:
                after_exchange = 7 + payload[6]
                start = after_exchange + 1
                key = payload[start : start + payload[after_exchange]].decode()
            self._open[channel] = [None, key, 0]

    def _content_header(self, channel: int, payload: bytes) -> None:
        state = self._open.get(channel)
        if state is None or state[0] is not None:
            raise BadStream(f'{self._where()}: content header where none was due, channel {channel}')
        class_id, weight, size = struct.unpack_from('>HHQ', payload)
        if class_id != 60 or weight:
            raise BadStream(f'{self._where()}: content header of class {class_id}, weight {weight}')
        state[0] = state[2] = size
        self._end_content(channel)

    def _body(self, channel: int, payload: bytes) -> None:
        state = self._open.get(channel)
        if state is None or state[0] is None or not payload or len(payload) > state[0]:  # type: ignore[operator]
            due = None if state is None else state[0]
            raise BadStream(f'{self._where()}: body of {len(payload)} bytes, channel {channel}, due {due}')
        state[0] -= len(payload)  # type: ignore[operator]
        self._end_content(channel)

    def _end_content(self, channel: int) -> None:
        left, key, size = self._open[channel]
        if left == 0:
            del self._open[channel]
            self.published.append((channel, key, size))  # type: ignore[arg-type]
