"""Ends while a traced publish has no confirm yet: ``traced_leaving.py LIBRARY URL``. Prints what its span does."""

from __future__ import annotations

import os
import sys
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import gamqp
from gamqp import green, opentelemetry


class Printer(SpanProcessor):
    def on_end(self, span: Any) -> None:
        print('ended', os.getpid() == PARENT)

    def shutdown(self) -> None:
        print('shut down')


PARENT = os.getpid()
green.use(sys.argv[1])
opentelemetry.instrument()  # by the global provider, which is set afterwards
provider = TracerProvider()
provider.add_span_processor(Printer())
opentelemetry.trace.set_tracer_provider(provider)
channel = gamqp.connect(sys.argv[2]).channel()
channel.publish(b'x', routing_key='nowhere')
if not os.fork():
    sys.exit()
os.wait()
