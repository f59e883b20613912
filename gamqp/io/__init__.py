"""What receives and sends on a connection's socket, and its heartbeats.

Layer 2, above ``gamqp.transport``. Here: ``link``, which owns one socket for its lifetime; ``reader``, the only code
that receives; ``writer``, the only code that sends; heartbeats; the thread that sends while a hub is
blocked; what happens to open sockets when the process ends. Does not belong here: what methods and
messages mean. Public: nothing.
"""
