"""The errors of frames that break the protocol.

Layer 0. Not compiled: each of them ends a connection. Does not belong here: finding out that a frame is wrong,
see ``frames`` and ``assembly``. No call switches greenlets.
"""

from __future__ import annotations

from .. import exceptions
from . import spec

__all__ = ('other_version', 'too_large', 'unknown_type', 'wrong_end', 'wrong_method')


def wrong_end(kind: int, channel_id: int, size: int, end: int) -> exceptions.AMQPError:
    """A frame whose last octet is not the one that ends a frame."""
    return exceptions.FrameError(
        f'frame of type {kind} on channel {channel_id} with {size} bytes ends in {end:#04x}, not in 0xce'
    )


def wrong_method(key: int, channel_id: int) -> exceptions.AMQPError:
    """A method that does not exist, or may not come on this channel. key: class id << 16 | method id."""
    sig = (key >> 16, key & 0xFFFF)
    method = spec.METHODS.get(sig)
    if method is None:
        return exceptions.InvalidCommand(f'unknown method {sig} on channel {channel_id}', sig)
    where = 'channel 0 is for class connection only' if channel_id == 0 else 'it belongs on channel 0'
    return exceptions.InvalidCommand(f'{method.name} on channel {channel_id}: {where}', sig)


def other_version(head: bytes) -> exceptions.AMQPError:
    """A broker that does not speak AMQP 0-9-1 sends the version that it does speak, and closes the socket."""
    version = '-'.join(str(part) for part in head[5:8])
    return exceptions.FrameError(f'the peer refuses AMQP 0-9-1; it offers version {version} (protocol id {head[4]})')


def unknown_type(kind: int, channel_id: int, head: bytes) -> exceptions.AMQPError:
    """A frame of no type that AMQP has. head: the first bytes of it."""
    if kind == 0x15 and channel_id >> 8 == 3:  # an alert record: the answer of a TLS server
        return exceptions.FrameError('the peer speaks TLS: use TLS here, or its port without')
    return exceptions.FrameError(f'unknown frame type {kind}; the bytes are {head[:7]!r} …')


def too_large(frame: str, size: int, limit: str) -> exceptions.AMQPError:
    """A frame that has more bytes than it may have."""
    return exceptions.FrameError(f'{frame} has {size} bytes, {limit}')
