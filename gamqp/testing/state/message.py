"""A message as the broker holds it: the bytes as they were published, of which only what routing needs is decoded.

Layer 5, pure. A message that goes to several queues is one object; what a queue remembers of it is an ``Entry``.
Does not belong here: queues, channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

from ... import exceptions
from ...wire import Encoder, decode_properties, encode_method, spec, write_properties
from .errors import precondition_failed, text_of

__all__ = ('Entry', 'Facts', 'StoredMessage', 'facts_of')

Name = str | bytes

_FRAME = Struct('>BHI')
_HEADER_FRAME = Struct('>BHIHHQ')
_END = bytes([spec.FRAME_END])
_FIXED = 12
_OVERHEAD = spec.FRAME_OVERHEAD
_LONGEST = 315_360_000_000  # milliseconds, ten years
_KEPT = 1000  # headers of a kind whose facts are remembered


class Facts:
    """What the broker itself reads of the properties. None: the property is absent."""

    __slots__ = (
        'carbon_copies',
        'checked',
        'expiration',
        'odd_expiration',
        'persistent',
        'priority',
        'reply_to_self',
        'ttl',
        'user_id',
    )

    def __init__(self) -> None:
        self.persistent = False
        self.priority: int | None = None
        self.expiration: Name | None = None
        #: The same in milliseconds; whether it is not written as numbers are.
        self.ttl: int | None = None
        self.odd_expiration = False
        self.user_id: Name | None = None
        #: Whether reply_to is the pseudo queue of direct replies.
        self.reply_to_self = False
        #: Whether the headers may hold CC or BCC.
        self.carbon_copies = False
        #: Whether any of these asks for a check of the message when it is published.
        self.checked = False


_seen: dict[bytes, Facts] = {}
# Of messages about which the broker has nothing to know but whether they are persistent: nearly all.
_TRANSIENT, _PERSISTENT = Facts(), Facts()
_PERSISTENT.persistent = True
_TYPE, _ENCODING, _HEADERS, _MODE = 0x8000, 0x4000, 0x2000, 0x1000
_LOOKED_AT = 0x0800 | 0x0200 | 0x0100 | 0x0010 | 0x0003  # priority, reply_to, expiration, user_id, and wrong flags


def facts_of(header: bytes) -> Facts:
    """The facts of a property section. Raises FrameSyntaxError if it is malformed, a Refusal for a wrong expiration."""
    flags = (header[0] << 8) | header[1] if len(header) > 1 else _LOOKED_AT
    if not flags & _LOOKED_AT and not (flags & _HEADERS and b'CC' in header):
        return _PERSISTENT if flags & _MODE and _mode(flags, header) == 2 else _TRANSIENT
    facts = _seen.get(header)
    if facts is None:
        facts = _read_facts(header)
        if len(header) < 256:
            if len(_seen) >= _KEPT:
                _seen.clear()
            _seen[header] = facts
    return facts


def _mode(flags: int, header: bytes) -> int:
    """The delivery mode, without decoding what stands before it. Raises FrameSyntaxError."""
    at = 2
    try:
        if flags & _TYPE:
            at += 1 + header[at]
        if flags & _ENCODING:
            at += 1 + header[at]
        if flags & _HEADERS:
            at += 4 + int.from_bytes(header[at : at + 4], 'big')
        return header[at]
    except IndexError:
        decode_properties(header, 0)  # this says what is wrong
        raise


def _read_facts(header: bytes) -> Facts:
    facts = Facts()
    if header[:2] == b'\0\0':
        return facts
    properties = decode_properties(header, 0)
    facts.persistent = properties.get('delivery_mode') == 2
    facts.priority = properties.get('priority')
    facts.user_id = properties.get('user_id')
    facts.reply_to_self = properties.get('reply_to') == 'amq.rabbitmq.reply-to'
    facts.expiration = properties.get('expiration')
    if facts.expiration is not None:
        facts.ttl = _milliseconds(text_of(facts.expiration))
        facts.odd_expiration = facts.expiration != str(facts.ttl)
    headers = properties.get('application_headers')
    facts.carbon_copies = headers is not None and ('CC' in headers or 'BCC' in headers)
    facts.checked = facts.user_id is not None or facts.reply_to_self or facts.carbon_copies or facts.odd_expiration
    return facts


def _milliseconds(text: str) -> int:
    digits = text[1:] if text[:1] in '+-' else text
    end = next((at for at, one in enumerate(digits) if not ('0' <= one <= '9')), len(digits))
    if not end:
        raise precondition_failed(f"invalid expiration '{text}': no_integer")
    number = int(text[: len(text) - len(digits) + end])
    if end < len(digits):
        raise precondition_failed(f'invalid expiration \'{text}\': {{leftover_string,"{digits[end:]}"}}')
    if number < 0:
        raise precondition_failed(f"invalid expiration '{text}': {{value_negative,{number}}}")
    if number > _LONGEST:
        start = f"invalid expiration '{text}': "
        space = '' if len(f'{start}{{value_too_large,{number}}}') <= 80 else '\n' + ' ' * (len(start) + 1)
        raise precondition_failed(f'{start}{{value_too_large,{space}{number}}}')
    return number


class StoredMessage:
    """One message.

    exchange, routing_key: as published. routing_keys: with those of the CC and BCC headers; usually one. address: both
    as basic.deliver carries them. header: the property section.
    """

    __slots__ = (
        '_properties',
        'address',
        'body',
        'exchange',
        'facts',
        'failures',
        'header',
        'routing_key',
        'routing_keys',
    )

    def __init__(
        self, exchange: Name, routing_key: Name, address: bytes, header: bytes, body: bytes, facts: Facts
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.routing_keys: tuple[Name, ...] = (routing_key,)
        self.address = address
        self.header = header
        self.body = body
        self.facts = facts
        #: Of a dead letter: how often its delivery has failed in the queues that it has come from.
        self.failures = 0
        self._properties: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f'<StoredMessage {self.exchange!r} {self.routing_key!r}, {len(self.body)} bytes>'

    @property
    def properties(self) -> dict[str, Any]:
        """By py-amqp's names; to be read only."""
        if self._properties is None:
            self._properties = decode_properties(self.header, 0) if self.header else {}
        return self._properties

    @property
    def headers(self) -> dict[Any, Any]:
        """The application headers; to be read only."""
        return self.properties.get('application_headers') or {}

    def changed(
        self, properties: dict[str, Any], exchange: Name | None = None, routing_key: Name | None = None
    ) -> StoredMessage:
        """The same message with other properties, and perhaps another address."""
        header = encoded_properties(properties)
        if exchange is None or routing_key is None:
            exchange, routing_key, address = self.exchange, self.routing_key, self.address
        else:
            address = encoded_address(exchange, routing_key)
        return StoredMessage(exchange, routing_key, address, header, self.body, facts_of(header))

    def with_headers(self, headers: dict[str, Any], **properties: Any) -> StoredMessage:
        """The same message with more headers and properties."""
        return self.changed({**self.properties, **properties, 'application_headers': {**self.headers, **headers}})

    def frames(self, channel_id: int, frame_max: int) -> Sequence[bytes]:
        """The header frame and the body frames, in parts that are to be joined."""
        header, body = self.header, self.body
        size = len(body)
        start = _HEADER_FRAME.pack(2, channel_id, len(header) + _FIXED, 60, 0, size)
        if not size:
            return start, header, _END
        if not frame_max or size + _OVERHEAD <= frame_max:
            return start, header, _END, _FRAME.pack(3, channel_id, size), body, _END
        parts = [start, header, _END]
        most = frame_max - _OVERHEAD
        for at in range(0, size, most):
            part = body[at : at + most]
            parts += (_FRAME.pack(3, channel_id, len(part)), part, _END)
        return parts


