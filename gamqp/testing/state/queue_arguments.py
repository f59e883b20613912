"""The arguments of queue.declare: what each may be, and whether two declarations mean the same.

Layer 5, pure. Does not belong here: what the arguments do.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from .errors import precondition_failed, queue_label, text_of
from .versions import Version

__all__ = ('assert_same', 'check', 'compared', 'described', 'kind_of', 'type_of')

_LONGEST = 315_360_000_000  # ten years in milliseconds
_OVERFLOWS = ('drop-head', 'reject-publish', 'reject-publish-dlx')
_KINDS = ('classic', 'quorum', 'stream')

#: The arguments that each kind of queue understands; others of these names are refused.
_OF_KIND: dict[str, frozenset[str]] = {
    'classic': frozenset(
        (
            *('x-expires', 'x-message-ttl', 'x-max-length', 'x-max-length-bytes', 'x-overflow', 'x-max-priority'),
            *('x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-single-active-consumer'),
            *('x-queue-mode', 'x-queue-version', 'x-queue-type', 'x-queue-master-locator', 'x-queue-leader-locator'),
        )
    ),
    'quorum': frozenset(
        (
            *('x-expires', 'x-message-ttl', 'x-max-length', 'x-max-length-bytes', 'x-overflow', 'x-delivery-limit'),
            *('x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-dead-letter-strategy'),
            *('x-single-active-consumer', 'x-quorum-initial-group-size', 'x-quorum-target-group-size'),
            *('x-max-in-memory-length', 'x-max-in-memory-bytes', 'x-queue-leader-locator', 'x-queue-type'),
            *('x-consumer-timeout', 'x-delayed-retry-type', 'x-delayed-retry-min', 'x-delayed-retry-max'),
        )
    ),
    'stream': frozenset(
        (
            *('x-max-length-bytes', 'x-max-age', 'x-stream-max-segment-size-bytes', 'x-initial-cluster-size'),
            *('x-queue-leader-locator', 'x-queue-type', 'x-stream-filter-size-bytes'),
        )
    ),
}


def kind_of(arguments: dict[Any, Any], name: str | bytes, vhost: str) -> str:
    """'classic', 'quorum' or 'stream'. Raises a Refusal for another x-queue-type."""
    kind = arguments.get('x-queue-type')
    if kind is None:
        return 'classic'
    if kind not in _KINDS:
        shown = f"unsupported queue type '{_shown(kind)}'"
        wrong = f'"{shown}"' if isinstance(kind, (str, bytes)) else f'{{unacceptable_type,{type_of(kind)}}}'
        raise precondition_failed(f"invalid arg 'x-queue-type' for {queue_label(name, vhost)}: {wrong}")
    return str(kind)


def check(kind: str, arguments: dict[Any, Any], name: str | bytes, vhost: str, version: Version) -> None:
    """Raise a Refusal for an argument that is wrong, or that this kind of queue does not have."""
    label = queue_label(name, vhost)
    for key, value in arguments.items():
        if key in _DELAYED_RETRY and not version.delayed_retry:
            continue
        test = _CHECKS.get(text_of(key))
        if test is None or (key == 'x-consumer-timeout' and not version.consumer_timeout_argument):
            continue
        if key == 'x-queue-mode' and not version.queue_mode and kind == 'classic':
            continue
        if key not in _OF_KIND[kind]:
            raise precondition_failed(f"invalid arg '{key}' for {label} of queue type rabbit_{kind}_queue")
        wrong = test(value, arguments)
        if key == 'x-queue-version' and type(value) is int and value not in version.queue_versions:
            wrong = f'"unsupported queue version \'{value}\'"'
        if wrong is not None:
            raise precondition_failed(f"invalid arg '{key}' for {label}: {wrong}")


def _anything(value: Any, arguments: dict[Any, Any]) -> str | None:
    return None


def _not_negative(value: Any, arguments: dict[Any, Any]) -> str | None:
    if type(value) is not int:
        return f'"expected integer, got {type_of(value)}"'
    return f'{{value_negative,{value}}}' if value < 0 else None


def _positive(value: Any, arguments: dict[Any, Any]) -> str | None:
    return '{value_zero,0}' if value == 0 and type(value) is int else _not_negative(value, arguments)


def _time_to_live(value: Any, arguments: dict[Any, Any]) -> str | None:
    wrong = _not_negative(value, arguments)
    return wrong if wrong or value <= _LONGEST else f'{{value_too_large,{value}}}'


def _expires(value: Any, arguments: dict[Any, Any]) -> str | None:
    return _positive(value, arguments) or _time_to_live(value, arguments)


def _text(value: Any, arguments: dict[Any, Any]) -> str | None:
    return None if isinstance(value, (str, bytes)) else f'{{unacceptable_type,{type_of(value)}}}'


def _flag(value: Any, arguments: dict[Any, Any]) -> str | None:
    return None if isinstance(value, bool) else f'{{unacceptable_type,{type_of(value)}}}'


def _dead_letter_key(value: Any, arguments: dict[Any, Any]) -> str | None:
    wrong = _text(value, arguments)
    if wrong is None and 'x-dead-letter-exchange' not in arguments:
        return 'routing_key_but_no_dlx_defined'
    return wrong


def _priorities(value: Any, arguments: dict[Any, Any]) -> str | None:
    wrong = _not_negative(value, arguments)
    return wrong if wrong or value <= 255 else f'{{max_value_exceeded,{value}}}'


def _overflow(value: Any, arguments: dict[Any, Any]) -> str | None:
    if isinstance(value, (str, bytes)) and value not in _OVERFLOWS:
        return 'invalid_overflow'
    return _text(value, arguments)


def _mode(value: Any, arguments: dict[Any, Any]) -> str | None:
    if isinstance(value, (str, bytes)) and value not in ('default', 'lazy'):
        return f'"unsupported queue mode \'{text_of(value)}\'"'
    return _text(value, arguments)


_DELAYED_RETRY = ('x-delayed-retry-type', 'x-delayed-retry-min', 'x-delayed-retry-max')

_CHECKS: dict[str, Callable[[Any, dict[Any, Any]], str | None]] = {
    'x-expires': _expires,
    'x-message-ttl': _time_to_live,
    'x-dead-letter-exchange': _text,
    'x-dead-letter-routing-key': _dead_letter_key,
    'x-dead-letter-strategy': _text,
    'x-max-length': _not_negative,
    'x-max-length-bytes': _not_negative,
    'x-max-priority': _priorities,
    'x-overflow': _overflow,
    'x-queue-mode': _mode,
    'x-queue-version': _not_negative,
    'x-consumer-timeout': _not_negative,
    'x-single-active-consumer': _flag,
    'x-delivery-limit': _not_negative,
    'x-max-age': _text,
    'x-queue-type': _text,
    'x-quorum-initial-group-size': _positive,
    'x-initial-cluster-size': _positive,
    'x-stream-max-segment-size-bytes': _not_negative,
    'x-queue-leader-locator': _text,
    **dict.fromkeys(_DELAYED_RETRY, _anything),
}

#: The arguments of which RabbitMQ asks that every declaration gives the same.
_COMPARED = (
    'x-message-ttl',
    'x-expires',
    'x-dead-letter-exchange',
    'x-dead-letter-routing-key',
    'x-dead-letter-strategy',
    'x-max-length',
    'x-max-length-bytes',
    'x-max-in-memory-length',
    'x-max-in-memory-bytes',
    'x-max-priority',
    'x-overflow',
    'x-queue-mode',
    'x-queue-version',
    'x-single-active-consumer',
    'x-queue-type',
    'x-delivery-limit',
    'x-max-age',
    'x-stream-max-segment-size-bytes',
)


def compared(version: Version) -> tuple[str, ...]:
    """The arguments that every declaration of a queue has to give as the first did."""
    return _COMPARED + _DELAYED_RETRY if version.delayed_retry else _COMPARED


def assert_same(
    label: str, now: dict[Any, Any], wanted: dict[Any, Any], names: tuple[str, ...], kind: str = ''
) -> None:
    """Raise a Refusal unless the arguments *wanted* are those of the queue, or exchange, that exists.

    kind: of the queue; what this kind does not understand is not compared.
    """
    for name in names:
        if kind and name not in _OF_KIND[kind]:
            continue
        have, want = now.get(name), wanted.get(name)
        if have == want and isinstance(have, bool) == isinstance(want, bool):
            continue
        if have is not None and want is not None:
            received, current = f"'{_shown(want)}'", f"'{_shown(have)}'"
        else:
            received = 'none' if want is None else f"the value '{_shown(want)}' of type '{type_of(want)}'"
            current = 'none' if have is None else f"the value '{_shown(have)}' of type '{type_of(have)}'"
        raise precondition_failed(
            f"inequivalent arg '{name}' for {label}: received {received} but current is {current}"
        )


def described(value: bool) -> str:
    """A flag as RabbitMQ writes it."""
    return 'true' if value else 'false'


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return described(value)
    return text_of(value) if isinstance(value, (str, bytes)) else str(value)


def type_of(value: Any) -> str:
    """RabbitMQ's name of the type of a field value. Numbers are taken as clients send them."""
    if isinstance(value, bool):
        return 'bool'
    if isinstance(value, int):
        return 'signedint' if -(2**31) <= value < 2**31 else 'long'
    names = {str: 'longstr', bytes: 'binary', float: 'double', dict: 'table', list: 'array'}
    names.update({Decimal: 'decimal', datetime: 'timestamp', type(None): 'void'})
    return names.get(type(value), 'longstr')
