"""The receiving end of a consumer: its inbox, who takes messages out, and where they lie beyond the memory limit.

Layer 3, below ``gamqp.channel``. Here: the iterator of ``Channel.consume``, the worker greenlets of
``Channel.subscribe``, deliveries that overflow to disk. Does not belong here: which methods start and end
a consumer, and deliveries for drain_events, which wait in ``gamqp.connection``.
Public, by ``gamqp``: Deliveries, Consumer.
"""
