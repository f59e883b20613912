"""The names of OpenTelemetry that gamqp uses: attributes, spans and metrics, all in this file.

Layer 3. They are those of the semantic conventions for messaging, and for RabbitMQ, of the version in
``SCHEMA_URL``. A table in ``docs/observability.rst`` has the same names; a test compares them.
Does not belong here: when something is recorded.
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = (
    'ATTRIBUTES',
    'BUCKETS',
    'METRICS',
    'SCHEMA_URL',
    'Place',
    'Places',
    'also_older_names',
    'as_text',
    'error_type',
    'message_attributes',
)

SCHEMA_URL = 'https://opentelemetry.io/schemas/1.44.0'

SYSTEM = 'messaging.system'
OPERATION_NAME = 'messaging.operation.name'
OPERATION_TYPE = 'messaging.operation.type'
DESTINATION_NAME = 'messaging.destination.name'
DESTINATION_TEMPLATE = 'messaging.destination.template'
DESTINATION_ANONYMOUS = 'messaging.destination.anonymous'
SUBSCRIPTION_NAME = 'messaging.destination.subscription.name'
ROUTING_KEY = 'messaging.rabbitmq.destination.routing_key'
DELIVERY_TAG = 'messaging.rabbitmq.message.delivery_tag'
MESSAGE_ID = 'messaging.message.id'
CONVERSATION_ID = 'messaging.message.conversation_id'
BODY_SIZE = 'messaging.message.body.size'
SERVER_ADDRESS = 'server.address'
SERVER_PORT = 'server.port'
ERROR_TYPE = 'error.type'

#: Each attribute, and its name in older versions of the conventions ('' where there was none). With
#: OTEL_SEMCONV_STABILITY_OPT_IN=messaging/dup spans have both.
ATTRIBUTES = {
    SYSTEM: '',
    OPERATION_NAME: '',
    OPERATION_TYPE: 'messaging.operation',
    DESTINATION_NAME: 'messaging.destination',
    DESTINATION_TEMPLATE: '',
    DESTINATION_ANONYMOUS: 'messaging.temp_destination',
    SUBSCRIPTION_NAME: '',
    ROUTING_KEY: 'messaging.rabbitmq.routing_key',
    DELIVERY_TAG: '',
    MESSAGE_ID: 'messaging.message_id',
    CONVERSATION_ID: 'messaging.conversation_id',
    BODY_SIZE: 'messaging.message_payload_size_bytes',
    SERVER_ADDRESS: 'net.peer.name',
    SERVER_PORT: 'net.peer.port',
    ERROR_TYPE: '',
}

#: The event of a span whose message came back, and its attribute. The conventions have no names for these.
RETURNED_EVENT = 'returned'
RETURNED_REPLY = 'messaging.rabbitmq.reply'

#: The error.type of a publish that the broker refused: the class of the error that its publisher gets.
NACKED = 'gamqp.exceptions.MessageNacked'

OPERATION_DURATION = 'messaging.client.operation.duration'
PROCESS_DURATION = 'messaging.process.duration'
SENT_MESSAGES = 'messaging.client.sent.messages'
CONSUMED_MESSAGES = 'messaging.client.consumed.messages'

#: Each metric, its unit and its description.
METRICS = {
    OPERATION_DURATION: ('s', 'Duration of messaging operation initiated by a producer or consumer client.'),
    PROCESS_DURATION: ('s', 'Duration of processing operation.'),
    SENT_MESSAGES: ('{message}', 'Number of messages producer attempted to send to the broker.'),
    CONSUMED_MESSAGES: ('{message}', 'Number of messages that were delivered to the application.'),
}

#: Boundaries of the buckets of both durations, in seconds, that the conventions advise.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# Prefixes of names that the broker generates, one per queue or per request: too many for names of spans.
GENERATED = ('amq.gen-', 'amq.rabbitmq.reply-to')
ANONYMOUS = '(anonymous)'

# The name that the conventions give to the default exchange when there is no routing key.
DEFAULT_EXCHANGE = 'amq.default'

# Pairs of exchange and routing key, and queues, whose attributes are cached.
MOST_PLACES = 1000

# Exchanges and queues that metrics tell apart. Each is a time series of every metric; further ones are OTHERS.
MOST_DESTINATIONS = 200
OTHERS = '(others)'


def also_older_names(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for the older names of the attributes beside those of now."""
    return 'messaging/dup' in [one.strip() for one in environ.get('OTEL_SEMCONV_STABILITY_OPT_IN', '').split(',')]


