"""A connection to a broker, which any number of greenlets may use at the same time.

Layer 4. Here: what arrives and who gets it, what waits for drain_events, when a publish has to wait, the
opening conversation and the graceful end. Does not belong here: what concerns one channel
(``gamqp.channel``), sockets and the greenlets that serve one (``gamqp.io``).
Public: Connection, connect, SSLError.
"""

from __future__ import annotations

from ..transport import SSLError
from .by_uri import connect
from .connection import Connection

# SSLError: a name that programs take from here, as from py-amqp.
__all__ = ('Connection', 'SSLError', 'connect')
