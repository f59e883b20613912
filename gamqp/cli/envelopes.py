"""A message as a line of JSON, and back.

Layer 5. Pure. The keys of an envelope: exchange, routing_key, redelivered, properties (as in the API), headers, and
body where it is UTF-8, else body_base64. Does not belong here: files and pipes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ..basic_message import Message
from ..wire.spec import PROPERTIES
from .field_values import bytes_of, from_json, to_json

__all__ = ('Envelope', 'body_of', 'envelope_of', 'parsed')

_NAMES = {name for name, _ in PROPERTIES} - {'application_headers'}

# Keys that are written where a message was received, and have no meaning where one is published.
_OF_DELIVERIES = {'redelivered', 'received_at', 'queue'}
_KNOWN = {'exchange', 'routing_key', 'properties', 'headers', 'body', 'body_base64', *_OF_DELIVERIES}


@dataclasses.dataclass(frozen=True)
class Envelope:
    """A message to publish. exchange, routing_key: None where it does not say."""

    body: bytes
    properties: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exchange: str | None = None
    routing_key: str | None = None
    received_at: float | None = None

    def sent_to(self, exchange: str | None, routing_key: str | None) -> Envelope:
        """The same message with another destination; None leaves what it says itself."""
        return dataclasses.replace(
            self,
            exchange=self.exchange if exchange is None else exchange,
            routing_key=self.routing_key if routing_key is None else routing_key,
        )


def body_of(message: Message) -> bytes:
    """The body of a message that was delivered, as it arrived: not decoded by its content_encoding."""
    message._auto_decode = False
    body: Any = message.body
    return body if isinstance(body, bytes) else bytes(body)


def envelope_of(message: Message, **more: Any) -> dict[str, Any]:
    """The envelope of a message that was delivered. more: further keys. Raises FrameSyntaxError."""
    properties = {key: to_json(value) for key, value in message.properties.items() if key != 'application_headers'}
    info = message.delivery_info
    envelope = {
        'exchange': info['exchange'],
        'routing_key': info['routing_key'],
        'redelivered': bool(message.redelivered),
        **more,
        'properties': properties,
        'headers': {key: to_json(value) for key, value in message.headers.items()},
    }
    body = body_of(message)
    try:
        envelope['body'] = body.decode('utf-8')
    except UnicodeDecodeError:
        envelope['body_base64'] = base64.b64encode(body).decode('ascii')
    return envelope


def parsed(line: bytes) -> Envelope:
    """The message of an envelope. Raises ValueError that says what is wrong with it."""
    try:
        table = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError('this is no JSON') from None
    if not isinstance(table, dict):
        raise ValueError('an object of JSON is wanted')
    unknown = sorted(table.keys() - _KNOWN)
    if unknown:
        raise ValueError(f'unknown key {unknown[0]!r}; there are {", ".join(sorted(_KNOWN))}')
    properties = _properties(table)
    if 'body' in table and 'body_base64' in table:
        raise ValueError('body and body_base64 exclude each other')
    if 'body_base64' in table:
        body = bytes_of(str(table['body_base64']))
    else:
        text = table.get('body', '')
        if not isinstance(text, str):  # any JSON may be a body
            text = json.dumps(text, ensure_ascii=False)
            properties.setdefault('content_type', 'application/json')
        body = text.encode('utf-8')
    return Envelope(body, properties, _text(table, 'exchange'), _text(table, 'routing_key'), _number(table))


def _properties(table: dict[str, Any]) -> dict[str, Any]:
    given, headers = table.get('properties', {}), table.get('headers')
    if not isinstance(given, dict) or not isinstance(headers, (dict, type(None))):
        raise ValueError('properties and headers are objects of JSON')
    unknown = sorted(given.keys() - _NAMES)
    if unknown:
        raise ValueError(f'unknown property {unknown[0]!r}; there are {", ".join(sorted(_NAMES))}')
    properties = {key: from_json(value) for key, value in given.items()}
    if headers:
        properties['application_headers'] = {key: from_json(value) for key, value in headers.items()}
    return properties


def _text(table: dict[str, Any], key: str) -> str | None:
    value = table.get(key)
    if not isinstance(value, (str, type(None))):
        raise ValueError(f'{key} is a text')
    return value


def _number(table: dict[str, Any]) -> float | None:
    value = table.get('received_at')
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
