# cython: language_level=3, annotation_typing=False
"""Encodes messages: method, header and body frames in one buffer.

Layer 0. One buffer, because a message must be sent whole or not at all: no other frame of the same channel may come
between its frames, and a caller may be killed at any switch. No call switches greenlets.

Most programs publish to a few places, and with the same properties again and again. What such messages have in common
is encoded once and kept, see ``PublishTarget``. Does not belong here: sending, and what properties mean.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .methods import encode_method, write_method
from .properties import write_properties
from .value_checks import within
from .write import Encoder, ranged

# pyright: reportMissingImports=false
if TYPE_CHECKING:
    import cython
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memcpy
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

# So many targets are known. Before there are more all are forgotten: that is quick, and a program that publishes
# to ever new places gains nothing from what is kept.
_MOST_TARGETS = 64
# Properties that take more bytes are not kept, so that what is kept stays small.
_MOST_KEPT = 1024
# When the properties change, the new ones are kept at the 1st, 2nd, 4th, 8th … such message in a row, and then at every
# 64th: a program that gives each message an id pays little for what never comes again.
_RARELY = 64
# Values of these types cannot change: the same object means the same bytes. A value of a subclass may behave otherwise.
_UNCHANGING = frozenset((str, int, bytes, float, bool, type(None)))

_HEADER_START = 11  # bytes of a header frame before the size of the body
_BODY_START = Struct('>BH')  # type and channel of a body frame
_BODY_START_SIZE = 3
_U32 = Struct('>I')
_U64 = Struct('>Q')
_END = bytes([spec.FRAME_END])


class KeptFrames:
    """What messages with the same target and properties have in common. Never changed, so any thread may use it.

    keys, values: of the properties, see ``_same``. start, rest: their frames up to the size of the body, and from there
    to the size of the body frame. longest: the size of the longest of these frames.
    """

    __slots__ = ('keys', 'longest', 'rest', 'start', 'values')

    def __init__(
        self, keys: tuple[Any, ...], values: tuple[Any, ...], start: bytes, rest: bytes, longest: _int
    ) -> None:
        self.keys = keys
        self.values = values
        self.start = start
        self.rest = rest
        self.longest = longest


class PublishTarget:
    """Channel number, exchange, routing key and flags of publishes.

    method: their method frame. kept: of messages with the latest properties, None if that is not known. misses: how
    many messages with other properties came since.
    """

    __slots__ = ('channel_id', 'exchange', 'flags', 'kept', 'method', 'misses', 'routing_key')

    def __init__(self, channel_id: Any, exchange: Any, routing_key: Any, flags: _int) -> None:
        self.channel_id = channel_id
        self.exchange = exchange
        self.routing_key = routing_key
        self.flags = flags
        self.method = _method_frame(channel_id, exchange, routing_key, flags)
        self.kept: KeptFrames | None = None
        self.misses = 0

    def is_new(self) -> bool:
        """A message has other properties than those that are kept. Returns whether its own are to be kept."""
        self.misses += 1
        return self.misses & (self.misses - 1) == 0 or self.misses % _RARELY == 0

    def keep(self, properties: dict[str, Any], frames: bytearray, end: _int) -> None:
        """Keep what the message has in common with others. frames: its own. end: where its header frame ends."""
        size = len(self.method)
        table = _snapshot(properties) if end - size <= _MOST_KEPT else None
        if table is not None:
            start = bytes(frames[: size + _HEADER_START])
            rest = bytes(frames[size + _HEADER_START + 8 : end]) + _BODY_START.pack(_BODY, self.channel_id)
            self.kept = KeptFrames(table[0], table[1], start, rest, max(size, end - size))


def encode_publish(
    channel_id: _int,
    exchange: str | bytes | None,
    routing_key: str | bytes | None,
    mandatory: _bool,
    immediate: _bool,
    properties: Any,
    body: Any,
    frame_max: _int,
) -> bytes | bytearray:
    """basic.publish with its content; *frame_max* is the limit of a frame's whole size, 0 for none.

    properties: dict by py-amqp's names, or None. body: bytes, bytearray, contiguous memoryview,
    or str, which is encoded as UTF-8. Raises EncodeError that names what cannot be sent.
    """
    octets = body if type(body) is bytes else _body(body)
    flags = (1 if mandatory else 0) | (2 if immediate else 0)
    known = _latest
    # Nearly always the same objects: names are constants of a program, or attributes of its objects.
    if (
        known.routing_key is not routing_key
        or known.exchange is not exchange
        or known.channel_id is not channel_id
        or known.flags != flags
    ):
        known = _find(channel_id, exchange, routing_key, flags)
    kept = known.kept
    if (
        kept is not None
        and type(properties) is dict
        and _fits(kept.longest, len(octets), frame_max)
        and _same(properties, kept.keys, kept.values)
    ):
        known.misses = 0
        return _joined(kept.start, kept.rest, octets)
    return _encode_anew(known, properties, octets, frame_max)


def _find(channel_id: Any, exchange: Any, routing_key: Any, flags: _int) -> PublishTarget:
    global _latest
    # Only of these exact types: other objects may change, or be equal to what is encoded in another way.
    if type(routing_key) is not str or type(exchange) is not str or type(channel_id) is not int:
        return PublishTarget(channel_id, exchange, routing_key, flags)
    key = (channel_id, exchange, routing_key, flags)
    known = _targets.get(key)
    if known is None:
        known = PublishTarget(channel_id, exchange, routing_key, flags)
        if len(_targets) >= _MOST_TARGETS:
            _targets.clear()
        _targets[key] = known
    _latest = known
    return known


def _fits(longest: _int, size: _int, frame_max: _int) -> bool:
    """Whether the frames that are kept may be sent, and a body of this size needs one frame."""
    if frame_max:
        return longest <= frame_max and size <= frame_max - _OVERHEAD
    return size <= _UNLIMITED


def _same(given: dict[str, Any], keys: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    """Whether a dict has these keys in this order, and the very same objects as values.

    Equal is not enough: 1, True and 1.0 are equal, and are encoded in three ways. For a table that is a value there is
    a tuple of its keys and values instead, since the program may have changed the table.
    """
    if len(given) != len(keys):
        return False
    at = 0
    for key, value in given.items():
        if key is not keys[at]:
            return False
        kept = values[at]
        if value is not kept and not (type(kept) is tuple and type(value) is dict and _same(value, kept[0], kept[1])):
            return False
        at += 1  # noqa: SIM113 - the compiler makes this loop one without objects
    return True


def _snapshot(given: dict[str, Any]) -> tuple[Any, Any] | None:
    """Keys and values for ``_same``; None if a value may change. The dict was encoded, so it does not hold itself."""
    values = []
    for value in given.values():
        if type(value) is dict:
            value = _snapshot(value)
            if value is None:
                return None
        elif type(value) not in _UNCHANGING:
            return None
        values.append(value)
    return tuple(given), tuple(values)


def _joined(start: bytes, rest: bytes, body: bytes) -> bytes:
    """The frames of a message. start, rest: see KeptFrames."""
    size = len(body)
    if cython.compiled:
        first = len(start)
        second = len(rest)
        frames = PyBytes_FromStringAndSize(cython.NULL, first + second + size + 13)
        p: Any = PyBytes_AS_STRING(frames)
        head: Any = start  # compiled: pointers to the bytes
        tail: Any = rest
        text: Any = body
        memcpy(p, head, first)
        _put(p + first, 0)
        _put(p + first + 4, size)
        memcpy(p + first + 8, tail, second)
        _put(p + first + second + 8, size)
        memcpy(p + first + second + 12, text, size)
        p[first + second + size + 12] = 0xCE
        return frames if size else frames[: first + second + 8 - _BODY_START_SIZE]  # type: ignore[no-any-return]
    if not size:
        return b''.join((start, _U64.pack(0), rest[:-_BODY_START_SIZE]))
    return b''.join((start, _U64.pack(size), rest, _U32.pack(size), body, _END))


def _put(p: Any, value: _int) -> None:
    """Write a number of 32 bits; compiled only."""
    p[0] = value >> 24
    p[1] = (value >> 16) & 0xFF
    p[2] = (value >> 8) & 0xFF
    p[3] = value & 0xFF


def _encode_anew(known: PublishTarget, properties: Any, octets: bytes, frame_max: _int) -> bytearray:
    """A message whose properties are not those that are kept."""
    size = len(known.method)
    if frame_max and size > frame_max:
        raise exceptions.EncodeError(f'basic.publish: frame of {size} bytes, the connection allows {frame_max}')
    writer = Encoder(_room_for(len(octets), frame_max))
    writer.raw(known.method)
    _write_header(writer, known.channel_id, properties, len(octets), frame_max, 'basic.publish')
    end = writer.tell()
    if octets:
        _write_body(writer, known.channel_id, octets, frame_max)
    frames = writer.detach()
    if type(properties) is dict and known.is_new():
        known.keep(properties, frames, end)
    return frames


def _method_frame(channel_id: Any, exchange: Any, routing_key: Any, flags: _int) -> bytes:
    """The frame of basic.publish."""
    writer = Encoder()
    start = writer.begin_frame(_METHOD, ranged(channel_id, 0, 0xFFFF))
    writer.u32(_PUBLISH)
    writer.u16(0)  # reserved
    place = 'exchange'
    try:
        writer.shortstr(exchange)
        place = 'routing_key'
        writer.shortstr(routing_key)
    except exceptions.EncodeError as exc:
        raise within(f'basic.publish: {place}', exc) from None
    writer.u8(flags)
    writer.end_frame(start, 0, 'basic.publish')
    return writer.getvalue()


_targets: dict[Any, PublishTarget] = {}
# The one of the latest publish; at first one that no publish has.
_latest = PublishTarget(0, '', '', 0xFF)


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
    _write_header(writer, channel_id, properties, len(octets), frame_max, method.name)
    if octets:
        _write_body(writer, channel_id, octets, frame_max)
    return writer.detach()


def _room_for(size: _int, frame_max: _int) -> int:
    """The bytes that a message with a body of *size* usually takes, so that the buffer need not grow."""
    frames = size // (frame_max - _OVERHEAD) + 1 if frame_max > _OVERHEAD else 1
    return _ROOM + size + frames * _OVERHEAD


def _write_header(writer: Encoder, channel_id: _int, properties: Any, size: _int, frame_max: _int, what: str) -> None:
    """The header frame. size: of the body."""
    start = writer.begin_frame(_HEADER, channel_id)
    writer.u32(_BASIC << 16)  # class, and the weight, which is always 0
    writer.u64(size)
    try:
        write_properties(writer, properties)
    except exceptions.EncodeError as exc:
        raise within(what, exc) from None
    writer.end_frame(start, frame_max, what)


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
