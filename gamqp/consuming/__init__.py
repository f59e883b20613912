"""Where delivered messages wait for the program: the inbox of a consumer, its iterator or workers, overflow on disk.

Layer 3, below ``gamqp.channel``. Here: the iterator of ``Channel.consume``, the worker greenlets of
``Channel.subscribe``, deliveries beyond the memory limits in temporary files. Does not belong here: the methods that
start and end a consumer, and deliveries for drain_events, which wait in ``gamqp.connection``.
Public, by ``gamqp``: Deliveries, Consumer.
"""
