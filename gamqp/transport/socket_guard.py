"""What a program gets that asks for a connection's socket: something to poll and to look at, not to read or write.

Layer 2. The socket has one reader and one writer, and is never blocking; libraries that know py-amqp set
timeouts on its socket, poll it and close it. Does not belong here: the poll descriptor, see ``poll_descriptor``.
"""

from __future__ import annotations

import errno
import weakref
from typing import Any

__all__ = ('SocketGuard',)


class SocketGuard:
    """``Connection.sock`` and ``Connection.transport.sock``, one for each connected socket. Nothing switches greenlets.

    ``fileno()``: the descriptor for an event loop. On Linux it is readable whenever
    ``drain_events(timeout=0)`` has something to do, which may be a message that was
    received during another call; elsewhere it is the socket's own, and such a
    loop should call ``drain_events(timeout=0)`` until it raises TimeoutError, and
    again from time to time.
    ``family``, ``type``, ``proto``, ``getsockname``, ``getpeername``, ``getsockopt`` and ``setsockopt``
    are the socket's.
    ``settimeout``, ``setblocking``, ``gettimeout``, ``getblocking`` and ``timeout`` keep a number
    of their own, None at first, that limits nothing: the deadlines of gamqp are those of its calls.
    ``shutdown`` and ``close`` end the connection: every call that waits raises at once.
    All that would read, write, or take the socket away raises RuntimeError.
    """

    def __init__(self, transport: Any, family: int, kind: int, protocol: int) -> None:
        self._transport = weakref.ref(transport)
        self._timeout: float | None = None
        self.family = family
        self.type = kind
        self.proto = protocol

    def __repr__(self) -> str:
        return f'<SocketGuard {self.fileno()} of {self._transport()!r}>'

    def fileno(self) -> int:
        """The descriptor to poll; -1 when the connection has ended and drain_events has raised why. Raises OSError."""
        transport = self._transport()
        return -1 if transport is None else int(transport.poll_fileno())

    # -- what is the socket's ----------------------------------------------------------

    def getsockname(self) -> Any:
        return self._socket().getsockname()

    def getpeername(self) -> Any:
        return self._socket().getpeername()

    def getsockopt(self, *args: Any) -> Any:
        return self._socket().getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        self._socket().setsockopt(*args)

    def _socket(self) -> Any:
        transport = self._transport()
        if transport is None or transport.socket is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        return transport.socket

    # -- a number of its own -------------------------------------------------------------

    def settimeout(self, value: float | None) -> None:
        """Keep this number, of seconds. Raises as a socket would: TypeError, ValueError for a negative one."""
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
        """End the connection, whatever *how* is. Raises OSError when it has ended, WrongThread in another thread."""
        self._socket()
        self.close()

    def close(self) -> None:
        """End the connection without a word to the broker. Raises WrongThread in another thread."""
        transport = self._transport()
        if transport is not None:
            transport.end_by_program()


def _refusing(name: str) -> Any:
    def refuse(self: SocketGuard, *args: Any, **arguments: Any) -> Any:
        raise RuntimeError(
            f'sock.{name}(): the socket of an AMQP connection is read and written by gamqp alone; '
            'poll it, and call Connection.drain_events(timeout=0) when it is readable'
        )

    refuse.__name__ = name
    refuse.__qualname__ = f'SocketGuard.{name}'
    return refuse


for _name in (
    *('recv', 'recv_into', 'recvfrom', 'recvfrom_into', 'recvmsg', 'recvmsg_into', 'read', 'makefile'),
    *('send', 'sendall', 'sendto', 'sendmsg', 'sendmsg_afalg', 'sendfile', 'write', 'unwrap'),
    *('bind', 'connect', 'connect_ex', 'listen', 'accept', 'detach', 'dup', 'ioctl', 'share'),
):
    setattr(SocketGuard, _name, _refusing(_name))
