"""The rules of connection.tune: whose number wins.

Pure functions. https://www.rabbitmq.com/docs/heartbeats for the heartbeat; for
the two limits the smaller one wins and 0 stands for "no limit".
"""

from __future__ import annotations

from .. import exceptions

__all__ = ('CHANNEL_LIMIT', 'FRAME_MIN', 'channel_max', 'frame_max', 'heartbeat')

CHANNEL_LIMIT = 65535  # a channel number is 16 bits on the wire
FRAME_MIN = 4096  # no peer may ask for less (frame-min-size)


def smaller(ours: int, theirs: int) -> int:
    """The smaller of two limits of which 0 means none."""
    if ours and theirs:
        return min(ours, theirs)
    return ours or theirs


def channel_max(ours: int, theirs: int) -> int:
    """Highest channel number to use."""
    return smaller(ours, theirs) or CHANNEL_LIMIT


def frame_max(ours: int, theirs: int) -> int:
    """Largest frame in bytes, its 8 bytes of envelope included; 0 means no limit.

    Raises NotAllowed when the peer wants frames smaller than the protocol's minimum.
    """
    agreed = smaller(ours, theirs)
    if agreed and agreed < FRAME_MIN:
        raise exceptions.NotAllowed(
            f'frame_max {agreed} is below the minimum of {FRAME_MIN} (ours {ours}, theirs {theirs})', (10, 30)
        )
    return agreed


def heartbeat(ours: float | None, theirs: int) -> int:
    """Seconds between signs of life.

    ours: None takes the server's, 0 turns heartbeats off, whatever the server
    says; else the smaller of the two, or the larger one when the server says 0.
    """
    if ours is None:
        return theirs
    if ours == 0:
        return 0
    # On the wire it is whole seconds; a fraction must not become "off".
    wanted = max(1, round(ours))
    return min(wanted, theirs) if theirs else wanted
