# cython: language_level=3, annotation_typing=False
"""Content: one message, whose properties and method arguments are decoded on first access.

Layer 0. Most consumers need the body and one or two headers, so method arguments and properties are kept as they
arrived. No access switches greenlets. Does not belong here: actions such as acks; ``channel`` is an attribute
for the layers above, and not used here.

The message class of users derives from Content. A program makes an instance by ``__init__``; the decoder makes
instances without calling it.
"""

from __future__ import annotations

import copy
from struct import Struct
from typing import TYPE_CHECKING, Any

from . import spec
from .methods import decode_args
from .properties import CONTENT_ENCODING_FLAG, decode_properties

if TYPE_CHECKING:
    import cython
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'Content', 'PropertyAttribute', 'add_frames', 'end_of_run', 'note_run')

COMPILED: bool = cython.compiled

# method with content -> the keys of its arguments in delivery_info. The first argument of basic.publish is a
# reserved number, which is left out.
_INFO: dict[spec.Sig, tuple[str, ...]] = {
    sig: tuple(name for name, _ in method.args) for sig, method in spec.METHODS.items() if method.content
}
_RESERVED = 'ticket'

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int
_bool = bool

# The bytes of a frame set before the method's arguments, and before a part of the body.
_NUMBERS = Struct('>HH')
_BEFORE_ARGS = Struct('>BHIHH')
_BEFORE_BODY = Struct('>BBHI')
_END = bytes([spec.FRAME_END])
# The bytes between the method's arguments and the properties: the end of one frame, the head of the other and the
# fixed part of the content header.
_BETWEEN = 20
_PART = 128 * 1024  # bytes of the body in one frame, as many as in RabbitMQ's own

# The content encodings that are decoded, in lower case and with '-'. Not all of Python's: some take quadratic
# time (punycode), and Python keeps every unknown name that it is asked for in memory.
TEXT_ENCODINGS: frozenset[str] = frozenset(
    (
        *('utf-8', 'utf8', 'ascii', 'us-ascii', 'latin-1', 'latin1', 'cp437', 'cp850', 'koi8-r', 'koi8-u'),
        *('utf-16', 'utf-16-le', 'utf-16-be', 'utf-16le', 'utf-16be'),
        *('utf-32', 'utf-32-le', 'utf-32-be', 'utf-32le', 'utf-32be'),
        *(f'iso-8859-{part}' for part in range(1, 17) if part != 12),  # there is no part 12
        *(f'{family}{page}' for family in ('cp', 'windows-') for page in range(1250, 1259)),
        *('gbk', 'gb2312', 'gb18030', 'big5', 'shift-jis', 'euc-jp', 'euc-kr', 'iso-2022-jp'),
    )
)


class PropertyAttribute:
    """A property as an attribute of messages, which have it only where the property is present.

    It can be set: an attribute of the object hides this one. What is set is not published.
    """

    # A descriptor for each name, and no __getattr__ for all: with that in a class Python looks up every attribute of
    # its messages in a slower way, and the methods, too.

    __slots__ = ('_name',)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, message: Any, owner: Any) -> Any:
        name = self._name
        if message is None:
            raise AttributeError(f'type object {owner.__name__!r} has no attribute {name!r}', name=name, obj=owner)
        properties = message.properties
        if name in properties:
            return properties[name]
        raise AttributeError(f'{type(message).__name__!r} object has no attribute {name!r}', name=name, obj=message)


