"""Sockets: ``tcp`` connects and moves bytes, ``tls`` does the same with encryption.

Layer 2, above ``gamqp.green``; only these two packages know sockets. ``recv_into`` and ``send`` of a transport never
wait: they do what is possible now or raise BlockingIOError, and other methods wait. So no timeout is ever
set on the shared socket; each waiting call has its own deadline. Does not belong here: AMQP.
Public: Transport, TCPTransport, SSLTransport.
"""

from __future__ import annotations

from typing import Any

from .poll_descriptor import PollDescriptor
from .tcp import AMQP_PORT, AMQPS_PORT, TCPTransport, to_host_port
from .tls import SSLError, SSLTransport
from .tls_context import TLSOptions, check_ssl_options

__all__ = (
    'AMQPS_PORT',
    'AMQP_PORT',
    'PollDescriptor',
    'SSLError',
    'SSLTransport',
    'TCPTransport',
    'TLSOptions',
    'Transport',
    'check_ssl_options',
    'to_host_port',
)


def Transport(host: str, connect_timeout: float | None = None, ssl: Any = False, **arguments: Any) -> TCPTransport:
    """A transport for *host*, not yet connected: with TLS unless *ssl* is None or False, see ``tls_context``.

    Does not switch greenlets. Raises TypeError or ValueError for an *ssl* that cannot be understood.
    """
    if ssl is not None and ssl is not False:
        return SSLTransport(host, connect_timeout, ssl, **arguments)
    return TCPTransport(host, connect_timeout, **arguments)
