"""Received bytes that are not yet part of an event.

Layer 0. One bytearray is used for the whole connection, so that receiving allocates nothing. It begins small, since
most connections are idle most of the time, and gets its usual size when one receive has filled it. It grows beyond
that when it is nearly full with one frame, never because a frame announces its size, and shrinks again. Not compiled:
it is used once per receive, not per message. Does not belong here: what the bytes mean.
"""

from __future__ import annotations

__all__ = ('Buffer',)

# Bytes to begin with: more than an idle connection ever receives at once, heartbeats, replies and confirms.
_SMALL = 16 * 1024
# Of a busy connection: twice RabbitMQ's frame_max, so that a whole frame fits behind a part of another one.
_CAPACITY = 256 * 1024
# The least free space of a busy connection: large enough to empty its socket in few calls.
_MIN_ROOM = 64 * 1024


class Buffer:
    """Received bytes, and free space behind them."""

    __slots__ = ('_bytes', '_end', '_start', '_view')

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return self._end - self._start

    def __repr__(self) -> str:
        return f'<Buffer {len(self)} of {len(self._bytes)} bytes>'

    def clear(self) -> None:
        """Forget everything, as if new."""
        self._start = 0  # bytes held are [start:end]
        self._end = 0
        self._allocate(_SMALL)

    def room(self) -> memoryview:
        """The free space, at least 8 KiB, and 64 KiB once so much arrives; valid until another method is called."""
        return self._view[self._end :]

    def commit(self, n: int) -> None:
        """Keep *n* bytes that were written into ``room()``."""
        if n < 0 or n > len(self._bytes) - self._end:
            raise ValueError(f'commit of {n} bytes into a room of {len(self._bytes) - self._end}')
        self._end += n

    def held(self) -> tuple[bytearray, int, int]:
        """Where the bytes are that are kept: a bytearray, from and to. Valid until another method is called."""
        return self._bytes, self._start, self._end

    def copy(self) -> bytes:
        """A copy of all bytes that are kept."""
        return bytes(self._view[self._start : self._end])

    def consume(self, n: int) -> None:
        """Drop the first *n* bytes that are kept, and make room again."""
        end, capacity = self._end, len(self._bytes)
        start = self._start = self._start + n
        if start == end < capacity <= _CAPACITY:
            self._start = self._end = 0
            return
        held = end - start
        if capacity < _CAPACITY:
            self._consume_small(held, capacity)
            return
        wanted = capacity
        if held <= _CAPACITY // 2:
            wanted = _CAPACITY
        elif capacity - held < _MIN_ROOM:
            wanted = capacity * 2
        if wanted != capacity or capacity - self._end < _MIN_ROOM:
            self._move(wanted)

    def _consume_small(self, held: int, capacity: int) -> None:
        # What fills it has more behind it in the kernel, and what is half a frame already has more to come.
        if self._end == capacity or held > capacity // 2:
            self._move(_CAPACITY)
        elif capacity - self._end < capacity // 2:
            self._move(capacity)

    def _move(self, capacity: int) -> None:
        """Move the bytes that are kept to the front of a buffer of *capacity* bytes."""
        held = len(self)
        source = self._view[self._start : self._end]
        if capacity != len(self._bytes):
            self._allocate(capacity)
        self._view[:held] = source
        self._start = 0
        self._end = held

    def _allocate(self, capacity: int) -> None:
        # Replaced, not resized: a bytearray cannot be resized while a memoryview of it exists.
        self._bytes = bytearray(capacity)
        self._view = memoryview(self._bytes)
