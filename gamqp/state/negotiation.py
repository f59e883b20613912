"""The rules of connection.tune: which side's number counts. And the version of RabbitMQ.

Pure functions. Does not belong here: the handshake. https://www.rabbitmq.com/docs/heartbeats for the heartbeat; for
the two limits the smaller one wins and 0 stands for "no limit".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .. import exceptions

__all__ = (
    'CHANNEL_LIMIT',
    'FRAME_MIN',
    'channel_max',
    'channels_for_program',
    'frame_max',
    'heartbeat',
    'rabbitmq_version',
    'smallest_frame',
)

CHANNEL_LIMIT = 65535  # a channel number is 16 bits on the wire
FRAME_MIN = 4096  # no peer may ask for less (frame-min-size)
RABBITMQ_FRAME_MIN = 8192  # RabbitMQ's, since 4.1


def rabbitmq_version(properties: Mapping[str, Any]) -> tuple[int, ...]:
    """(4, 3) for RabbitMQ 4.3.6, by the server's properties; () for another product or an unknown version."""
    # Others bear version numbers of their own, which say nothing about RabbitMQ's faults.
    if properties.get('product') != 'RabbitMQ':
        return ()
    try:
        # Two parts, because the third may have letters ('3.13.0-rc.1'). A missing version becomes the text 'None',
        # which is no number. The result () is less than each version, so callers write ``() < version < (3, 13)``.
        return tuple(int(part) for part in str(properties.get('version')).split('.')[:2])
    except ValueError:
        return ()


def smallest_frame(properties: Mapping[str, Any]) -> int:
    """The smallest frame_max that this server accepts. RabbitMQ closes the socket on a client that asks for less."""
    return RABBITMQ_FRAME_MIN if rabbitmq_version(properties) >= (4, 1) else FRAME_MIN


def smaller(ours: int, theirs: int) -> int:
    """The smaller of two limits of which 0 means none."""
    # With 0 min() would choose "no limit", which is the larger one.
    if ours and theirs:
        return min(ours, theirs)
    return ours or theirs


def channel_max(ours: int, theirs: int) -> int:
    """Highest channel number to use."""
    # Without a limit on both sides the width of the number is one.
    return smaller(ours, theirs) or CHANNEL_LIMIT


def channels_for_program(agreed: int, recovers: bool) -> int:
    """How many of the *agreed* channels the program may have. recovers: one is the connection's own.

    Raises NotAllowed where none is left.
    """
    if recovers and agreed == 1:
        raise exceptions.NotAllowed(
            'the broker allows one channel (channel_max), and a connection with recover takes that for itself', (10, 30)
        )
    return agreed - recovers


def frame_max(ours: int, theirs: int, least: int = FRAME_MIN) -> int:
    """Largest frame in bytes, with its 8 bytes of header and end mark; 0 means no limit.

    least: the smallest that the server accepts, see smallest_frame. Raises NotAllowed when
    one of the two wants smaller frames.
    """
    # 0 passes the check: without a limit there is none that could be too small.
    agreed = smaller(ours, theirs)
    if agreed and agreed < least:
        raise exceptions.NotAllowed(
            f'frame_max {agreed} is below the minimum of {least} (ours {ours}, theirs {theirs})', (10, 30)
        )
    return agreed


def heartbeat(ours: float | None, theirs: int) -> int:
    """Seconds of the heartbeat interval.

    ours: None takes the server's, 0 turns heartbeats off, whatever the server
    says; else the smaller of the two, or the larger one when the server says 0.
    Raises ValueError for one of ours that is negative, infinite or no number.
    """
    if ours is None:
        return theirs
    # NaN fails the first comparison, so it is refused as well.
    if not 0 <= ours < math.inf:
        raise ValueError(f'heartbeat: 0 or more seconds, not {ours!r}')
    if ours == 0:
        return 0
    # On the wire it is whole seconds; a fraction must not become "off".
    wanted = max(1, round(ours))
    return min(wanted, theirs) if theirs else wanted
