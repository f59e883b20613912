# cython: language_level=3, annotation_typing=False
"""The Decoder: makes events, which are methods and messages, from a stream of bytes.

Layer 0. Bytes are received into the decoder's own buffer (``room``, ``commit``) or copied in (``feed``). Frames of
several channels may alternate; a message is put together per channel. The first violation of the protocol ends the
decoder: ``error`` holds the exception, and the events before it are returned. Memory is allocated for bytes that
have arrived, never for a size that a frame announces. No call switches greenlets.
Does not belong here: sockets, the state of channels, decoding that nobody has asked for.

Methods of class connection on another channel than 0, and all others on channel 0, get reply code 503. The
specification demands that for the former and leaves it open for the latter.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .assembly import MAX_CONTROL, Assembly
from .buffer import Buffer
from .content import Content
from .frame_errors import wrong_end, wrong_method
from .methods import decode_args

# pyright: reportMissingImports=false
if TYPE_CHECKING:
    import cython
    from cython.cimports.libc.string import memcmp
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'MAX_BODY', 'Decoder')

COMPILED: bool = cython.compiled

#: The default limit of a body: RabbitMQ's own limit since 3.8 (16 MiB in 4.x).
MAX_BODY = 512 * 1024 * 1024

_MAX_CONTROL = MAX_CONTROL

_METHOD = spec.FRAME_METHOD
_HEADER = spec.FRAME_HEADER
_BODY = spec.FRAME_BODY
_END = spec.FRAME_END
_HEAD_SIZE = 7  # type, channel, size
_OVERHEAD = spec.FRAME_OVERHEAD
_FIXED = 12  # class, weight and body size, before the property flags
_BASIC = 60
_CONNECTION = 10
_LIGHT = 256  # properties of so many bytes, or fewer, do not count in a message's weight
_BETWEEN = 20  # bytes between a method's arguments and the properties, if the header follows directly
_DELIVER = (60 << 16) | 60
_DELIVER_SIG = spec.Basic.Deliver
_GET_OK = (60 << 16) | 71
_ACK = (60 << 16) | 80

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int
_Octets = bytes

_HEAD = Struct('>BHI')
_U32 = Struct('>I')
_TAG_BITS = Struct('>QB')
# A frame's head and the fixed part of a content header: type, channel, size, class, weight, body size.
_HEADER_FRAME = Struct('>BHIHHQ')

# class id << 16 | method id -> (sig, whether content follows)
_BY_KEY: dict[int, tuple[spec.Sig, bool]] = {
    (sig[0] << 16) | sig[1]: (sig, method.content) for sig, method in spec.METHODS.items()
}


class Decoder:
    """Decodes the bytes of a peer, client or broker.

    An event is an instance of *content_class* for a method with content, else a tuple
    (channel_id, sig, args). Heartbeats are only counted, in ``heartbeats``.

    frame_max: largest body frame accepted, with the 8 bytes around its payload; 0 is no limit. Method and header
    frames may have 16 MiB. max_body: largest body accepted. Both may be set at any time.
    channels: the numbers of the open ones, None for all; content that arrives in pieces for others is not kept.
    memory: counts the bytes of incomplete content, see ``assembly.ContentMemory``. error: None until the peer breaks
    the protocol or *memory* raises; from then on everything received is ignored.
    """

    __slots__ = (
        '_assembly',
        '_buffer',
        '_content_class',
        '_halves',
        '_need',
        '_tag',
        '_tag_octets',
        'error',
        'frame_max',
        'heartbeats',
        'max_body',
    )

    def __init__(
        self,
        content_class: type[Content] = Content,
        frame_max: _int = 0,
        max_body: _int = MAX_BODY,
        channels: Any = None,
        memory: Any = None,
    ) -> None:
        self.frame_max = frame_max
        self.max_body = max_body
        self.heartbeats = 0
        self.error: exceptions.AMQPError | None = None
        self._content_class = content_class
        self._assembly = Assembly(channels, memory)
        self._halves = self._assembly.halves  # here, since every method needs it
        self._buffer = Buffer()
        self._need = 1  # with fewer bytes in the buffer no frame is complete
        # Of the delivery before. The next one mostly has the same tag, and gets the same object.
        self._tag: str | bytes = ''
        self._tag_octets = b'\0'

    def __repr__(self) -> str:
        state = 'failed' if self.error is not None else f'{len(self._buffer)} bytes held'
        return f'<{type(self).__name__} {state}, {len(self._assembly)} contents incomplete>'

    @property
    def pending(self) -> bool:
        """Whether a frame or a message is incomplete."""
        return len(self._buffer) > 0 or len(self._assembly) > 0

    def room(self) -> memoryview:
        """Free space for received bytes, at least 8 KiB; valid until the next commit."""
        return self._buffer.room()

    def commit(self, n: _int) -> list[Any]:
        """Decode *n* bytes that were written into ``room()``. Returns the events that they complete."""
        events: list[Any] = []
        self._buffer.commit(n)
        if self.error is not None:
            self._buffer.clear()
        elif len(self._buffer) < self._need:
            self._buffer.consume(0)
        else:
            try:
                if cython.compiled:
                    # Out of the buffer itself: each part of a message is copied once.
                    data, start, end = self._buffer.held()
                    self._buffer.consume(self._cut(data, start, end, events))
                else:
                    # A copy for hundreds of messages: slices of bytes are cheaper than those of a bytearray.
                    copied = self._buffer.copy()
                    self._buffer.consume(self._cut(copied, 0, len(copied), events))
            except exceptions.AMQPError as exc:
                self._fail(exc)
            except BaseException as exc:
                # Interrupted (by a signal handler, or without memory): the position in the stream is not known.
                self._fail(exceptions.FrameError(f'decoding was interrupted by {type(exc).__name__}'))
                raise
        return events

    def feed(self, data: Any) -> list[Any]:
        """Decode *data*, of any size. Returns the events that it completes."""
        source = memoryview(data).cast('B')
        events: list[Any] = []
        while len(source) and self.error is None:
            room = self.room()
            n = min(len(room), len(source))
            room[:n] = source[:n]
            events += self.commit(n)
            source = source[n:]
        return events

    def forget(self, channel_id: _int) -> None:
        """Drop the incomplete message of a channel that was closed."""
        self._assembly.forget(channel_id)

    def _fail(self, exc: exceptions.AMQPError) -> None:
        """End the decoder; keep the error and nothing else."""
        # Without its traceback, whose stack frames refer to this object: that would be a reference cycle.
        self.error = exc.with_traceback(None)
        self._assembly.clear()
        self._buffer.clear()

    # Frames.

    def _cut(self, data: Any, start: _int, end: _int, events: list[Any]) -> int:
        """Make events of every complete frame in ``data[start:end]``. Returns how many bytes those are."""
        p = data
        usual = self.frame_max - _OVERHEAD if self.frame_max else _MAX_CONTROL
        pos = start
        while end - pos >= _HEAD_SIZE:
            if cython.compiled:
                kind = p[pos]
                channel_id = (p[pos + 1] << 8) | p[pos + 2]
                size = _be32(p, pos + 3)
            else:
                kind, channel_id, size = _HEAD.unpack_from(data, pos)
            after = pos + size + _OVERHEAD
            if after > end:
                self._need = self._check_start(kind, channel_id, size, p[pos : min(pos + 8, end)])
                return pos - start
            if size > usual or p[after - 1] != _END:
                self._check_start(kind, channel_id, size, p[pos : pos + 8])
                if p[after - 1] != _END:
                    raise wrong_end(kind, channel_id, size, p[after - 1])
            if kind == _METHOD:
                pos = self._on_method(data, pos, after, end, channel_id, events)
            else:
                self._on_rare(kind, channel_id, size, p[pos:after], events)
                pos = after
        self._need = _HEAD_SIZE
        return pos - start

    def _on_rare(self, kind: _int, channel_id: _int, size: _int, frame: bytes, events: list[Any]) -> None:
        """A frame that is no method, and no content that directly follows its method."""
        if kind == _BODY:
            self._finish(self._assembly.body(channel_id, frame[_HEAD_SIZE:-1]), events)
        elif kind == _HEADER:
            self._finish(self._assembly.header(channel_id, frame[_HEAD_SIZE:-1], self.max_body), events)
        else:
            self._check_start(kind, channel_id, size, frame[:8])  # raises unless it is a heartbeat
            self.heartbeats += 1

    def _check_start(self, kind: _int, channel_id: _int, size: _int, head: bytes) -> int:
        return self._assembly.check_start(kind, channel_id, size, head, self.frame_max)

    # Methods.

    def _on_method(self, data: Any, pos: _int, after: _int, end: _int, channel_id: _int, events: list[Any]) -> int:
        """A method frame, with its content if that has arrived, too. Returns the place of the next frame."""
        p = data
        if self._halves:
            self._assembly.expect_method(channel_id)
        at = pos + _HEAD_SIZE
        if after - pos < _OVERHEAD + 4:
            raise exceptions.FrameSyntaxError(f'method frame on channel {channel_id} is too short to name a method')
        key = _be32(p, at)
        at += 4
        if key == _DELIVER and channel_id:
            sig = _DELIVER_SIG  # mostly, hence without the table
        else:
            row = _BY_KEY.get(key)
            if row is None or (channel_id == 0) != (key >> 16 == _CONNECTION):
                raise wrong_method(key, channel_id)
            sig, content_follows = row
            if not content_follows:
                events.append((channel_id, sig, _decode(sig, key, p[at : after - 1])))
                return after
        content = self._begin(sig, key, data, at, after - 1, channel_id)
        stop = self._complete(content, data, at, after, end)
        if stop < 0:
            content._head = p[at : after - 1]
            self._assembly.begin(channel_id, content, after - 1 - at)
            return after
        events.append(content)
        return stop

    # Content.

    def _begin(self, sig: Any, key: _int, data: Any, at: _int, stop: _int, channel_id: _int) -> Content:
        """The object for a message whose method has arrived, with its arguments in ``data[at:stop]``.

        Head and body are filled in later.
        """
        p = data
        cls = self._content_class
        content = cls.__new__(cls)
        content.channel = None
        content._channel_id = channel_id
        content._method = sig
        content._auto_decode = False
        content._header_at = stop - at + _BETWEEN
        content._properties = None
        content._delivery_info = None
        content.consumer_tag = None
        tag_at = at
        if key == _DELIVER:
            if stop > at:
                tag_at += p[at] + 1
            if stop - tag_at >= 9:
                if cython.compiled:
                    octets: Any = self._tag_octets  # compiled: a pointer to the bytes
                    is_same = len(self._tag_octets) == tag_at - at and memcmp(p + at, octets, tag_at - at) == 0
                else:
                    is_same = data.startswith(self._tag_octets, at)  # they begin with their number
                if not is_same:
                    self._tag_octets = p[at:tag_at]
                    self._tag = _text(self._tag_octets)
                content.consumer_tag = self._tag
        elif key != _GET_OK:
            content.delivery_tag = None
            content.redelivered = False
            return content
        if stop - tag_at < 9:
            decode_args(sig, p[at:stop], 0)  # too short: this raises the error that says so
        if cython.compiled:
            content.delivery_tag = _be64(p, tag_at)
            content.redelivered = p[tag_at + 8] & 1 != 0
        else:
            content.delivery_tag, bits = _TAG_BITS.unpack_from(data, tag_at)
            content.redelivered = bits & 1 != 0
        return content

    def _complete(self, content: Content, data: Any, args_at: _int, pos: _int, end: _int) -> int:
        """The usual case: header and whole body follow the method directly. Returns where they end.

        args_at, pos: where the arguments of the method begin, and where its frame ends.

        Returns -1 if anything is missing or unusual. The frames are then handled one by one, and errors
        are found there. This way three frames take the time of one and a half.
        """
        p = data
        if end - pos < _HEAD_SIZE + _FIXED + 3:
            return -1
        if cython.compiled:
            kind = p[pos]
            channel = (p[pos + 1] << 8) | p[pos + 2]
            size = _be32(p, pos + 3)
            class_id = (p[pos + 7] << 8) | p[pos + 8]
            if _be32(p, pos + 11) != 0:  # a body of 4 GiB or more
                return -1
            total = _be32(p, pos + 15)
        else:
            kind, channel, size, class_id, _, total = _HEADER_FRAME.unpack_from(data, pos)
        body = pos + size + _OVERHEAD
        if kind != _HEADER or channel != content._channel_id or class_id != _BASIC or size < _FIXED + 2:
            return -1
        if body > end or p[body - 1] != _END or total > end or total > self.max_body:
            return -1
        if self.frame_max and (size > self.frame_max - _OVERHEAD or total > self.frame_max - _OVERHEAD):
            return -1
        content._weight = total if size <= _LIGHT else total + size
        stop = body
        if total:
            stop = body + total + _OVERHEAD
            if stop > end or p[stop - 1] != _END:
                return -1
            if cython.compiled:
                kind = p[body]
                channel = (p[body + 1] << 8) | p[body + 2]
                size = _be32(p, body + 3)
            else:
                kind, channel, size = _HEAD.unpack_from(data, body)
            if kind != _BODY or channel != content._channel_id or size != total:
                return -1
            content._body = p[body + _HEAD_SIZE : stop - 1]
        else:
            content._body = b''
        content._head = p[args_at : body - 1]  # both in one object, with what stands between them
        content._size = total
        return stop

    def _finish(self, half: Any, events: list[Any]) -> None:
        """A message that arrived in pieces is complete. half: None if it is not."""
        if half is None:
            return
        content: Content = half.content
        header: bytes = half.header
        content._head = content._head + header
        content._body = half.body()
        content._size = half.size
        content._weight = half.size if len(header) - _BETWEEN <= _LIGHT else half.size + len(header) - _BETWEEN
        events.append(content)


def _decode(sig: Any, key: _int, args: bytes) -> Any:
    """The arguments of a method without content. Acks, of which there are many, are decoded without a Reader."""
    if key == _ACK and len(args) == 9:
        if cython.compiled:
            return _be64(args, 0), args[8] & 1 != 0
        tag, bits = _TAG_BITS.unpack(args)
        return tag, bits & 1 != 0
    return decode_args(sig, args, 0)


def _be32(p: _Octets, at: _int) -> int:
    """Big-endian number of 32 bits; the caller has checked the bounds."""
    if cython.compiled:
        top = p[at]
        return (top << 24) | (p[at + 1] << 16) | (p[at + 2] << 8) | p[at + 3]
    number: int = _U32.unpack_from(p, at)[0]
    return number


def _be64(p: _Octets, at: _int) -> int:
    """Big-endian number of 64 bits; the caller has checked the bounds."""
    high = _be32(p, at)
    return (high << 32) | _be32(p, at + 4)


def _text(octets: bytes) -> str | bytes:
    """A short string. *octets* begin with their number."""
    try:
        return octets[1:].decode('utf-8')
    except UnicodeDecodeError:
        return octets[1:]
