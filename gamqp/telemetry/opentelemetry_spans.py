"""What is traced and measured by OpenTelemetry, and when the span of a handler begins and ends.

Layer 3. ``gamqp.opentelemetry`` has the public names. Does not belong here: names (``opentelemetry_names``), when a
publish ends (``opentelemetry_publishes``), and anything that gamqp needs without a tracer.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from opentelemetry import context, metrics, trace

from ..about import __version__
from ..basic_message import Body, Message
from ..green.forking import at_fork
from . import opentelemetry_names as names
from .measured_protocols import TracedConnection
from .opentelemetry_metrics import Metrics
from .opentelemetry_names import Place, Places, as_text, message_attributes
from .opentelemetry_propagation import context_of, headers_of, with_context
from .opentelemetry_publishes import OpenPublish, OpenPublishes, fail, mark_returned
from .tracing import Send, Tracing

__all__ = ('Handling', 'Spans', 'Wanted', 'ending')

PRODUCER = trace.SpanKind.PRODUCER  # a name of its own, since a look into an enumeration takes time

# The type of the filter: (operation, exchange, routing key, queue) -> whether to trace and measure it.
Wanted = Callable[[str, str, str, str], Any]


class Spans(Tracing):
    """The Tracing that makes spans of OpenTelemetry, and records its metrics."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        wanted: Wanted,
    ) -> None:
        self._tracer = trace.get_tracer('gamqp', __version__, tracer_provider, names.SCHEMA_URL)
        self.metrics = Metrics(meter_provider)
        self._wanted = wanted
        self._older = names.also_older_names()
        self.places = Places(self._older)
        self._open: weakref.WeakKeyDictionary[TracedConnection, OpenPublishes] = weakref.WeakKeyDictionary()
        _all.add(self)

    # -- publishing ------------------------------------------------------------------------

    def publish(
        self,
        connection: TracedConnection,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: dict[str, Any],
        send: Send,
    ) -> int:
        """The span ends with the confirm; without confirms when the message is queued to be sent."""
        return self._publish(connection, exchange, routing_key, body, properties, send, False)

    def publish_mandatory(
        self,
        connection: TracedConnection,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: dict[str, Any],
        send: Send,
    ) -> int:
        """The same, but without confirms the span is kept open for a while: the broker may return the message."""
        return self._publish(connection, exchange, routing_key, body, properties, send, True)

    def _publish(
        self,
        connection: TracedConnection,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: dict[str, Any],
        send: Send,
        mandatory: bool,
    ) -> int:
        # Looked up once, and given to whoever would look it up again: most programs sample few messages, and then this
        # is a good part of what a publish costs.
        current = context.get_current()
        if _is_suppressed(current) or not self._wanted('publish', exchange, routing_key, ''):
            return send(properties)
        place = self.places.of(connection, exchange, routing_key, None)
        theirs = _is_celerys(headers_of(properties))
        span: trace.Span = trace.INVALID_SPAN
        if not theirs:
            span = self._tracer.start_span(place.name, current, PRODUCER, place.attributes)
        recording, measured = span.is_recording(), self.metrics.wanted
        if not recording and not measured:
            return send(properties if theirs else with_context(properties, span, current))
        if recording:
            size = len(body) if isinstance(body, (bytes, bytearray)) else None
            span.set_attributes(message_attributes(properties, size, 0, self._older))
        group = self._group_of(connection)
        publish = OpenPublish(group, span if recording else None, place if measured else None)
        try:
            group.catch_up()
            tag = send(properties if theirs else with_context(properties, span, current), publish.settle)
        except BaseException as exc:
            publish.raise_out(exc)
            raise
        group.handed_over(publish, tag > 0, mandatory)
        return tag

    def _group_of(self, connection: TracedConnection) -> OpenPublishes:
        group = self._open.get(connection)
        if group is None:
            group = self._open[connection] = OpenPublishes(self.metrics)
            # Again, now that the program has its providers, which end at exit, too: the latest is called first.
            atexit.unregister(_end_all)
            atexit.register(_end_all)
        group.green = connection._green
        return group

    def returned(self, connection: TracedConnection, message: Message) -> None:
        """Mark the span of the publish as failed. If it has ended already, make a child span that says so."""
        exchange, routing_key, properties = _delivery_of(message)
        if not self._wanted('publish', as_text(exchange), as_text(routing_key), ''):
            return
        parent = context_of(headers_of(properties))
        published = trace.get_current_span(parent).get_span_context()
        group = self._open.get(connection)
        if (group is not None and group.come_back(published.span_id, message)) or not published.is_valid:
            return
        place = self.places.of(connection, exchange, routing_key, None, 'return')
        span = self._tracer.start_span(place.name, parent, PRODUCER, place.attributes)
        mark_returned(span, message)
        span.end()

    def end_all(self) -> None:
        """End the spans that are open, at the end of the program."""
        for group in list(self._open.values()):
            group.end_all()

    def forget_all(self) -> None:
        """In a forked child: open spans are the parent's."""
        for group in list(self._open.values()):
            group.forget_all()
        self._open.clear()

    # -- handling --------------------------------------------------------------------------

    def process(self, connection: TracedConnection, message: Message, handler: Callable[[Message], object]) -> None:
        handling = self.begin(connection, message, '')
        if handling is None:
            handler(message)
            return
        try:
            with ending(handling):
                handler(message)
        except BaseException:
            _failed.set((weakref.ref(message), handling.span))
            raise

    def failed(self, connection: Any, message: Any, log: Callable[[], Any]) -> None:
        """The handler's span is the active one again while its failure is logged."""
        about, span = _failed.get()
        if about() is not message:
            log()
            return
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            log()

    def begin(self, connection: TracedConnection | None, message: Message, queue: str) -> Handling | None:
        """Start a consumer's span and make it the active one. Returns None where nothing is traced or measured.

        Nothing switches once the span is active: who is interrupted here has the context from before.
        """
        if _is_suppressed(context.get_current()):
            return None
        exchange, routing_key, properties = _delivery_of(message)
        queue = queue or _queue_of(message)
        if not self._wanted('process', as_text(exchange), as_text(routing_key), queue):
            return None
        place = self.places.of(connection, exchange, routing_key, queue)
        headers = headers_of(properties)
        token = None
        span: trace.Span = trace.INVALID_SPAN
        if not _is_celerys(headers):
            # The parent is taken from an empty context, not the current one: the span that is active where the
            # message is handled did not cause it. That span is linked instead.
            parent = context_of(headers)
            around = trace.get_current_span().get_span_context()
            links = [trace.Link(around)] if around.is_valid else None
            span = self._tracer.start_span(place.name, parent, trace.SpanKind.CONSUMER, place.attributes, links)
            if span.is_recording():
                more = message_attributes(properties, message._size, message.delivery_tag, self._older)
                span.set_attributes(more)
            token = context.attach(trace.set_span_in_context(span, parent))
        return Handling(span, token, self.metrics if self.metrics.wanted else None, place)


