"""Layer 1: what a client must remember of a conversation, without the conversation itself.

No module here knows a socket, a clock, a log, a thread or a greenlet; time comes
in as an argument and waiters come in as objects with ``succeed`` and ``fail``.
No call into this package can switch greenlets, so each is atomic for everybody
else. That property is worth more than speed.
"""
