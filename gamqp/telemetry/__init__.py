"""What a program can learn of its connections while they work: counters, and a seam for tracers.

Layer 3, below ``gamqp.channel``. Here: ``Connection.stats()``, the metrics hook, and what an OpenTelemetry span
is called and holds. Does not belong here: what is counted where, and the two integrations that users import
(``gamqp.prometheus``, ``gamqp.opentelemetry``). Public: ``stats.collect``, ``tracing.install`` and
``tracing.Tracing``.
"""
