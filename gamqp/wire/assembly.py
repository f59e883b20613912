"""Messages of which a part has not arrived yet, per channel.

Layer 0. Checks the order of method, header and body frames; each violation is an exception with its own text. Not
compiled: messages that arrive whole, as nearly all do, are not handled here. No call switches greenlets.
Does not belong here: finding the frames in the stream, decoding.
"""

from __future__ import annotations

from collections.abc import Container
from struct import Struct
from typing import Protocol

from .. import exceptions
from . import spec
from .content import Content
from .frame_errors import other_version, too_large, unknown_type

__all__ = ('CONTENTS', 'MAX_CONTROL', 'Assembly', 'ContentMemory', 'PartialContent')

#: Limit of the payload of method and header frames. frame_max is not applied to them: RabbitMQ neither splits nor
#: limits a header frame, and a header that dead-lettering has made long would end every connection it is sent to.
MAX_CONTROL = 16 * 1024 * 1024

#: The kind under which a ContentMemory counts what is kept here.
CONTENTS = 'unfinished contents'

# class, weight (unused), body size; the property flags follow
_FIXED = Struct('>HHQ')
# the end of the method's frame, and the head of the header's: type, channel, size
_BEFORE_FIXED = Struct('>BBHI')
_FLAGS_SIZE = 2
_BASIC = 60
# Parts of a body below this size are joined as they arrive. Otherwise a peer that sends a body byte by
# byte would make it take forty times the memory.
_SMALL = 1024
# Bytes of memory that a message takes beside its own bytes.
_COST = 700


class ContentMemory(Protocol):
    """Counts the memory of what is kept here."""

    def hold(self, kind: str, size: int) -> None:
        """*size* more bytes are kept. Raises an AMQPError if that is too much."""

    def release(self, kind: str, size: int) -> None:
        """*size* bytes are not kept any more."""


class PartialContent:
    """An incomplete message. content: None if it is dropped and only its frames are checked."""

    __slots__ = ('_chunks', 'content', 'header', 'kept', 'method', 'remaining', 'size')

    def __init__(self, content: Content, wanted: bool, size: int) -> None:
        self.method = content._method
        self.content: Content | None = content if wanted else None
        #: The memory that it takes, in bytes.
        self.kept = _COST + (size if wanted else 0)
        #: From the end of the method's frame to the end of the properties, as ``Content._head`` has it.
        self.header = b''
        self.size = 0
        #: Bytes of the body that have not arrived; -1 before the header.
        self.remaining = -1
        self._chunks: list[bytes | bytearray] = []

    def add(self, chunk: bytes) -> None:
        """Add the payload of one body frame."""
        last = self._chunks[-1] if self._chunks else None
        if len(chunk) >= _SMALL:
            self._chunks.append(chunk)
        elif isinstance(last, bytearray):
            last += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def drop(self) -> None:
        """Drop what has arrived. The rest of the message must still arrive, and is dropped, too."""
        self.content = None
        self.header = b''
        self._chunks.clear()

    def body(self) -> bytes:
        """The whole body."""
        return b''.join(self._chunks)


