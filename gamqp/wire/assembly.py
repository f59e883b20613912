"""Contents of which a part is still to come: what has arrived, per channel.

Here stand the rules about the order of method, header and body frames; each breach is an
exception of its own text. Not compiled: a message that arrives whole, as nearly all do, never
comes here. What must not enter: cutting of frames, decoding.
"""

from __future__ import annotations

from collections.abc import Container
from struct import Struct
from typing import Protocol

from .. import exceptions
from . import spec
from .content import Content

__all__ = ('CONTENTS', 'Assembly', 'ContentMemory', 'PartialContent')

#: The kind of what is kept here, for a Memory that counts several.
CONTENTS = 'unfinished contents'

# class, weight (unused), body size; the property flags follow
_FIXED = Struct('>HHQ')
_FLAGS_SIZE = 2
_BASIC = 60
# Chunks of a body below this size are put together as they come: a peer that sends its body byte
# by byte would otherwise cost forty times the memory.
_SMALL = 1024
# What a content takes beside its bytes.
_COST = 700


class ContentMemory(Protocol):
    """Where it is counted what is kept here."""

    def hold(self, kind: str, size: int) -> None:
        """*size* bytes more are kept. Raises an AMQPError when that is too much."""

    def release(self, kind: str, size: int) -> None:
        """*size* bytes are kept no more."""


class PartialContent:
    """One content on its way. content: None for one that is only counted, and never delivered."""

    __slots__ = ('_chunks', 'content', 'header', 'kept', 'method', 'remaining', 'size')

    def __init__(self, content: Content, wanted: bool, size: int) -> None:
        self.method = content.method
        self.content: Content | None = content if wanted else None
        #: What it takes in memory, in bytes.
        self.kept = _COST + (size if wanted else 0)
        #: The property section.
        self.header = b''
        self.size = 0
        #: Bytes of the body to come; -1 while the header is awaited.
        self.remaining = -1
        self._chunks: list[bytes | bytearray] = []

    def add(self, chunk: bytes) -> None:
        """Take in the payload of one body frame."""
        last = self._chunks[-1] if self._chunks else None
        if len(chunk) >= _SMALL:
            self._chunks.append(chunk)
        elif isinstance(last, bytearray):
            last += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def drop(self) -> None:
        """Nobody wants it any more; the rest of it must come all the same."""
        self.content = None
        self.header = b''
        self._chunks.clear()

    def body(self) -> bytes:
        """All of the body, joined once."""
        return b''.join(self._chunks)


class Assembly:
    """The contents on their way, at most one per channel.

    channels: numbers of those that may have one, None for all. memory: told what is kept, None for nobody.
    """

    __slots__ = ('_channels', '_memory', 'halves')

    def __init__(self, channels: Container[int] | None = None, memory: ContentMemory | None = None) -> None:
        self._channels = channels
        self._memory = memory
        #: By channel; always this one dict.
        self.halves: dict[int, PartialContent] = {}

    def __len__(self) -> int:
        return len(self.halves)

    def __repr__(self) -> str:
        return f'<Assembly of {len(self.halves)} contents>'

    def begin(self, channel_id: int, content: Content, size: int) -> None:
        """A method with content has arrived, with arguments of *size* bytes; its header is not here yet."""
        wanted = self._channels is None or channel_id in self._channels
        half = self.halves[channel_id] = PartialContent(content, wanted, size)
        if self._memory is not None:
            self._memory.hold(CONTENTS, half.kept)

    def forget(self, channel_id: int) -> None:
        """Drop what has arrived for a channel, and the rest of it when that comes."""
        half = self.halves.get(channel_id)
        if half is not None and half.content is not None:
            half.drop()
            self._give_back(half, half.kept - _COST)

    def clear(self) -> None:
        """Drop everything."""
        self.halves.clear()  # at the end of the decoder: nobody asks any more what is kept

    def expect_method(self, channel_id: int) -> None:
        """Raise unless a method may come now."""
        half = self.halves.get(channel_id)
        if half is not None:
            awaited = 'its header' if half.remaining < 0 else f'{half.remaining} more bytes of its body'
            raise exceptions.UnexpectedFrame(
                f'method frame on channel {channel_id} amid a {_name(half)}: {awaited} must come first'
            )

    def expect_header(self, channel_id: int) -> PartialContent:
        """The content that a header belongs to."""
        half = self.halves.get(channel_id)
        if half is None:
            raise exceptions.UnexpectedFrame(f'content header on channel {channel_id} without a method before it')
        if half.remaining >= 0:
            raise exceptions.UnexpectedFrame(
                f'second content header on channel {channel_id}; {half.remaining} bytes of body are awaited'
            )
        return half

    def expect_body(self, channel_id: int, size: int) -> PartialContent:
        """The content that a body frame of *size* bytes belongs to."""
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
        """Take in a header frame; returns the content if that completes it."""
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
            half.header = payload[_FIXED.size :]
            self._take(half, len(half.header))
        return self._if_complete(channel_id, half)

    def body(self, channel_id: int, payload: bytes) -> PartialContent | None:
        """Take in a body frame; returns the content if that completes it."""
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
