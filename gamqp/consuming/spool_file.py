"""A queue of messages on disk.

Layer 3. The messages are written as frames to unlinked temporary files, and read back through a decoder. They are
collected into blocks, and each block is written at once; a block that cannot be written stays in memory. Reads and
writes name their position, so a forked child, which shares the file's position, disturbs nothing.
Does not belong here: whose messages they are, memory limits, when they are read back.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

from ..wire import Content, Decoder, add_frames

__all__ = ('CHUNK', 'SpoolFile')

# Bytes that are written or read at a time. The hub is blocked meanwhile, for a fraction of a millisecond.
CHUNK = 256 * 1024

# Bytes after which another file is begun. A file is closed, and its space free, when all of it has been read.
SEGMENT = 32 * 1024 * 1024


class _Segment:
    """One file. size: bytes written to it. unread: how many of its blocks have not been read."""

    __slots__ = ('file', 'size', 'unread')

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix='gamqp-', buffering=0)  # noqa: SIM115  closed when all of it was read
        self.size = 0
        self.unread = 0


class _Block:
    """Whole messages, one after the other; the first one arrived at *came_at*."""

    __slots__ = ('at', 'came_at', 'left', 'parts', 'segment')

    def __init__(self, parts: list[Any], size: int, came_at: float) -> None:
        self.parts = parts  # its bytes, while it is in memory
        self.left = size
        self.came_at = came_at
        self.segment: _Segment | None = None
        self.at = 0


class SpoolFile:
    """First in, first out. No call switches greenlets. ``put`` and ``take`` block while the file system does.

    content_class, max_body: as for the decoder that the messages come from. on_error: called
    with the first OSError of a write. bytes: the size of all messages here.
    """

    def __init__(self, content_class: type, max_body: int, on_error: Callable[[OSError], Any]) -> None:
        self.bytes = 0
        self._on_error: Callable[[OSError], Any] | None = on_error
        self._segments: deque[_Segment] = deque()
        self._blocks: deque[_Block] = deque()
        self._parts: list[Any] = []  # the bytes of the next block
        self._size = 0
        self._came_at = 0.0
        self._decoder = Decoder(content_class, 0, max_body)

    def __bool__(self) -> bool:
        return self.bytes > 0

    def __del__(self) -> None:
        self.close()

    def put(self, message: Content, now: float) -> None:
        """Add a message as it came from the decoder. now: its time of arrival, which ``take`` returns."""
        if not self._parts:
            self._came_at = now
        size = add_frames(message, self._parts)
        self._size += size
        self.bytes += size
        if self._size >= CHUNK:
            self._write(self._end_block())

    def take(self) -> tuple[list[Any], float]:
        """Remove and return the next messages, and about when they arrived. Raises OSError if they cannot be read.

        The list is empty when a message is larger than what is read at a time: then call again.
        """
        if not self._blocks:
            self._end_block()  # the last block, which was not written
        block = self._blocks[0]
        before = block.left
        messages = self._read(block) if block.segment is not None else self._recall(block)
        self.bytes -= before - block.left
        if not block.left:
            self._blocks.popleft()
            self._release(block.segment)
        if self._decoder.error is not None:
            raise OSError(f'the spool was damaged: {self._decoder.error}')
        return messages, block.came_at

    def close(self) -> None:
        """Drop everything."""
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()
        self._blocks.clear()
        self._parts = []
        self._size = self.bytes = 0

    # -- blocks ------------------------------------------------------------------

    def _end_block(self) -> _Block:
        block = _Block(self._parts, self._size, self._came_at)
        self._blocks.append(block)
        self._parts, self._size = [], 0
        return block

    def _write(self, block: _Block) -> None:
        try:
            segment = self._open_segment()
            at = segment.size
            for data in _joined(block):
                at += _write_all(segment.file.fileno(), data, at)
        except OSError as exc:
            on_error, self._on_error = self._on_error, None
            if on_error is not None:
                on_error(exc)
            return
        block.parts, block.segment, block.at = [], segment, segment.size
        segment.size = at
        segment.unread += 1

    def _open_segment(self) -> _Segment:
        """The file for the next block."""
        if not self._segments or self._segments[-1].size >= SEGMENT:
            segment = _Segment()
            last = self._segments[-1] if self._segments else None
            self._segments.append(segment)
            if last is not None:
                self._close_if_read(last)
        return self._segments[-1]

    def _release(self, segment: _Segment | None) -> None:
        """A block of this file has been read."""
        if segment is not None:
            segment.unread -= 1
            self._close_if_read(segment)

    def _close_if_read(self, segment: _Segment) -> None:
        if not segment.unread and segment is not self._segments[-1]:
            segment.file.close()
            self._segments.remove(segment)

    def _read(self, block: _Block) -> list[Any]:
        assert block.segment is not None
        descriptor = block.segment.file.fileno()
        messages: list[Any] = []
        left = block.left if block.left < 2 * CHUNK else CHUNK
        while left:
            count = os.preadv(descriptor, [self._decoder.room()[:left]], block.at)
            if not count:
                raise OSError('a file of the spool is shorter than it was')
            messages += self._decoder.commit(count)
            block.at += count
            block.left -= count
            left -= count
        return messages

    def _recall(self, block: _Block) -> list[Any]:
        """``_read`` for a block in memory. It is fed to the decoder in pieces of about CHUNK bytes."""
        taken = used = 0
        for part in block.parts:
            if taken >= CHUNK:
                break
            taken += len(part)
            used += 1
        data = b''.join(block.parts[:used])
        block.parts = block.parts[used:]
        block.left -= taken
        return self._decoder.feed(data)


def _joined(block: _Block) -> list[Any]:
    """The pieces to write: small parts joined to one piece, the parts of a large message as they are."""
    return [b''.join(block.parts)] if block.left < 2 * CHUNK else block.parts


def _write_all(descriptor: int, data: Any, at: int) -> int:
    view = memoryview(data)
    while len(view):
        count = os.pwrite(descriptor, view, at)
        view = view[count:]
        at += count
    return len(data)
