"""The object that a program gets when it asks for a connection's socket: it can be polled, but not read or written.

Layer 2. Only gamqp's reader and writer may use the socket, which never blocks. Libraries written for py-amqp
set timeouts on the connection's socket, poll it and close it; this object allows that. Does not belong here: the
descriptor that is polled, see ``poll_descriptor``.
"""

from __future__ import annotations

import errno
import functools
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .tcp import TCPTransport

__all__ = ('SocketGuard',)

# Methods of a socket that read, write, connect or detach it.
REFUSED = frozenset(
    {
        *('recv', 'recv_into', 'recvfrom', 'recvfrom_into', 'recvmsg', 'recvmsg_into', 'read', 'makefile'),
        *('send', 'sendall', 'sendto', 'sendmsg', 'sendmsg_afalg', 'sendfile', 'write', 'unwrap'),
        *('bind', 'connect', 'connect_ex', 'listen', 'accept', 'detach', 'dup', 'ioctl', 'share'),
    }
)


class SocketGuard:
    """What ``Connection.sock`` and ``Connection.transport.sock`` are. Nothing here switches greenlets.

    ``fileno()``: the descriptor for an event loop. On Linux it is readable whenever
    ``drain_events(timeout=0)`` has something to do, for example for a message that
    was received during another call. On other systems it is the socket's own; an event
    loop should call ``drain_events(timeout=0)`` until it raises TimeoutError, and
    again from time to time.
    ``family``, ``type``, ``proto``, ``getsockname``, ``getpeername``, ``getsockopt`` and ``setsockopt``
    are those of the socket.
    ``settimeout``, ``setblocking``, ``gettimeout``, ``getblocking`` and ``timeout`` store a number, None at
    first, that has no effect: each call of gamqp has its own timeout.
    ``shutdown`` and ``close`` end the connection: every call that waits raises at once.
    Methods that read, write or detach the socket raise RuntimeError.
    """

    def __init__(self, transport: TCPTransport, family: int, kind: int, protocol: int) -> None:
        self._transport = weakref.ref(transport)
        self._timeout: float | None = None
        self.family = family
        self.type = kind
        self.proto = protocol

    def __repr__(self) -> str:
        return f'<SocketGuard {self.fileno()} of {self._transport()!r}>'

    def fileno(self) -> int:
        """The descriptor to poll; -1 when the connection has ended and drain_events has raised why.

        Raises OSError when the process cannot open more descriptors.
        """
        transport = self._transport()
        return -1 if transport is None else int(transport.poll_fileno())

    # -- passed on to the socket -------------------------------------------------------

    def getsockname(self) -> Any:
        """The socket's."""
        return self._socket().getsockname()

    def getpeername(self) -> Any:
        """The socket's."""
        return self._socket().getpeername()

    def getsockopt(self, *args: Any) -> Any:
        """The socket's."""
        return self._socket().getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        """The socket's."""
        self._socket().setsockopt(*args)

    def _socket(self) -> Any:
        transport = self._transport()
        if transport is None or transport.socket is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        return transport.socket

    # -- a timeout without effect --------------------------------------------------------

    def settimeout(self, value: float | None) -> None:
        """Store this number of seconds. Raises TypeError and ValueError as a socket would."""
        seconds = None if value is None else float(value)
        if seconds is not None and not seconds >= 0:
            raise ValueError('Timeout value out of range')
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    timeout = property(gettimeout)

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0

    # -- the end -----------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """End the connection, whatever *how* is. Raises OSError if it has ended, WrongThread in another thread."""
        self._socket()
        self.close()

    def close(self) -> None:
        """End the connection without sending connection.close. Raises WrongThread in another thread."""
        transport = self._transport()
        if transport is not None:
            transport.end_by_program()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Only here, so that a completion does not offer what is refused.
            if name in REFUSED:
                return functools.partial(_refuse, name)
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}', name=name, obj=self)


def _refuse(name: str, *args: Any, **arguments: Any) -> NoReturn:
    raise RuntimeError(
        f'sock.{name}(): the socket of an AMQP connection is read and written by gamqp alone; '
        'poll it, and call Connection.drain_events(timeout=0) when it is readable'
    )
