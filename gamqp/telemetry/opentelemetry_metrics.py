"""The metrics of OpenTelemetry: how long publishes and handlers take, and how many messages are sent and handled.

Layer 3. Does not belong here: names (``opentelemetry_names``), and the numbers of ``Connection.stats()``.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics

from ..about import __version__
from . import opentelemetry_names as names
from .opentelemetry_names import Place

__all__ = ('Metrics',)


class Metrics:
    """The instruments. They must not be used by the reader: what a metrics SDK does with a value may wait.

    meter_provider: None for the global one, also if that is set later.
    """

    def __init__(self, meter_provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter('gamqp', __version__, meter_provider, names.SCHEMA_URL)
        self._operation = _histogram(meter, names.OPERATION_DURATION)
        self._process = _histogram(meter, names.PROCESS_DURATION)
        self._sent = meter.create_counter(names.SENT_MESSAGES, *names.METRICS[names.SENT_MESSAGES])
        self._consumed = meter.create_counter(names.CONSUMED_MESSAGES, *names.METRICS[names.CONSUMED_MESSAGES])
        self._never = isinstance(self._sent, metrics.NoOpCounter)

    @property
    def wanted(self) -> bool:
        """Whether there is a meter provider that takes values."""
        # What the API gives while the global provider is not set drops its values, and has this attribute.
        return not self._never and getattr(self._sent, '_real_instrument', self) is not None

    def published(self, place: Place, seconds: float, error: str, context: Any) -> None:
        """A publish has its outcome. error: '' if it succeeded. context: of its span, for exemplars."""
        timed, counted = place.timed, place.counted
        if error:
            timed, counted = {**timed, names.ERROR_TYPE: error}, {**counted, names.ERROR_TYPE: error}
        self._operation.record(seconds, timed, context)
        self._sent.add(1, counted, context)

    def not_sent(self, place: Place, seconds: float, error: str, context: Any) -> None:
        """A publish has raised before anything was sent."""
        self._operation.record(seconds, {**place.timed, names.ERROR_TYPE: error}, context)

    def consumed(self, place: Place) -> None:
        """A message is being given to the program."""
        self._consumed.add(1, place.counted)

    def processed(self, place: Place, seconds: float, error: str, context: Any) -> None:
        """A handler has ended. error: '' if it succeeded."""
        timed = {**place.timed, names.ERROR_TYPE: error} if error else place.timed
        self._process.record(seconds, timed, context)


def _histogram(meter: metrics.Meter, name: str) -> metrics.Histogram:
    unit, description = names.METRICS[name]
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=names.BUCKETS)
