"""Layer 2: the two owners of a connection's socket, and its heartbeat.

``link.Link`` binds them together for the lifetime of one socket; ``reader`` is
the only receive, ``writer`` the only send, ``heartbeat`` watches both.
"""