class Content:
    """A message with its body, properties and the method that brought it.

    Attributes, all writable: ``channel`` (for the layers above, None here), ``delivery_tag``, ``consumer_tag`` (None
    where the method has none), ``redelivered``. With an underscore, since programs hold messages and have no use for
    them: ``_channel_id``, ``_method`` (sig, None when made locally), ``_auto_decode``, ``_size`` (of the body as it
    arrived, in bytes), ``_weight`` (size, and that of the properties where they are large).
    """

    __slots__ = (
        '_auto_decode',
        '_body',
        '_channel_id',
        '_delivery_info',
        '_head',
        '_header_at',
        '_method',
        '_properties',
        '_size',
        '_weight',
        'channel',
        'consumer_tag',
        'delivery_tag',
        'redelivered',
    )

    def __init__(self, body: Any = b'', properties: Any = None) -> None:
        self.channel: Any = None
        self._channel_id = 0
        self._method: spec.Sig | None = None
        self.delivery_tag: int | None = None
        self.consumer_tag: str | bytes | None = None
        self.redelivered = False
        self._auto_decode = False
        self._size = self._weight = len(body)
        # What arrived, from the method's arguments to the end of the properties, and where those begin: _BETWEEN bytes
        # behind the end of the arguments. One object, since it is kept for each message. Empty when made locally.
        self._head = b''
        self._header_at = 0
        self._body: Any = body
        self._properties: dict[str, Any] | None = {} if properties is None else properties
        self._delivery_info: dict[str, Any] | None = None

    if not TYPE_CHECKING:
        # One by one, since the compiled class takes no more attributes once it is there. ``Message`` has their types.
        content_type = PropertyAttribute('content_type')
        content_encoding = PropertyAttribute('content_encoding')
        application_headers = PropertyAttribute('application_headers')
        delivery_mode = PropertyAttribute('delivery_mode')
        priority = PropertyAttribute('priority')
        correlation_id = PropertyAttribute('correlation_id')
        reply_to = PropertyAttribute('reply_to')
        expiration = PropertyAttribute('expiration')
        message_id = PropertyAttribute('message_id')
        timestamp = PropertyAttribute('timestamp')
        type = PropertyAttribute('type')
        user_id = PropertyAttribute('user_id')
        app_id = PropertyAttribute('app_id')
        cluster_id = PropertyAttribute('cluster_id')

    def __repr__(self) -> str:
        method = 'local' if self._method is None else spec.METHODS[self._method].name
        tag = '' if self.delivery_tag is None else f' tag={self.delivery_tag}'
        return f'<{type(self).__name__} {method} channel={self._channel_id}{tag} size={self._size}>'

    def __reduce__(self) -> Any:
        # Without this method the compiled class could not be pickled, and the pure one could. The channel is not
        # pickled: it belongs to a connection of this process.
        fields = {name: getattr(self, name) for name in _PICKLED}
        return _restore, (type(self), fields, getattr(self, '__dict__', None))

    def __copy__(self) -> Any:
        return self._copy(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._copy(memo)

    def _copy(self, memo: dict[int, Any] | None) -> Any:
        """A copy of the message, with the same channel. memo: of a deep copy, None for a shallow one."""
        other = type(self).__new__(type(self))
        Content.__init__(other)
        other.channel = self.channel
        other._channel_id = self._channel_id
        other._method = self._method
        other.delivery_tag = self.delivery_tag
        other.consumer_tag = self.consumer_tag
        other.redelivered = self.redelivered
        other._auto_decode = self._auto_decode
        other._size = self._size
        other._weight = self._weight
        other._head = self._head
        other._header_at = self._header_at
        held = self._body, self._properties, self._delivery_info, getattr(self, '__dict__', None)
        if memo is not None:
            memo[id(self)] = other
            held = copy.deepcopy(held, memo)
        other._body, other._properties, other._delivery_info, extra = held
        if extra:
            other.__dict__.update(extra)
        return other

    @property
    def body(self) -> bytes | str:
        """The body as bytes.

        With ``_auto_decode`` and a content_encoding property that names one of TEXT_ENCODINGS it is
        decoded to str at first access. It stays bytes if that fails, and with other encodings.
        """
        if self._auto_decode and self._is_encoded():
            self._decode_body()
        return self._body  # type: ignore[no-any-return]

    @body.setter
    def body(self, value: Any) -> None:
        self._body = value
        self._auto_decode = False  # a body that the program sets is returned as it is

    def _is_encoded(self) -> bool:
        """Whether there is a content_encoding. Does not decode the properties for that."""
        if not isinstance(self._body, bytes):
            return False
        if self._properties is None:
            return self._head[self._header_at] & (CONTENT_ENCODING_FLAG >> 8) != 0
        return 'content_encoding' in self._properties

    def _decode_body(self) -> None:
        try:
            encoding = self.properties['content_encoding']
            if isinstance(encoding, bytes):
                encoding = encoding.decode('ascii')
            encoding = encoding.lower().replace('_', '-').replace(' ', '-')
            if encoding in TEXT_ENCODINGS:
                self._body = self._body.decode(encoding)
                return
        except Exception:
            pass
        # A wrong encoding, or one that is no text encoding (gzip): the body stays bytes, and decoding is not tried
        # again.
        self._auto_decode = False

    @property
    def properties(self) -> dict[str, Any]:
        """The properties that are present, by py-amqp's names. Raises FrameSyntaxError if they are malformed."""
        if self._properties is None:
            self._properties = decode_properties(self._head, self._header_at)
        return self._properties

    @properties.setter
    def properties(self, value: dict[str, Any]) -> None:
        self._properties = value

    @property
    def headers(self) -> dict[str, Any]:
        """The application_headers property, {} if there is none."""
        headers: dict[str, Any] | None = self.properties.get('application_headers')
        return {} if headers is None else headers

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Arguments of the method that brought the message; {} when it was made locally."""
        if self._delivery_info is None:
            self._delivery_info = self._decode_info()
        return self._delivery_info

    @delivery_info.setter
    def delivery_info(self, value: dict[str, Any]) -> None:
        self._delivery_info = value
        if value and 'delivery_tag' in value:
            self.delivery_tag = value['delivery_tag']  # py-amqp reads it from there

    @property
    def _method_payload(self) -> bytes | None:
        """The payload of the method frame as it arrived; None for a message that was made locally or unpickled."""
        if self._method is None or not self._head:
            return None
        return _NUMBERS.pack(*self._method) + self._args()

    @property
    def _header_payload(self) -> bytes:
        """The property section as it arrived: flags and properties; b'' for a message that was made locally."""
        return self._head[self._header_at :]

    def _args(self) -> bytes:
        """The arguments of the method as they arrived."""
        return self._head[: self._header_at - _BETWEEN]

    def _decode_info(self) -> dict[str, Any]:
        if self._method is None:
            return {}
        info = dict(zip(_INFO[self._method], decode_args(self._method, self._args(), 0), strict=True))
        info.pop(_RESERVED, None)
        if self.delivery_tag and 'delivery_tag' in info:
            info['delivery_tag'] = self.delivery_tag  # its channel may number deliveries on from one socket to the next
        return info


def add_frames(content: Content, parts: list[Any]) -> int:
    """Append the frames of a received message to *parts*. Returns how many bytes they have.

    Only for messages that a Decoder has made and that were not changed. Bodies are not copied.
    """
    head, body, size = content._head, content._body, content._size
    channel = content._channel_id
    assert content._method is not None
    class_id, method_id = content._method
    parts.append(_BEFORE_ARGS.pack(spec.FRAME_METHOD, channel, content._header_at - _BETWEEN + 4, class_id, method_id))
    parts.append(head)
    total = len(head) + size + 12
    if size <= _PART:
        if size:
            parts.append(_BEFORE_BODY.pack(spec.FRAME_END, spec.FRAME_BODY, channel, size))
            parts.append(body)
            total += 8
    else:
        view = memoryview(body)
        for at in range(0, size, _PART):
            part = view[at : at + _PART]
            parts.append(_BEFORE_BODY.pack(spec.FRAME_END, spec.FRAME_BODY, channel, len(part)))
            parts.append(part)
            total += 8
    parts.append(_END)
    return total


def end_of_run(events: list[Any], at: _int) -> int:
    """The index behind the last of the deliveries to one consumer that begin at ``events[at]``, which is a Content."""
    content: Content = events[at]
    tag, channel_id = content.consumer_tag, content._channel_id
    at += 1
    if tag is None:
        return at  # a message that was returned or asked for, and no delivery
    stop = len(events)
    while at < stop:
        event = events[at]
        if type(event) is tuple:
            break
        content = event
        # The decoder gives the same object to deliveries that follow one another.
        if content.consumer_tag is not tag or content._channel_id != channel_id:
            break
        at += 1
    return at


def note_run(run: list[Any], channel: Any, auto_decode: _bool, unacked: Any, entry: Any) -> tuple[int, int]:
    """Deliveries to one consumer have arrived: give them their channel, and enter them as unacked.

    unacked: delivery tag -> *entry*; None where the consumer needs no ack. Returns the sum of their weights, and how
    many were redelivered.
    """
    weight = redelivered = 0
    content: Content
    for content in run:
        content.channel = channel
        content._auto_decode = auto_decode
        weight += content._weight
        redelivered += content.redelivered
        if unacked is not None:
            unacked[content.delivery_tag] = entry
    return weight, redelivered


_PICKLED = (
    '_channel_id',
    '_method',
    'delivery_tag',
    'consumer_tag',
    'redelivered',
    'body',
    '_auto_decode',
    '_size',
    'properties',
    'delivery_info',
)


def _restore(cls: type[Content], fields: dict[str, Any], extra: dict[str, Any] | None) -> Content:
    """Unpickle a message that ``Content.__reduce__`` has pickled."""
    content = cls.__new__(cls)
    Content.__init__(content)
    for name, value in fields.items():
        setattr(content, name, value)
    if extra:
        content.__dict__.update(extra)
    return content
