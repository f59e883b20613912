"""Traces across the broker by OpenTelemetry: ``gamqp.opentelemetry.instrument()``.

Layer 4; needs opentelemetry-api, and shows something when the program has set up an
SDK. Each publish is a span whose context travels in the message's headers; the
callback or handler that gets the message runs in a span of the same trace. A
greenlet has a context of its own (contextvars), so what one handler sets is seen by
no other, and what is active during a message is put back after it.
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/
What must not enter: anything that the core would need when nobody traces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .about import __version__
from .connection import Connection
from .tracing import Tracing, install

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.propagators.textmap import Getter
except ImportError as exc:
    raise ImportError("gamqp.opentelemetry needs opentelemetry-api: pip install 'gamqp[opentelemetry]'") from exc

__all__ = ('instrument', 'process', 'uninstrument')

# Names the broker makes up, one per queue or even per request: too many to name a span after.
MADE_UP = ('amq.gen-', 'amq.rabbitmq.reply-to')
ANONYMOUS = '(anonymous)'

# What the conventions call the exchange without a name when there is no routing key either.
DEFAULT_EXCHANGE = 'amq.default'


def instrument(connection: Any = None, tracer_provider: trace.TracerProvider | None = None) -> None:
    """Trace what this connection, or without one every Connection, publishes and handles from now on.

    tracer_provider: None for the global one. The context travels by the global
    propagator (``opentelemetry.propagate``). Doing it twice is harmless. Does not
    switch greenlets; what ends a span may, if the program's span processors wait.
    """
    install(Connection if connection is None else connection, _Spans(tracer_provider))


def uninstrument(connection: Any = None) -> None:
    """End what ``instrument`` has begun: for this connection, or for all that have none of their own."""
    install(Connection if connection is None else connection, None)


@contextlib.contextmanager
def process(message: Any) -> Iterator[trace.Span]:
    """A span around the work on a delivered message, whose context is active inside: ``with process(message):``.

    For loops over ``Channel.consume`` and for basic_get; callbacks and handlers of an
    instrumented connection have one already. Where the connection is not
    instrumented, the global tracer provider gets it. Gives the span. Must be left in
    the greenlet that entered it.
    """
    connection = getattr(message.channel, 'connection', None)
    spans = getattr(connection, 'tracing', None)
    with (spans if isinstance(spans, _Spans) else _Spans(None)).around(connection, message) as span:
        yield span


class _Spans(Tracing):
    """What stands in ``Connection.tracing``."""

    def __init__(self, tracer_provider: trace.TracerProvider | None) -> None:
        self._tracer = trace.get_tracer('gamqp', __version__, tracer_provider)

    def publish(
        self,
        connection: Any,
        exchange: str,
        routing_key: str,
        body: Any,
        properties: dict[str, Any],
        send: Callable[[dict[str, Any]], int],
    ) -> int:
        """The span ends when the message is handed over; what the broker makes of it is the receipt's."""
        attributes = _attributes(connection, exchange, routing_key, properties, 'publish', 'send')
        if isinstance(body, (bytes, bytearray)):
            attributes['messaging.message.body.size'] = len(body)
        name = f'publish {_place(exchange, routing_key)}'
        span = self._tracer.start_span(name, kind=trace.SpanKind.PRODUCER, attributes=attributes)
        try:
            return send(_with_context(properties, span))
        except BaseException as exc:
            _fail(span, exc)
            raise
        finally:
            span.end()

    def process(self, connection: Any, message: Any, handler: Callable[[Any], Any]) -> None:
        with self.around(connection, message):
            handler(message)

    @contextlib.contextmanager
    def around(self, connection: Any, message: Any) -> Iterator[trace.Span]:
        exchange, routing_key, properties = _told_of(message)
        attributes = _attributes(connection, exchange, routing_key, properties, 'process', 'process')
        attributes['messaging.message.body.size'] = message.size
        if message.delivery_tag:
            attributes['messaging.rabbitmq.message.delivery_tag'] = message.delivery_tag
        # Out of nothing: what is active where the message happens to be handled is none of its causes.
        headers = properties.get('application_headers')
        carrier = headers if isinstance(headers, dict) else {}
        parent = propagate.extract(carrier, context.Context(), _GETTER)
        around = trace.get_current_span().get_span_context()
        span = self._tracer.start_span(
            f'process {_place(exchange, routing_key)}',
            parent,
            trace.SpanKind.CONSUMER,
            attributes,
            [trace.Link(around)] if around.is_valid else None,
        )
        token = context.attach(trace.set_span_in_context(span, parent))
        try:
            yield span
        except BaseException as exc:
            _fail(span, exc)
            raise
        finally:
            context.detach(token)
            span.end()


class _Headers(Getter[Mapping[str, Any]]):
    """Reads the context from what other clients, too, put into headers."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        if isinstance(value, bytes):
            value = value.decode('latin-1')
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_GETTER = _Headers()


def _with_context(properties: dict[str, Any], span: trace.Span) -> dict[str, Any]:
    """The properties with the span's context among the headers. Those of the program stay as they are."""
    properties = properties or {}
    headers = properties.get('application_headers')
    if headers is not None and not isinstance(headers, dict):
        return properties  # the encoder will say what is wrong with it
    headers = dict(headers or {})
    propagate.inject(headers, trace.set_span_in_context(span))
    return {**properties, 'application_headers': headers} if headers else properties


def _told_of(message: Any) -> tuple[str, str, dict[str, Any]]:
    """Exchange, routing key, properties. What cannot be decoded is left to the handler to find out."""
    try:
        info = message.delivery_info
        return info.get('exchange', ''), info.get('routing_key', ''), message.properties
    except Exception:
        return '', '', {}


def _attributes(
    connection: Any, exchange: str, routing_key: str, properties: Any, operation: str, kind: str
) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        'messaging.system': 'rabbitmq',
        'messaging.operation.name': operation,
        'messaging.operation.type': kind,
        'messaging.destination.name': _text(_destination(exchange, routing_key)),
    }
    if routing_key:
        attributes['messaging.rabbitmq.destination.routing_key'] = _text(routing_key)
    if _is_made_up(routing_key):
        attributes['messaging.destination.anonymous'] = True
    for name, key in (('message_id', 'messaging.message.id'), ('correlation_id', 'messaging.message.conversation_id')):
        value = properties.get(name) if properties else None
        if value:
            attributes[key] = _text(value)
    transport = getattr(connection, 'transport', None)
    if transport is not None:
        attributes['server.address'] = transport.host
        attributes['server.port'] = transport.port
    return attributes


def _destination(exchange: Any, routing_key: Any) -> str:
    """As the conventions put it together."""
    return ':'.join(_text(part) for part in (exchange, routing_key) if part) or DEFAULT_EXCHANGE


def _place(exchange: Any, routing_key: Any) -> str:
    """What a span is named after: the same, where it is one of a few."""
    if _is_made_up(routing_key):
        return _text(exchange) if exchange else ANONYMOUS
    return _destination(exchange, routing_key)


def _is_made_up(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(MADE_UP)


def _text(value: Any) -> str:
    """Names are str, but bytes where they are no UTF-8, and whatever the program says where it is wrong."""
    return value if isinstance(value, str) else repr(value)


def _fail(span: trace.Span, exc: BaseException) -> None:
    """Also for gevent.Timeout and GreenletExit, which are no Exceptions."""
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    span.set_attribute('error.type', name)
    span.record_exception(exc)
    span.set_status(trace.Status(trace.StatusCode.ERROR, f'{kind.__name__}: {exc}'))
