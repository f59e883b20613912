"""A program with OpenTelemetry's Celery instrumentation beside gamqp's: ``with_opentelemetry.py MODE URL``.

Prints the spans, a line of JSON each.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402

import traced_round_trip  # noqa: E402  # calls install_as_amqp(), before the instrumentation imports celery

# isort: split

from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

from gamqp import opentelemetry  # noqa: E402

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
CeleryInstrumentor().instrument(tracer_provider=provider)
opentelemetry.instrument(tracer_provider=provider)
traced_round_trip.by_kombu()
traced_round_trip.by_celery()
for span in exporter.get_finished_spans():
    parent = span.parent.span_id if span.parent else None
    print(json.dumps({'name': span.name, 'trace': span.context.trace_id, 'id': span.context.span_id, 'parent': parent}))
traced_round_trip.leave()