class Place(NamedTuple):
    """Where a message goes or comes from: what all messages of this place have in common.

    name: of spans. attributes: of spans. timed, counted: the attributes of durations and of counters.
    """

    name: str
    attributes: dict[str, Any]
    timed: dict[str, Any]
    counted: dict[str, Any]


class Places:
    """The Place of each pair of exchange and routing key, and of each queue; the latest 1000 are cached."""

    def __init__(self, older: bool) -> None:
        self.older = older
        self._known: dict[Any, Place] = {}
        self._measured: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, connection: Any, exchange: Any, routing_key: Any, queue: str | None, operation: str = '') -> Place:
        """queue: None for a publish. operation: where it is neither 'publish' nor 'process'."""
        transport = getattr(connection, 'transport', None)
        where = (None, None) if transport is None else (transport.host, transport.port)
        key = (exchange, routing_key, queue, operation, where)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MOST_PLACES:
                self._known.clear()
            known = self._known[key] = self._describe(exchange, routing_key, queue, operation, where)
        return known

    def _describe(
        self, exchange: Any, routing_key: Any, queue: str | None, operation: str, where: tuple[Any, Any]
    ) -> Place:
        """The conventions say how the name of the destination is made of exchange, routing key and queue."""
        parts = [as_text(part) for part in (exchange, routing_key, queue) if part]
        if queue is None:
            operation, kind = operation or 'publish', 'send'
        else:
            operation = kind = operation or 'process'
            if len(parts) > 1 and parts[-1] == parts[-2]:
                del parts[-1]  # with the default exchange the routing key is the queue's name
        # The routing key is never a part of the name of a span: there may be a different one for each message.
        template = ANONYMOUS if _is_generated(queue) else queue or as_text(exchange or DEFAULT_EXCHANGE)
        counted: dict[str, Any] = {SYSTEM: 'rabbitmq', OPERATION_NAME: operation}
        if where[0] is not None:
            counted[SERVER_ADDRESS], counted[SERVER_PORT] = where
        attributes = {
            **counted,
            OPERATION_TYPE: kind,
            DESTINATION_NAME: ':'.join(parts) or DEFAULT_EXCHANGE,
            DESTINATION_TEMPLATE: template,
        }
        if queue:
            attributes[SUBSCRIPTION_NAME] = queue
        if routing_key:
            attributes[ROUTING_KEY] = as_text(routing_key)
        if _is_generated(queue or routing_key):
            attributes[DESTINATION_ANONYMOUS] = True
        if self.older:
            # The values differ, too: a destination was the exchange alone, and 'send' was 'publish'.
            older = {**attributes, OPERATION_TYPE: operation, DESTINATION_NAME: as_text(exchange)}
            attributes = _with_older_names(attributes, older)
        counted[DESTINATION_TEMPLATE] = measured = self._measured_as(template)
        if queue and measured == queue:
            counted[SUBSCRIPTION_NAME] = queue
        return Place(f'{operation} {template}', attributes, {**counted, OPERATION_TYPE: kind}, counted)

    def _measured_as(self, template: str) -> str:
        if template not in self._measured:
            if len(self._measured) >= MOST_DESTINATIONS:
                return OTHERS
            self._measured.add(template)
        return template


def message_attributes(properties: Any, size: int | None, delivery_tag: int, older: bool) -> dict[str, Any]:
    """The attributes of one message. size: of its body, None if it is not known. delivery_tag: 0 if there is none."""
    attributes: dict[str, Any] = {}
    if size is not None:
        attributes[BODY_SIZE] = size
    if delivery_tag:
        attributes[DELIVERY_TAG] = delivery_tag
    if properties:
        for name, key in (('message_id', MESSAGE_ID), ('correlation_id', CONVERSATION_ID)):
            value = properties.get(name)
            if value:
                attributes[key] = as_text(value)
    return _with_older_names(attributes, attributes) if older else attributes


def _with_older_names(attributes: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The attributes, and the *values* under their older names."""
    return {**attributes, **{ATTRIBUTES[name]: value for name, value in values.items() if ATTRIBUTES[name]}}


def error_type(error: BaseException) -> str:
    """The value of ``error.type`` for an exception."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'


def as_text(value: Any) -> str:
    """A name or a property as text. One that was received and is no UTF-8 is bytes; a program may give any property."""
    return value if isinstance(value, str) else repr(value)


def _is_generated(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(GENERATED)
