"""Which publishes have not been sent at all, found in the bytes that were still queued when a socket was lost.

State, no I/O. What a publisher does costs nothing for that: only after a loss frames are looked at. Does not belong
here: which confirm they would have had (``confirm_matching``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from .return_matching import Frames

__all__ = ('address', 'longest_frame', 'publishes_by_channel', 'sets_behind')

_START = struct.Struct('>BHI')  # of a frame: type, channel, size of what follows
_OVERHEAD = _START.size + 1
_BODY_TYPES = (2, 3)  # header and body: they continue the set that a method has begun
_PUBLISH = b'\x00\x3c\x00\x28'  # class 60, method 40


def sets_behind(rest: memoryview) -> list[bytes]:
    """The complete frame sets in what is left of some that were joined; the first may have been cut in two.

    rest: a view of the end of these joined sets.
    """
    joined: Any = rest.obj
    sent, begin, place, sets = len(joined) - len(rest), 0, 0, []
    while place < len(joined):
        kind, _, size = _START.unpack_from(joined, place)
        if kind not in _BODY_TYPES and place > begin:
            if begin >= sent:
                sets.append(bytes(joined[begin:place]))
            begin = place
        place += _OVERHEAD + size
    if sent <= begin < place:
        sets.append(bytes(joined[begin:place]))
    return sets


def publishes_by_channel(sets: Iterable[Frames]) -> dict[int, list[Frames]]:
    """Those of the frame sets that are publishes, by the number of their channel, in order."""
    publishes: dict[int, list[Frames]] = {}
    for frames in sets:
        if frames[7:11] == _PUBLISH and frames[0] == 1:
            publishes.setdefault(frames[1] << 8 | frames[2], []).append(frames)
    return publishes


def longest_frame(frames: Frames) -> int:
    """The size of the longest frame of a set, with all that belongs to it."""
    longest = place = 0
    while place < len(frames):
        size = _OVERHEAD + int(_START.unpack_from(frames, place)[2])
        longest = max(longest, size)
        place += size
    return longest


def address(frames: Frames) -> tuple[str, str]:
    """Exchange and routing key of a publish."""
    place = 13
    names = []
    for _ in range(2):
        end = place + 1 + frames[place]
        names.append(bytes(frames[place + 1 : end]).decode(errors='replace'))
        place = end
    return names[0], names[1]
