"""Bytes to and from a broker over TCP.

Layer 2, and with ``gamqp.green`` the only place that knows sockets. A transport
never waits inside ``recv_into`` and ``send``: they do what is possible now or
raise BlockingIOError, and waiting is a separate verb. So no timeout is ever set
on the shared socket, and deadlines belong to those who wait. What must not
enter: AMQP.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from . import green

__all__ = ('AMQP_PORT', 'TCPTransport', 'to_host_port')

AMQP_PORT = 5672

# What we set on every socket, unless the user's socket_settings say otherwise.
# TCP_USER_TIMEOUT stays the system's: a broker that pauses reading is not dead,
# the heartbeat decides that.
SOCKET_SETTINGS: dict[int, int] = {socket.TCP_NODELAY: 1}

# Linux prints these names in /proc and everybody knows them; SOL_TCP is their level.
_CONNECTING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)


def to_host_port(host: str, default: int = AMQP_PORT) -> tuple[str, int]:
    """'name', 'name:port', '::1' or '[::1]:port' -> (host, port). Raises ValueError for a bad port."""
    if host.startswith('['):
        name, _, rest = host[1:].partition(']')
        port = rest[1:] if rest.startswith(':') else rest
    elif host.count(':') == 1:
        name, _, port = host.partition(':')
    else:  # no port, or a bare IPv6 address
        name, port = host, ''
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f'{host!r} does not end in a port number between 1 and 65535')
    return name, int(port) if port else default


class TCPTransport:
    """One TCP connection. Made unconnected; after ``close`` it stays closed.

    host: as ``to_host_port`` takes it. socket_settings: TCP-level options by
    number (``{socket.TCP_USER_TIMEOUT: 30000}``), None to leave one alone.
    """

    def __init__(
        self, host: str, socket_settings: Mapping[int, int | None] | None = None, backend: ModuleType | None = None
    ) -> None:
        self.host, self.port = to_host_port(host)
        self.sock: Any = None
        self._settings = {**SOCKET_SETTINGS, **(socket_settings or {})}
        self._green = backend or green.backend()
        self._ready: Any = None

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.host}:{self.port} {"open" if self.sock else "closed"}>'

    # -- opening and closing ------------------------------------------------

    def connect(self, deadline: green.Deadline) -> None:
        """Connect to the first address of the host that answers. Switches greenlets.

        Each address gets an equal share of the time that is left, so that a dead
        one cannot use up the time of the others. Raises the OSError of the last
        attempt (ConnectionRefusedError, TimeoutError, socket.gaierror …).
        """
        addresses = self._resolve(deadline)
        error: OSError = OSError(f'{self.host}: the name has no address')
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            left = deadline.left()
            share = None if left is None else left / (len(addresses) - number)
            try:
                self._connect(family, kind, protocol, address, share)
                return
            except OSError as exc:
                error = exc
        raise error

    def adopt(self, sock: Any) -> None:
        """Use a socket that is connected already."""
        sock.setblocking(False)
        self._ready = self._green.Readiness(sock.fileno())
        self.sock = sock

    def close(self) -> None:
        """Close the socket; who waits for it wakes up. Never raises, does not switch."""
        sock, self.sock = self.sock, None
        if sock is not None:
            self._ready.close()
            sock.close()

    @property
    def connected(self) -> bool:
        return self.sock is not None

    def _resolve(self, deadline: green.Deadline) -> list[Any]:
        try:  # an address needs no resolver
            return socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        except socket.gaierror:
            pass
        slot = green.Slot(self._green)
        self._green.spawn(_resolve_into, slot, self._green, self.host, self.port)
        if not slot.wait(deadline.left()):
            raise TimeoutError(f'{self.host}: no answer from the name service within {deadline.seconds} s')
        addresses: list[Any] = slot.result()
        return addresses

    def _connect(self, family: int, kind: int, protocol: int, address: Any, timeout: float | None) -> None:
        sock = self._green.socket_class()(family, kind, protocol)
        ready = None
        try:
            sock.setblocking(False)
            self._apply_settings(sock)
            code = sock.connect_ex(address)
            if code in _CONNECTING:
                ready = self._green.Readiness(sock.fileno())
                if not ready.wait_writable(timeout):
                    raise TimeoutError(errno.ETIMEDOUT, f'no connection to {address[0]} port {address[1]} in time')
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, f'{os.strerror(code)}: {address[0]} port {address[1]}')
        except BaseException:
            if ready is not None:
                ready.close()
            sock.close()
            raise
        self.sock, self._ready = sock, ready

    def _apply_settings(self, sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in self._settings.items():
            if value is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    # -- bytes ---------------------------------------------------------------

    def recv_into(self, view: memoryview) -> int:
        """Read what is there. Returns how many bytes, 0 at the end of the stream.

        Raises BlockingIOError when there is nothing now, OSError when the socket is broken or closed.
        """
        if self.sock is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        count: int = self.sock.recv_into(view)
        return count

    def send(self, data: Any) -> int:
        """Hand bytes to the kernel. Returns how many it took. Raises as ``recv_into`` does."""
        if self.sock is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        count: int = self.sock.send(data)
        return count

    def farewell(self, data: Any, seconds: float) -> None:
        """Send all of it and wait for the peer to close, blocking the whole process: for the end of the interpreter.

        Reading to the end matters: a socket closed with unread input resets the
        connection, and what the peer has not yet read of ours would be lost.
        """
        self.sock.settimeout(seconds)
        self.sock.sendall(data)
        while self.sock.recv(65536):
            pass

    @property
    def has_input(self) -> bool:
        """Whether bytes, or the end of the stream, wait to be read; without reading them."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except (OSError, AttributeError):
            return True  # broken or closed: a read will tell
        return True

    # -- waiting -------------------------------------------------------------

    def wait_readable(self) -> bool:
        """Wait for input; False when the transport was closed meanwhile. Switches greenlets."""
        return self.sock is not None and bool(self._ready.wait_readable())

    def watch_writable(self, fn: Callable[[], Any]) -> None:
        """Call fn from the hub as long as there is room to send."""
        if self.sock is not None:
            self._ready.watch_writable(fn)

    def unwatch_writable(self) -> None:
        if self.sock is not None:
            self._ready.unwatch_writable()


def _resolve_into(slot: green.Slot, backend: ModuleType, host: str, port: int) -> None:
    try:
        slot.succeed(backend.getaddrinfo(host, port))
    except OSError as exc:
        text, error_type, args = str(exc), type(exc), exc.args
        slot.fail(lambda: error_type(*args[:1], f'{host}: {text}'))
