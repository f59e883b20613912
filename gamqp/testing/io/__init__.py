"""The sockets and the thread of the broker, see ``io_thread``.

Layer 5. Does not belong here: the protocol. Public: nothing.
"""
