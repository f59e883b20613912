"""What a program can learn of its connections while they work: numbers, and an interface for tracers.

Layer 3, below ``gamqp.channel``. Here: ``Connection.stats()``, the metrics hook, the fields of log records, and the
spans and metrics of OpenTelemetry. Does not belong here: the counting itself, and the two modules that users import
(``gamqp.prometheus``, ``gamqp.opentelemetry``). Public: ``stats.collect``, ``tracing.install`` and
``tracing.Tracing``.
"""