def encoded_properties(properties: dict[str, Any]) -> bytes:
    """A property section."""
    encoder = Encoder()
    write_properties(encoder, properties)
    return encoder.getvalue()


def encoded_address(exchange: Name, routing_key: Name) -> bytes:
    """Exchange and routing key as basic.deliver carries them."""
    encoder = Encoder()
    encoder.shortstr(exchange)
    encoder.shortstr(routing_key)
    return encoder.getvalue()


def made_locally(exchange: Name, routing_key: Name, body: bytes, properties: dict[str, Any]) -> StoredMessage:
    """A message that no client has published."""
    try:
        header = encoded_properties(properties)
        address = encoded_address(exchange, routing_key)
    except exceptions.EncodeError as exc:
        raise ValueError(str(exc)) from None
    return StoredMessage(exchange, routing_key, address, header, body, facts_of(header))


def returned(message: StoredMessage, channel_id: int, code: int, text: str, frame_max: int) -> bytes:
    """The frames of basic.return."""
    method = encode_method(channel_id, (60, 50), (code, text, message.exchange, message.routing_key))
    return b''.join((method, *message.frames(channel_id, frame_max)))


class Entry:
    """A message in one queue.

    number: its place in the queue; a message that is put back gets its old one. expires_at: on the broker's clock,
    None: never. acquired, deliveries: how often it was given back, and how often its delivery has failed, as
    x-acquired-count and x-delivery-count say: a nack counts as no failure where both are counted. shown: the message
    as consumers get it, with headers that the queue adds.
    """

    __slots__ = ('acquired', 'deliveries', 'expires_at', 'message', 'number', 'redelivered', 'shown')

    def __init__(self, message: StoredMessage, number: int, expires_at: float | None) -> None:
        self.message = message
        self.shown = message
        self.number = number
        self.expires_at = expires_at
        self.redelivered = message.failures > 0
        self.acquired = self.deliveries = message.failures

    def __repr__(self) -> str:
        return f'<Entry {self.number} {self.message!r}>'
