"""Traces across the broker, and metrics, by OpenTelemetry: ``gamqp.opentelemetry.instrument()``.

Layer 5; needs opentelemetry-api. Spans and metrics are recorded when the program has set up an
SDK. Each publish is a span whose context is sent in the message's headers; the
callback or handler that gets the message runs in a span of the same trace. Each
greenlet has a context of its own (contextvars), so one handler's context is not seen by
others, and the context from before a message is active again after it.
Does not belong here: anything that a program without OpenTelemetry needs, and the names that are recorded
(``telemetry.opentelemetry_names``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator

from .basic_message import Message
from .connection.connection import Connection
from .telemetry.tracing import install

try:
    from opentelemetry import metrics, trace
except ImportError as exc:
    raise ImportError("gamqp.opentelemetry needs opentelemetry-api: pip install 'gamqp[opentelemetry]'") from exc

from .telemetry.opentelemetry_spans import Spans, Wanted, ending

__all__ = ('Instrumentor', 'instrument', 'is_work', 'process', 'uninstrument')


def is_work(operation: str, exchange: str, routing_key: str, queue: str) -> bool:
    """The default filter of ``instrument``: False for messages between Celery's workers.

    These are their events (a heartbeat every two seconds) and remote control, sent also when there
    is nothing to do. operation: 'publish' or 'process'; queue: '' for a publish.
    """
    if exchange == 'celeryev' or exchange.endswith('.pidbox') or routing_key.endswith('.pidbox'):
        return False
    return not queue.startswith('celeryev.') and not queue.endswith('.pidbox')


def instrument(
    connection: Connection | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    wanted: Wanted = is_work,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Trace and measure what this connection, or without one every Connection, publishes and handles from now on.

    tracer_provider, meter_provider: None for the global ones. The context travels by the global
    propagator (``opentelemetry.propagate``). wanted(operation, exchange, routing_key,
    queue): whether this is to be traced and measured, see ``is_work``. Inside
    ``opentelemetry.instrumentation.utils.suppress_instrumentation()`` nothing is, and
    where Celery's instrumentation traces a task there are no further spans for its message.
    ``OTEL_SEMCONV_STABILITY_OPT_IN`` is read here: with ``messaging/dup`` in it spans have
    the older names of attributes, too. Doing it twice is harmless. Does not switch greenlets;
    what begins, ends or measures a span may, if the program's span processors or metrics wait.
    """
    install(Connection if connection is None else connection, Spans(tracer_provider, meter_provider, wanted))


def uninstrument(connection: Connection | None = None) -> None:
    """Undo ``instrument``: for this connection, or for all that were not instrumented by themselves.

    Publishes that have no confirm yet are traced and measured until they have it. Does not switch greenlets.
    """
    install(Connection if connection is None else connection, None)


class Instrumentor:
    """``instrument`` for all connections, as ``opentelemetry-instrument`` calls it, by an entry point."""

    is_instrumented_by_opentelemetry = False

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def instrument(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        **others: object,
    ) -> None:
        """others: of other instrumentations, ignored."""
        instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
        type(self).is_instrumented_by_opentelemetry = True

    def uninstrument(self, **others: object) -> None:
        uninstrument()
        type(self).is_instrumented_by_opentelemetry = False


@contextlib.contextmanager
def process(message: Message, queue: str = '') -> Iterator[trace.Span]:
    """A span around the work on a delivered message, whose context is active inside: ``with process(message):``.

    For loops over ``Channel.consume`` and for basic_get; callbacks and handlers of an
    instrumented connection have one already. queue: the queue of a message of
    basic_get. Where the connection is not instrumented, the global providers get
    span and metrics. Gives the span; one that records nothing where the filter says False. Leave the block
    in the greenlet that has entered it.
    """
    connection = getattr(message.channel, 'connection', None)
    tracing = getattr(connection, '_tracing', None)
    spans = tracing if isinstance(tracing, Spans) else _by_global_providers()
    handling = spans.begin(connection, message, queue)
    if handling is None:
        yield trace.INVALID_SPAN
        return
    with ending(handling) as span:
        yield span


@functools.lru_cache(1)
def _by_global_providers() -> Spans:
    return Spans(None, None, is_work)
