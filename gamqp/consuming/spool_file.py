"""Messages on disk, in order: what had to be read while there was no room for it in memory.

Layer 3. Messages lie in unlinked temporary files, as the frames they came in, and are
read back through a decoder. They are put together in blocks, a block being what is
written at once; one that cannot be written stays in memory. The files belong to the
process that made them: nothing here moves a position that a forked child would share.
What must not enter: whose messages they are, budgets, when they are wanted back.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

from ..wire import Decoder, add_frames

__all__ = ('CHUNK', 'SpoolFile')

# Bytes written, or read, at a time: the hub stands still meanwhile, for a fraction of a millisecond.
CHUNK = 256 * 1024

# Bytes after which another file is begun. The space of one that was read is given back as a whole.
SEGMENT = 32 * 1024 * 1024


class _Segment:
    """One file. size: what was written to it. unread: how many blocks of it are still wanted."""

    __slots__ = ('file', 'size', 'unread')

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix='gamqp-', buffering=0)  # noqa: SIM115  closed when it was read
        self.size = 0
        self.unread = 0


class _Block:
    """Whole messages that are read back one after the other; the first came at *came_at*."""

    __slots__ = ('at', 'came_at', 'left', 'parts', 'segment')

    def __init__(self, parts: list[Any], size: int, came_at: float) -> None:
        self.parts = parts  # while it is in memory
        self.left = size
        self.came_at = came_at
        self.segment: _Segment | None = None
        self.at = 0


class SpoolFile:
    """First in, first out. No call switches greenlets; ``put`` and ``take`` wait for the file system, if that does.

    content_class, max_body: of the decoder that the messages come from. on_error: called
    with the first OSError of a write. bytes: how much is here.
    """

    def __init__(self, content_class: type, max_body: int, on_error: Callable[[OSError], Any]) -> None:
        self.bytes = 0
        self._on_error: Callable[[OSError], Any] | None = on_error
        self._segments: deque[_Segment] = deque()
        self._blocks: deque[_Block] = deque()
        self._parts: list[Any] = []  # of the block to come
        self._size = 0
        self._came_at = 0.0
        self._decoder = Decoder(content_class, 0, max_body)

    def __bool__(self) -> bool:
        return self.bytes > 0

    def __del__(self) -> None:
        self.close()

    def put(self, message: Any, now: float) -> None:
        """Take in a message as it came from the decoder. now: its time of arrival, given back by ``take``."""
        if not self._parts:
            self._came_at = now
        size = add_frames(message, self._parts)
        self._size += size
        self.bytes += size
        if self._size >= CHUNK:
            self._write(self._end_block())

    def take(self) -> tuple[list[Any], float]:
        """The next messages, and about when they arrived. Raises OSError if they cannot be read.

        No messages where one is larger than what is read at a time: then ask again.
        """
        if not self._blocks:
            self._end_block()  # it was never on disk
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
        """The file that is written to."""
        if not self._segments or self._segments[-1].size >= SEGMENT:
            segment = _Segment()
            last = self._segments[-1] if self._segments else None
            self._segments.append(segment)
            if last is not None:
                self._close_if_read(last)
        return self._segments[-1]

    def _release(self, segment: _Segment | None) -> None:
        """A block of it has been read."""
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
        """The same for a block in memory, of which there is never more than a piece at a time in the decoder."""
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
    """What to write: small parts in one go, those of a large message as they are."""
    return [b''.join(block.parts)] if block.left < 2 * CHUNK else block.parts


def _write_all(descriptor: int, data: Any, at: int) -> int:
    view = memoryview(data)
    while len(view):
        count = os.pwrite(descriptor, view, at)
        view = view[count:]
        at += count
    return len(data)