class Handling:
    """The work on one message. token: for ``detach``, None where its span is not the active one."""

    __slots__ = ('begun', 'metrics', 'place', 'span', 'token')

    def __init__(self, span: trace.Span, token: Any, metrics: Metrics | None, place: Place) -> None:
        self.span = span
        self.token = token
        self.metrics = metrics
        self.place = place
        self.begun = time.perf_counter()


@contextlib.contextmanager
def ending(handling: Handling) -> Iterator[trace.Span]:
    """The block of a span that ``Spans.begin`` has started: it ends with the block, as failed if the block raises."""
    error = ''
    try:
        if handling.metrics is not None:
            handling.metrics.consumed(handling.place)
        yield handling.span
    except BaseException as exc:
        error = names.error_type(exc)
        fail(handling.span, exc)
        raise
    finally:
        seconds = time.perf_counter() - handling.begun
        if handling.token is not None:
            context.detach(handling.token)
        handling.span.end()
        if handling.metrics is not None:
            around = trace.set_span_in_context(handling.span) if handling.token is not None else None
            handling.metrics.processed(handling.place, seconds, error, around)


#: The message whose handler has failed in this greenlet the last time, and the span of that. Weakly, since it stays
#: here until the next one fails, and a message has its connection.
_failed: ContextVar[tuple[Callable[[], Any], trace.Span]] = ContextVar(
    'gamqp_failed', default=(lambda: None, trace.INVALID_SPAN)
)

#: All instances, whose open spans are ended when the program ends.
_all: weakref.WeakSet[Spans] = weakref.WeakSet()


def _end_all() -> None:
    for spans in list(_all):
        spans.end_all()


def _forget_all() -> None:
    for spans in list(_all):
        spans.forget_all()


at_fork('tracers', in_child=_forget_all)


def _is_suppressed(current: context.Context) -> bool:
    """Whether the caller, in whose context this is called, is inside ``suppress_instrumentation()``."""
    return bool(current) and bool(current.get(_SUPPRESS) or current.get('suppress_instrumentation'))


_SUPPRESS = getattr(context, '_SUPPRESS_INSTRUMENTATION_KEY', 'suppress_instrumentation')


def _is_celerys(headers: dict[str, Any]) -> bool:
    """Whether Celery's instrumentation makes the spans of this message, and sends its context along."""
    if 'task' not in headers:
        return False
    module = sys.modules.get('opentelemetry.instrumentation.celery')
    instrumentor = getattr(module, 'CeleryInstrumentor', None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _queue_of(message: Message) -> str:
    """The queue of the consumer that got the message, '' if that is not known any more."""
    find = getattr(message.channel, '_queue_of', None)
    return '' if find is None else find(message.consumer_tag)


def _delivery_of(message: Message) -> tuple[str, str, dict[str, Any]]:
    """Exchange, routing key and properties. Empty if they cannot be decoded: the handler gets that error."""
    try:
        info = message.delivery_info
        return info.get('exchange', ''), info.get('routing_key', ''), message.properties
    except Exception:
        return '', '', {}
