"""What a span of OpenTelemetry is called and holds, when it begins and when it ends.

Layer 3, a part of ``gamqp.opentelemetry``, which has the public names. What must not
enter: anything that the core would need when nobody traces.
"""

from __future__ import annotations

import atexit
import functools
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..about import __version__
from .tracing import Tracing

__all__ = ('Spans', 'Wanted', 'fail')

# Names the broker makes up, one per queue or even per request: too many to name a span after.
MADE_UP = ('amq.gen-', 'amq.rabbitmq.reply-to')
ANONYMOUS = '(anonymous)'

# What the conventions call the exchange without a name when there is no routing key either.
DEFAULT_EXCHANGE = 'amq.default'

# Seconds for which the span of a mandatory message stays open, because the message may come back.
RETURN_WITHIN = 1.0

# Of one connection; the oldest ends when there is another one.
MOST_OPEN = 1000

# Places to send to or take from whose attributes are remembered.
MOST_PLACES = 1000

# (operation, exchange, routing key, queue) -> whether it is to be traced
Wanted = Callable[[str, str, str, str], Any]


class Spans(Tracing):
    """What stands in ``Connection.tracing``."""

    def __init__(self, tracer_provider: trace.TracerProvider | None, wanted: Wanted) -> None:
        self._tracer = trace.get_tracer('gamqp', __version__, tracer_provider)
        self._wanted = wanted
        self._places: dict[Any, tuple[str, dict[str, Any]]] = {}
        # Of mandatory messages: connection -> number of the span -> it, and when the message was handed over.
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
        """The span ends when the message is handed over; what the broker makes of it is the receipt's."""
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
        """The same, but the span is kept open for a while, to be marked if the message comes back."""
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
            _tell_ids(span, properties)
        try:
            tag: int = send(_with_context(properties, span))
        except BaseException as exc:
            fail(span, exc)
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
            connection.green.spawn(_end_late, kept, connection.green.sleep)

    def returned(self, connection: Any, message: Any) -> None:
        """Mark the span of the publish, or, where it has ended, say so in one that follows it."""
        if not self._wanted('publish', *_told_of(message)[:2], ''):
            return
        info = message.delivery_info
        _, _, properties = _told_of(message)
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
        for kept in list(self._open.values()):
            _end(kept, len(kept))

    # -- handling --------------------------------------------------------------------------

    def process(self, connection: Any, message: Any, handler: Callable[[Any], Any]) -> None:
        begun = self.begin(connection, message, '')
        if begun is None:
            handler(message)
            return
        span, token = begun
        try:
            handler(message)
        except BaseException as exc:
            fail(span, exc)
            raise
        finally:
            context.detach(token)
            span.end()

    def begin(self, connection: Any, message: Any, queue: str) -> tuple[trace.Span, Any] | None:
        """Start a consumer's span and make it the active one. Returns it, and what ``detach`` takes; None for none."""
        if _is_suppressed():
            return None
        exchange, routing_key, properties = _told_of(message)
        queue = queue or _queue_of(message)
        if not self._wanted('process', _text(exchange), _text(routing_key), queue):
            return None
        headers = _headers_of(properties)
        if 'task' in headers and _celery_traces():
            return None
        name, attributes = self._place(connection, exchange, routing_key, queue)
        # Out of nothing: what is active where the message happens to be handled is none of its causes.
        parent = propagate.extract(headers, context=context.Context(), getter=_GETTER)
        around = trace.get_current_span().get_span_context()
        links = [trace.Link(around)] if around.is_valid else None
        span = self._tracer.start_span(name, parent, trace.SpanKind.CONSUMER, attributes, links)
        if span.is_recording():
            span.set_attribute('messaging.message.body.size', message.size)
            if message.delivery_tag:
                span.set_attribute('messaging.rabbitmq.message.delivery_tag', message.delivery_tag)
            _tell_ids(span, properties)
        return span, context.attach(trace.set_span_in_context(span, parent))

    def _place(
        self, connection: Any, exchange: Any, routing_key: Any, queue: str | None, operation: str = ''
    ) -> tuple[str, dict[str, Any]]:
        """The name of a span, and those of its attributes that do not go by the message. queue: None for a publish."""
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
        except TypeError:  # a name that is none; the encoder will say so
            return _described(exchange, routing_key, queue, operation, where)


