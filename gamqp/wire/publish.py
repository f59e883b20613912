# cython: language_level=3, annotation_typing=False
"""Encodes messages: method, header and body frames in one buffer.

Layer 0. One buffer, because a message must be sent whole or not at all: no other frame of the same channel may come
between its frames, and a caller may be killed at any switch. No call switches greenlets.
Does not belong here: sending, and what properties mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .methods import encode_method, write_method
from .properties import write_properties
from .value_checks import within
from .write import Encoder, ranged

if TYPE_CHECKING:
    import cython
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'HEARTBEAT', 'PROTOCOL_HEADER', 'encode_content', 'encode_method', 'encode_publish')

COMPILED: bool = cython.compiled

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int
_bool = bool

#: What a client sends first: AMQP 0-9-1.
PROTOCOL_HEADER = b'AMQP\x00\x00\x09\x01'
#: A whole heartbeat frame.
HEARTBEAT = b'\x08\x00\x00\x00\x00\x00\x00\xce'

_BASIC = 60
_PUBLISH = (60 << 16) | 40
_METHOD = spec.FRAME_METHOD
_HEADER = spec.FRAME_HEADER
_BODY = spec.FRAME_BODY
_OVERHEAD = spec.FRAME_OVERHEAD
_ROOM = 512  # bytes without the body: method, header and usual properties
# The size of body frames when no limit is negotiated, well below what a frame's 32-bit size can hold.
_UNLIMITED = 0x4000_0000


def encode_publish(
    channel_id: _int,
    exchange: str | bytes | None,
    routing_key: str | bytes | None,
    mandatory: _bool,
    immediate: _bool,
    properties: Any,
    body: Any,
    frame_max: _int,
) -> bytearray:
    """basic.publish with its content; *frame_max* is the limit of a frame's whole size, 0 for none.

    properties: dict by py-amqp's names, or None. body: bytes, bytearray, contiguous memoryview,
    or str, which is encoded as UTF-8. Raises EncodeError that names what cannot be sent.
    """
    octets = _body(body)
    channel = ranged(channel_id, 0, 0xFFFF)
    writer = Encoder(_room_for(len(octets), frame_max))
    start = writer.begin_frame(_METHOD, channel)
    writer.u32(_PUBLISH)
    writer.u16(0)  # reserved
    place = 'exchange'
    try:
        writer.shortstr(exchange)
        place = 'routing_key'
        writer.shortstr(routing_key)
    except exceptions.EncodeError as exc:
        raise within(f'basic.publish: {place}', exc) from None
    writer.u8((1 if mandatory else 0) | (2 if immediate else 0))
    writer.end_frame(start, frame_max, 'basic.publish')
    _write_content(writer, channel, properties, octets, frame_max, 'basic.publish')
    return writer.detach()


def encode_content(
    channel_id: _int, sig: spec.Sig, args: Any, properties: Any, body: Any, frame_max: _int
) -> bytearray:
    """Any method with content (deliver, return, get-ok, publish), as ``encode_publish`` does."""
    method = spec.METHODS.get(sig)
    if method is None or not method.content:
        raise exceptions.EncodeError(f'method {sig} carries no content')
    octets = _body(body)
    writer = Encoder(_room_for(len(octets), frame_max))
    write_method(writer, channel_id, sig, args, frame_max)
    _write_content(writer, channel_id, properties, octets, frame_max, method.name)
    return writer.detach()


def _room_for(size: _int, frame_max: _int) -> int:
    """The bytes that a message with a body of *size* usually takes, so that the buffer need not grow."""
    frames = size // (frame_max - _OVERHEAD) + 1 if frame_max > _OVERHEAD else 1
    return _ROOM + size + frames * _OVERHEAD


def _write_content(
    writer: Encoder, channel_id: _int, properties: Any, octets: bytes, frame_max: _int, what: str
) -> None:
    """Header and body frames."""
    size = len(octets)
    start = writer.begin_frame(_HEADER, channel_id)
    writer.u32(_BASIC << 16)  # class, and the weight, which is always 0
    writer.u64(size)
    try:
        write_properties(writer, properties)
    except exceptions.EncodeError as exc:
        raise within(what, exc) from None
    writer.end_frame(start, frame_max, what)
    if size:
        _write_body(writer, channel_id, octets, frame_max)


def _write_body(writer: Encoder, channel_id: _int, octets: bytes, frame_max: _int) -> None:
    """The body in frames as large as the connection allows."""
    size = len(octets)
    most = frame_max - _OVERHEAD if frame_max else _UNLIMITED
    at = 0
    while at < size:
        n = min(most, size - at)
        start = writer.begin_frame(_BODY, channel_id)
        writer.part(octets, at, n)
        writer.end_frame(start, 0, 'body')
        at += n


def _body(body: Any) -> bytes:
    if type(body) is bytes:
        return body
    try:
        if isinstance(body, str):
            return str.encode(body)
        if isinstance(body, memoryview) and not body.contiguous:
            raise exceptions.EncodeError('body: a memoryview must be contiguous')
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
    except UnicodeEncodeError:
        raise exceptions.EncodeError('body: text has no UTF-8 form (it holds a lone surrogate)') from None
    except exceptions.EncodeError:
        raise
    except ValueError as exc:  # a released memoryview
        raise exceptions.EncodeError(f'body: {exc}') from None
    raise exceptions.EncodeError(f'body: expected bytes or str, got {type(body).__name__}')