class Assembly:
    """The incomplete messages, at most one per channel.

    channels: the numbers of the open channels, None for all. memory: counts what is kept; None: nothing does.
    """

    __slots__ = ('_channels', '_memory', 'halves')

    def __init__(self, channels: Container[int] | None = None, memory: ContentMemory | None = None) -> None:
        self._channels = channels
        self._memory = memory
        #: By channel. The dict is never replaced, so others may hold it.
        self.halves: dict[int, PartialContent] = {}

    def __len__(self) -> int:
        return len(self.halves)

    def __repr__(self) -> str:
        return f'<Assembly of {len(self.halves)} contents>'

    def begin(self, channel_id: int, content: Content, size: int) -> None:
        """A method with content has arrived, without its header. size: bytes of its arguments."""
        wanted = self._channels is None or channel_id in self._channels
        half = self.halves[channel_id] = PartialContent(content, wanted, size)
        if self._memory is not None:
            self._memory.hold(CONTENTS, half.kept)

    def forget(self, channel_id: int) -> None:
        """Drop the incomplete message of a channel, and the rest of it when it arrives."""
        half = self.halves.get(channel_id)
        if half is not None and half.content is not None:
            half.drop()
            self._give_back(half, half.kept - _COST)

    def clear(self) -> None:
        """Drop everything."""
        self.halves.clear()  # the decoder has ended, so the memory need not be counted any more

    def check_start(self, kind: int, channel_id: int, size: int, head: bytes, frame_max: int) -> int:
        """Check a frame by its first bytes, before its payload has arrived. Returns its whole size.

        size: of the payload. head: its first 8 bytes, or less. frame_max: largest body frame, 0 is no limit.
        """
        if kind == spec.FRAME_METHOD:
            self.expect_method(channel_id)
        elif kind == spec.FRAME_HEADER:
            self.expect_header(channel_id)
        elif kind == spec.FRAME_BODY:
            self.expect_body(channel_id, size)
        elif kind == spec.FRAME_HEARTBEAT:
            if channel_id != 0 or size != 0:
                raise exceptions.FrameError(f'heartbeat on channel {channel_id} with {size} bytes of payload')
        elif head[:4] == b'AMQP':
            if len(head) < 8:
                return 8
            raise other_version(head)
        else:
            raise unknown_type(kind, channel_id, head)
        total = size + spec.FRAME_OVERHEAD
        if kind == spec.FRAME_BODY:
            if frame_max and total > frame_max:
                raise too_large(f'body frame on channel {channel_id}', total, f'agreed on are {frame_max}')
        elif size > MAX_CONTROL:
            raise too_large(f'frame of type {kind} on channel {channel_id}', total, f'accepted are {MAX_CONTROL}')
        return total

    def expect_method(self, channel_id: int) -> None:
        """Raise unless a method may come now."""
        half = self.halves.get(channel_id)
        if half is not None:
            awaited = 'its header' if half.remaining < 0 else f'{half.remaining} more bytes of its body'
            raise exceptions.UnexpectedFrame(
                f'method frame on channel {channel_id} amid a {_name(half)}: {awaited} must come first'
            )

    def expect_header(self, channel_id: int) -> PartialContent:
        """The message that a header belongs to; raises if none is expected."""
        half = self.halves.get(channel_id)
        if half is None:
            raise exceptions.UnexpectedFrame(f'content header on channel {channel_id} without a method before it')
        if half.remaining >= 0:
            raise exceptions.UnexpectedFrame(
                f'second content header on channel {channel_id}; {half.remaining} bytes of body are awaited'
            )
        return half

    def expect_body(self, channel_id: int, size: int) -> PartialContent:
        """The message that a body frame of *size* bytes belongs to; raises if none is expected."""
        half = self.halves.get(channel_id)
        if half is None or half.remaining < 0:
            missing = 'method' if half is None else 'header'
            raise exceptions.UnexpectedFrame(f'body frame on channel {channel_id} without a {missing} before it')
        if size > half.remaining:
            raise exceptions.UnexpectedFrame(
                f'body frame of {size} bytes on channel {channel_id}, only {half.remaining} of the body are left'
            )
        return half

    def header(self, channel_id: int, payload: bytes, max_body: int) -> PartialContent | None:
        """Handle a header frame. Returns the message if that completes it."""
        half = self.expect_header(channel_id)
        if len(payload) < _FIXED.size + _FLAGS_SIZE:
            raise exceptions.FrameSyntaxError(f'content header on channel {channel_id} has only {len(payload)} bytes')
        class_id, _, size = _FIXED.unpack_from(payload)
        if class_id != _BASIC:
            raise exceptions.UnexpectedFrame(
                f'content header of class {class_id} on channel {channel_id} after {_name(half)}'
            )
        if size > max_body:
            raise exceptions.InboundBodyTooLarge(
                f'{_name(half)} on channel {channel_id} announces a body of {size} bytes, accepted are {max_body}'
            )
        half.size = half.remaining = size
        if half.content is not None:
            half.header = _BEFORE_FIXED.pack(spec.FRAME_END, spec.FRAME_HEADER, channel_id, len(payload)) + payload
            self._take(half, len(payload) - _FIXED.size)
        return self._if_complete(channel_id, half)

    def body(self, channel_id: int, payload: bytes) -> PartialContent | None:
        """Handle a body frame. Returns the message if that completes it."""
        half = self.expect_body(channel_id, len(payload))
        half.remaining -= len(payload)
        if half.content is not None:
            half.add(payload)
            self._take(half, len(payload))
        return self._if_complete(channel_id, half)

    def _if_complete(self, channel_id: int, half: PartialContent) -> PartialContent | None:
        if half.remaining:
            return None
        del self.halves[channel_id]
        self._give_back(half, half.kept)
        return half if half.content is not None else None

    def _take(self, half: PartialContent, size: int) -> None:
        half.kept += size
        if self._memory is not None:
            self._memory.hold(CONTENTS, size)

    def _give_back(self, half: PartialContent, size: int) -> None:
        half.kept -= size
        if self._memory is not None:
            self._memory.release(CONTENTS, size)


def _name(half: PartialContent) -> str:
    return spec.METHODS[half.method].name if half.method else 'content'
