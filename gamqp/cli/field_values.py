"""Values of headers, arguments and properties: from the command line, and as JSON and back.

Layer 5. Pure. JSON has no bytes, times and decimals: those are tables of one key, {"$base64": …},
{"$timestamp": …} and {"$decimal": …}. Does not belong here: messages (``envelopes``).
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .exit_codes import UsageError

__all__ = ('bytes_of', 'from_json', 'pairs', 'properties', 'stream_offset', 'time_of', 'to_json')

_UTC = datetime.timezone.utc


def to_json(value: Any) -> Any:
    """What stands for a value of AMQP in JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {'$base64': base64.b64encode(value).decode('ascii')}
    if isinstance(value, datetime.datetime):
        return {'$timestamp': int(value.timestamp())}
    if isinstance(value, decimal.Decimal):
        return {'$decimal': str(value)}
    if isinstance(value, Mapping):
        table = {str(key): to_json(one) for key, one in value.items()}
        # A table of AMQP that looks like one of the three.
        return {'$table': table} if len(table) == 1 and next(iter(table)).startswith('$') else table
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    return value


def from_json(value: Any) -> Any:
    """The value of AMQP that a value of JSON stands for. Raises ValueError."""
    if isinstance(value, list):
        return [from_json(one) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, one),) = value.items()
        if key == '$table' and isinstance(one, dict):
            return {name: from_json(inner) for name, inner in one.items()}
        if key in _SPECIAL:
            return _SPECIAL[key](str(one))
    return {name: from_json(one) for name, one in value.items()}


def time_of(text: str) -> datetime.datetime:
    """'now', seconds since the epoch, or a time of ISO 8601 (UTC where it names no zone). Raises ValueError."""
    if text == 'now':
        return datetime.datetime.now(_UTC).replace(microsecond=0)
    try:
        return datetime.datetime.fromtimestamp(float(text), _UTC)
    except (ValueError, OverflowError, OSError):
        pass
    found = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    return found if found.tzinfo else found.replace(tzinfo=_UTC)


def stream_offset(text: str) -> int | datetime.datetime | str:
    """Where a consumer of a stream begins: a number, a time, or a name or an age, which the consumer checks."""
    if text.isdigit():
        return int(text)
    try:
        return time_of(text)
    except ValueError:
        return text


def bytes_of(text: str) -> bytes:
    """What base64 stands for. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError('no base64') from None


def _decimal(text: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError('no decimal number') from None


def _bool(text: str) -> bool:
    return {'true': True, 'false': False}[text.lower()]


_SPECIAL: dict[str, Callable[[str], Any]] = {'$base64': bytes_of, '$timestamp': time_of, '$decimal': _decimal}

#: What may stand between the name and the '=' of a header: name:int=5.
TYPES: dict[str, Callable[[str], Any]] = {
    'str': str,
    'int': int,
    'float': float,
    'bool': _bool,
    'decimal': _decimal,
    'bytes': bytes_of,
    'time': time_of,
    'json': lambda text: from_json(json.loads(text)),
}


def pairs(texts: Iterable[str] | None, typed: bool = False) -> dict[str, Any]:
    """A table of 'name=value' or 'name:type=value'. Raises UsageError.

    typed: a value without a type that is a number, true or false is one, as in arguments of queues; else it is text.
    """
    table: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition('=')
        name, colon, kind = name.rpartition(':') if ':' in name else (name, '', '')
        if not equals or not name:
            raise UsageError(f'name=value or name:type=value is wanted, not {text!r}')
        if colon and kind not in TYPES:
            raise UsageError(f'{text!r}: the type is one of {", ".join(TYPES)}')
        try:
            table[name] = TYPES[kind](value) if colon else _guessed(value) if typed else value
        except (ValueError, KeyError):
            raise UsageError(f'{text!r}: the value is no {kind}') from None
    return table


def _guessed(text: str) -> Any:
    if text in ('true', 'false'):
        return text == 'true'
    try:
        return int(text)
    except ValueError:
        return text


_NUMBERS = ('priority', 'delivery_mode')
_TEXTS = (
    *('content_type', 'content_encoding', 'correlation_id', 'reply_to', 'expiration', 'message_id', 'type'),
    *('user_id', 'app_id', 'cluster_id'),
)


def properties(texts: Iterable[str] | None) -> dict[str, Any]:
    """Properties of a message of 'name=value'. Raises UsageError."""
    table: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition('=')
        name = name.replace('-', '_')
        if not equals or name not in (*_TEXTS, *_NUMBERS, 'timestamp'):
            raise UsageError(f'{text!r}: name=value is wanted, of {", ".join((*_TEXTS, *_NUMBERS, "timestamp"))}')
        table[name] = _property(text, name, value)
    return table


def _property(text: str, name: str, value: str) -> Any:
    try:
        if name == 'timestamp':
            return int(time_of(value).timestamp())
        return int(value) if name in _NUMBERS else value
    except ValueError:
        raise UsageError(f'{text!r}: the value is no number or time') from None
