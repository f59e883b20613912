"""A program that Datadog traces: ``with_ddtrace.py MODE URL``. Prints the spans, a line of JSON each."""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
from typing import Any  # noqa: E402

import ddtrace  # noqa: E402
from ddtrace.trace import TraceFilter, tracer  # noqa: E402

ddtrace.patch(kombu=True, celery=True)

import traced_round_trip  # noqa: E402


class Printer(TraceFilter):
    """Prints what would be sent to Datadog's agent, and sends nothing."""

    def process_trace(self, trace: list[Any]) -> None:
        for span in trace:
            shown = {'name': span.name, 'resource': span.resource, 'trace': span.trace_id, 'error': span.error}
            print(json.dumps({**shown, 'host': span.get_tag('out.host')}))


tracer.configure(trace_processors=[Printer()])
traced_round_trip.by_kombu()
traced_round_trip.by_celery()
tracer.shutdown()
traced_round_trip.leave()
