"""The spans of OpenTelemetry: their names and attributes, when they begin and when they end.

Layer 3. ``gamqp.opentelemetry`` has the public names. Does not belong here: anything that gamqp needs without a tracer.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..about import __version__
from .tracing import Tracing

__all__ = ('Spans', 'Wanted', 'ending')

# Prefixes of names that the broker generates, one per queue or per request: too many for names of spans.
GENERATED = ('amq.gen-', 'amq.rabbitmq.reply-to')
ANONYMOUS = '(anonymous)'

# The name that the conventions give to the default exchange when there is no routing key.
DEFAULT_EXCHANGE = 'amq.default'

# Seconds for which the span of a mandatory message stays open, because the message may come back.
RETURN_WITHIN = 1.0

# Spans that one connection keeps open, at most. The oldest one is ended for a new one.
MOST_OPEN = 1000

# The flags of a trace as a header has them. Looked up, since formatting takes as long as half of the header.
_FLAGS = [f'{flags:02x}' for flags in range(256)]

# Pairs of exchange and routing key, and queues, whose attributes are cached.
MOST_PLACES = 1000

# The type of the filter: (operation, exchange, routing key, queue) -> whether to trace it.
Wanted = Callable[[str, str, str, str], Any]


class Spans(Tracing):
    """The Tracing that makes spans of OpenTelemetry."""

    def __init__(self, tracer_provider: trace.TracerProvider | None, wanted: Wanted) -> None:
        self._tracer = trace.get_tracer('gamqp', __version__, tracer_provider)
        self._wanted = wanted
        self._places: dict[Any, tuple[str, dict[str, Any]]] = {}
        # Spans of mandatory messages: connection -> id of the span -> the span, and the time of the publish.
        self._open: weakref.WeakKeyDictionary[Any, OrderedDict[int, tuple[trace.Span, int]]]
        self._open = weakref.WeakKeyDictionary()
        _all.add(self)

    # -- publishing ------------------------------------------------------------------------

    def publish(
        self,
        connection: Any,
        exchange: str,
        routing_key: str,
        body: Any,
        properties: dict[str, Any],
        send: Callable[[dict[str, Any]], int],
    ) -> int:
        """The span ends when the message is queued to be sent; confirms are not part of it."""
        return self._publish(connection, exchange, routing_key, body, properties, send, False)

    def publish_mandatory(
        self,
        connection: Any,
        exchange: str,
        routing_key: str,
        body: Any,
        properties: dict[str, Any],
        send: Callable[[dict[str, Any]], int],
    ) -> int:
        """The same, but the span is kept open for a while, to be marked if the broker returns the message."""
        return self._publish(connection, exchange, routing_key, body, properties, send, True)

    def _publish(
        self, connection: Any, exchange: Any, routing_key: Any, body: Any, properties: Any, send: Any, mandatory: bool
    ) -> int:
        if _is_suppressed() or not self._wanted('publish', _text(exchange), _text(routing_key), ''):
            return send(properties)  # type: ignore[no-any-return]
        name, attributes = self._place(connection, exchange, routing_key, None)
        span = self._tracer.start_span(name, kind=trace.SpanKind.PRODUCER, attributes=attributes)
        recording = span.is_recording()
        if recording:
            if isinstance(body, (bytes, bytearray)):
                span.set_attribute('messaging.message.body.size', len(body))
            _set_ids(span, properties)
        try:
            tag: int = send(_with_context(properties, span))
        except BaseException as exc:
            _fail(span, exc)
            span.end()
            raise
        if recording and mandatory:
            self._keep_open(connection, span)
        else:
            span.end()
        return tag

    def _keep_open(self, connection: Any, span: trace.Span) -> None:
        kept = self._open.get(connection)
        if kept is None:
            kept = self._open[connection] = OrderedDict()
        kept[span.get_span_context().span_id] = span, time.time_ns()
        if len(kept) > MOST_OPEN:
            _end(kept, 1)
        if len(kept) == 1:
            connection._green.spawn(_end_late, kept, connection._green.sleep)

    def returned(self, connection: Any, message: Any) -> None:
        """Mark the span of the publish as failed. If it has ended already, make a child span that says so."""
        if not self._wanted('publish', *_delivery_of(message)[:2], ''):
            return
        info = message.delivery_info
        _, _, properties = _delivery_of(message)
        parent = propagate.extract(_headers_of(properties), context=context.Context(), getter=_GETTER)
        published = trace.get_current_span(parent).get_span_context()
        kept = self._open.get(connection)
        found = None if kept is None else kept.pop(published.span_id, None)
        if found is not None:
            span = found[0]
        else:
            if not published.is_valid:
                return
            name, attributes = self._place(connection, info['exchange'], info['routing_key'], None, 'return')
            span = self._tracer.start_span(name, parent, trace.SpanKind.PRODUCER, attributes)
        text = f'{info["reply_code"]} {_text(info["reply_text"])}'
        span.add_event('returned', {'messaging.rabbitmq.reply': text})
        span.set_attribute('error.type', str(info['reply_code']))
        span.set_status(trace.Status(trace.StatusCode.ERROR, f'returned: {text}'))
        span.end()

    def end_all(self) -> None:
        """End the spans that are kept open, at the end of the program."""
        for kept in list(self._open.values()):
            _end(kept, len(kept))

    # -- handling --------------------------------------------------------------------------

    def process(self, connection: Any, message: Any, handler: Callable[[Any], Any]) -> None:
        begun = self.begin(connection, message, '')
        if begun is None:
            handler(message)
            return
        with ending(begun):
            handler(message)

    def begin(self, connection: Any, message: Any, queue: str) -> tuple[trace.Span, Any] | None:
        """Start a consumer's span and make it the active one.

        Returns it and the token for ``detach``, None if not traced.
        """
        if _is_suppressed():
            return None
        exchange, routing_key, properties = _delivery_of(message)
        queue = queue or _queue_of(message)
        if not self._wanted('process', _text(exchange), _text(routing_key), queue):
            return None
        headers = _headers_of(properties)
        if 'task' in headers and _celery_traces():
            return None
        name, attributes = self._place(connection, exchange, routing_key, queue)
        # The parent is taken from an empty context, not the current one: the span that is active where the
        # message is handled did not cause it. That span is linked instead.
        parent = propagate.extract(headers, context=context.Context(), getter=_GETTER)
        around = trace.get_current_span().get_span_context()
        links = [trace.Link(around)] if around.is_valid else None
        span = self._tracer.start_span(name, parent, trace.SpanKind.CONSUMER, attributes, links)
        if span.is_recording():
            span.set_attribute('messaging.message.body.size', message.size)
            if message.delivery_tag:
                span.set_attribute('messaging.rabbitmq.message.delivery_tag', message.delivery_tag)
            _set_ids(span, properties)
        return span, context.attach(trace.set_span_in_context(span, parent))

    def _place(
        self, connection: Any, exchange: Any, routing_key: Any, queue: str | None, operation: str = ''
    ) -> tuple[str, dict[str, Any]]:
        """The name of a span, and the attributes that do not depend on the message. queue: None for a publish."""
        transport = getattr(connection, 'transport', None)
        where = (None, None) if transport is None else (transport.host, transport.port)
        key = (exchange, routing_key, queue, operation, where)
        try:
            return self._places[key]
        except KeyError:
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            known = self._places[key] = _described(exchange, routing_key, queue, operation, where)
            return known
        except TypeError:  # a name that is not hashable; the encoder will raise for it
            return _described(exchange, routing_key, queue, operation, where)


#: All instances, whose open spans are ended when the program ends.
_all: weakref.WeakSet[Spans] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for spans in list(_all):
        spans.end_all()


def _end_late(kept: OrderedDict[int, tuple[trace.Span, int]], sleep: Callable[[float], None]) -> None:
    """Body of a greenlet: end the spans of messages that did not come back, with the time of their publish."""
    try:
        while kept:
            sleep(RETURN_WITHIN / 4)
            late = time.time_ns() - int(RETURN_WITHIN * 1e9)
            _end(kept, sum(at < late for _, at in list(kept.values())))
    finally:
        _end(kept, len(kept))


def _end(kept: OrderedDict[int, tuple[trace.Span, int]], count: int) -> None:
    for _ in range(count):
        if kept:
            _, (span, at) = kept.popitem(last=False)
            span.end(at)


def _is_suppressed() -> bool:
    """Whether the caller is inside ``suppress_instrumentation()``."""
    current = context.get_current()
    return bool(current) and bool(current.get(_SUPPRESS) or current.get('suppress_instrumentation'))


_SUPPRESS = getattr(context, '_SUPPRESS_INSTRUMENTATION_KEY', 'suppress_instrumentation')


def _celery_traces() -> bool:
    """Whether Celery's instrumentation makes a span of its own for each task."""
    module = sys.modules.get('opentelemetry.instrumentation.celery')
    instrumentor = getattr(module, 'CeleryInstrumentor', None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _queue_of(message: Any) -> str:
    """The queue of the consumer that got the message, '' if that is not known any more."""
    find = getattr(message.channel, '_queue_of', None)
    return '' if find is None else find(message.consumer_tag)


class _Headers(Getter[Mapping[str, Any]]):
    """Reads the context from headers, also from those of other clients, where values may be bytes."""

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
        return properties  # the encoder will raise for it
    headers = dict(headers) if headers else {}
    if (
        span.is_recording()
        or not _propagates_plainly(propagate.get_global_textmap())
        or (context.get_current() and baggage.get_all())
    ):
        propagate.inject(headers, trace.set_span_in_context(span))
        return {**properties, 'application_headers': headers} if headers else properties
    # The same headers as the propagators would write, in a fifth of the time: most programs sample few messages.
    known = span.get_span_context()
    if not known.is_valid:
        return properties
    if known.trace_state:
        headers['tracestate'] = known.trace_state.to_header()
    # As by ``format``, which takes three times as long for numbers of this size.
    trace_id, span_id = known.trace_id.to_bytes(16, 'big').hex(), known.span_id.to_bytes(8, 'big').hex()
    headers['traceparent'] = f'00-{trace_id}-{span_id}-{_FLAGS[known.trace_flags]}'
    return {**properties, 'application_headers': headers}


@functools.lru_cache(1)
def _propagates_plainly(textmap: Any) -> bool:
    """Whether the global propagators are the default ones: W3C trace context and W3C baggage."""
    parts = [type(one) for one in getattr(textmap, '_propagators', ())]
    return parts == [TraceContextTextMapPropagator, W3CBaggagePropagator]


def _delivery_of(message: Any) -> tuple[str, str, dict[str, Any]]:
    """Exchange, routing key and properties. Empty if they cannot be decoded: the handler gets that error."""
    try:
        info = message.delivery_info
        return info.get('exchange', ''), info.get('routing_key', ''), message.properties
    except Exception:
        return '', '', {}


def _headers_of(properties: Any) -> dict[str, Any]:
    headers = properties.get('application_headers') if properties else None
    return headers if isinstance(headers, dict) else {}


def _described(
    exchange: Any, routing_key: Any, queue: str | None, operation: str, where: tuple[Any, Any]
) -> tuple[str, dict[str, Any]]:
    parts = [_text(part) for part in (exchange, routing_key, queue) if part]
    if queue is None:
        operation, kind = operation or 'publish', 'send'
    else:
        operation = kind = operation or 'process'
        if len(parts) > 1 and parts[-1] == parts[-2]:
            del parts[-1]  # with the default exchange the routing key is the queue's name
    attributes: dict[str, Any] = {
        'messaging.system': 'rabbitmq',
        'messaging.operation.name': operation,
        'messaging.operation.type': kind,
        'messaging.destination.name': ':'.join(parts) or DEFAULT_EXCHANGE,
    }
    if queue:
        attributes['messaging.destination.subscription.name'] = queue
    if routing_key:
        attributes['messaging.rabbitmq.destination.routing_key'] = _text(routing_key)
    if _is_generated(queue or routing_key):
        attributes['messaging.destination.anonymous'] = True
    if where[0] is not None:
        attributes['server.address'], attributes['server.port'] = where
    # The routing key is never a part of the name: there may be a different one for each message.
    place = ANONYMOUS if _is_generated(queue) else queue or _text(exchange or DEFAULT_EXCHANGE)
    return f'{operation} {place}', attributes


def _set_ids(span: trace.Span, properties: Any) -> None:
    for name, key in (('message_id', 'messaging.message.id'), ('correlation_id', 'messaging.message.conversation_id')):
        value = properties.get(name) if properties else None
        if value:
            span.set_attribute(key, _text(value))


def _is_generated(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(GENERATED)


def _text(value: Any) -> str:
    """A name as text. A received name that is no UTF-8 is bytes, and the program may pass any object."""
    return value if isinstance(value, str) else repr(value)


@contextlib.contextmanager
def ending(begun: tuple[trace.Span, Any]) -> Iterator[trace.Span]:
    """The block of a span that ``Spans.begin`` has started: it ends with the block, as failed if the block raises."""
    span, token = begun
    try:
        yield span
    except BaseException as exc:
        _fail(span, exc)
        raise
    finally:
        context.detach(token)
        span.end()


def _fail(span: trace.Span, exc: BaseException) -> None:
    """Mark the span as failed. Takes gevent.Timeout and GreenletExit, too, which are no Exceptions."""
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    span.set_attribute('error.type', name)
    span.record_exception(exc)
    span.set_status(trace.Status(trace.StatusCode.ERROR, f'{kind.__name__}: {exc}'))