#: To end spans that are kept open when the program ends.
_all: weakref.WeakSet[Spans] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for spans in list(_all):
        spans.end_all()


def _end_late(kept: OrderedDict[int, tuple[trace.Span, int]], sleep: Callable[[float], None]) -> None:
    """Body of a greenlet: end the spans of messages that have not come back, as of when they were handed over."""
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
    """Whether ``suppress_instrumentation()`` holds here."""
    current = context.get_current()
    return bool(current) and bool(current.get(_SUPPRESS) or current.get('suppress_instrumentation'))


_SUPPRESS = getattr(context, '_SUPPRESS_INSTRUMENTATION_KEY', 'suppress_instrumentation')


def _celery_traces() -> bool:
    """Whether Celery's instrumentation makes a span of its own for each task."""
    module = sys.modules.get('opentelemetry.instrumentation.celery')
    instrumentor = getattr(module, 'CeleryInstrumentor', None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _queue_of(message: Any) -> str:
    """The queue of the consumer that got the message, '' if it is not known any more."""
    find = getattr(message.channel, 'queue_of', None)
    return '' if find is None else find(message.consumer_tag)


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
    headers = dict(headers) if headers else {}
    if span.is_recording() or not _propagates_plainly(propagate.get_global_textmap()) or baggage.get_all():
        propagate.inject(headers, trace.set_span_in_context(span))
        return {**properties, 'application_headers': headers} if headers else properties
    # What the propagators would come to, at a third of the price: most programs sample few of their messages.
    known = span.get_span_context()
    if not known.is_valid:
        return properties
    if known.trace_state:
        headers['tracestate'] = known.trace_state.to_header()
    headers['traceparent'] = f'00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags:02x}'
    return {**properties, 'application_headers': headers}


@functools.lru_cache(1)
def _propagates_plainly(textmap: Any) -> bool:
    """Whether the global propagators are the usual ones: the trace's context by W3C's rules, and baggage."""
    parts = [type(one) for one in getattr(textmap, '_propagators', ())]
    return parts == [TraceContextTextMapPropagator, W3CBaggagePropagator]


def _told_of(message: Any) -> tuple[str, str, dict[str, Any]]:
    """Exchange, routing key, properties. What cannot be decoded is left to the handler to find out."""
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
            del parts[-1]  # the default exchange: its routing key is the queue
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
    if _is_made_up(queue or routing_key):
        attributes['messaging.destination.anonymous'] = True
    if where[0] is not None:
        attributes['server.address'], attributes['server.port'] = where
    # Never the routing key: there may be one for each order.
    place = ANONYMOUS if _is_made_up(queue) else queue or _text(exchange or DEFAULT_EXCHANGE)
    return f'{operation} {place}', attributes


def _tell_ids(span: trace.Span, properties: Any) -> None:
    for name, key in (('message_id', 'messaging.message.id'), ('correlation_id', 'messaging.message.conversation_id')):
        value = properties.get(name) if properties else None
        if value:
            span.set_attribute(key, _text(value))


def _is_made_up(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(MADE_UP)


def _text(value: Any) -> str:
    """Names are str, but bytes where they are no UTF-8, and whatever the program says where it is wrong."""
    return value if isinstance(value, str) else repr(value)


def fail(span: trace.Span, exc: BaseException) -> None:
    """Also for gevent.Timeout and GreenletExit, which are no Exceptions."""
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    span.set_attribute('error.type', name)
    span.record_exception(exc)
    span.set_status(trace.Status(trace.StatusCode.ERROR, f'{kind.__name__}: {exc}'))
