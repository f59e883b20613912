"""The object that a program gets when it asks for a connection's transport: what py-amqp's tells of itself.

Layer 2. Reading and writing are for gamqp's reader and writer alone. Does not belong here: what a program sees of
the socket (``socket_guard``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .socket_guard import SocketGuard
    from .tcp import TCPTransport

__all__ = ('TransportGuard',)


class TransportGuard:
    """What ``Connection.transport`` is. Nothing here switches greenlets."""

    __slots__ = ('_transport',)

    def __init__(self, transport: TCPTransport) -> None:
        self._transport = transport

    def __repr__(self) -> str:
        return repr(self._transport)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransportGuard) and other._transport is self._transport

    def __hash__(self) -> int:
        return hash(self._transport)

    @property
    def connected(self) -> bool:
        """Whether the socket is open here."""
        return self._transport.connected

    @property
    def host(self) -> str:
        """The name or address that it connects to."""
        return self._transport.host

    @property
    def port(self) -> int:
        """The port that it connects to."""
        return self._transport.port

    @property
    def sock(self) -> SocketGuard | None:
        """As ``Connection.sock``; None before there is a socket and when the end has been raised."""
        return self._transport.sock

    @property
    def connect_timeout(self) -> float | None:
        """Seconds that connecting may take; None for no limit."""
        return self._transport.connect_timeout

    @property
    def read_timeout(self) -> float | None:
        """As the connection's."""
        return self._transport.read_timeout

    @property
    def write_timeout(self) -> float | None:
        """As the connection's."""
        return self._transport.write_timeout

    @property
    def raise_on_initial_eintr(self) -> bool:
        """As in py-amqp; may be set, which has no effect."""
        return self._transport.raise_on_initial_eintr

    @raise_on_initial_eintr.setter
    def raise_on_initial_eintr(self, value: bool) -> None:
        self._transport.raise_on_initial_eintr = value

    def close(self) -> None:
        """End the connection without sending connection.close. Raises WrongThread in another thread."""
        self._transport.end_by_program()
