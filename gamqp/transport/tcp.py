"""A TCP connection to the first address of a host that answers.

Layer 2. The methods are those of every transport, see ``gamqp.transport``. Does not belong here: TLS, AMQP.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from .. import green
from ..green.forking import at_fork
from ..green.os_threads import RLock
from ..state.connect_failures import ConnectFailures
from ..state.durations import in_seconds
from ..state.host_and_port import AMQP_PORT, AMQPS_PORT, to_host_port
from ..state.host_order import families_of, interleaved
from .poll_descriptor import AVAILABLE, PollDescriptor
from .socket_guard import SocketGuard

if TYPE_CHECKING:

    class TransportLink(Protocol):
        """What a transport needs of the Link that uses it. None of these may switch greenlets."""

        def on_descriptor(self, descriptor: PollDescriptor) -> None: ...

        def end_by_program(self) -> None: ...


__all__ = ('AMQPS_PORT', 'AMQP_PORT', 'TCPTransport', 'to_host_port')

# TCP options of every socket, unless the user's socket_settings say otherwise.
# TCP_USER_TIMEOUT stays as the system has it: a broker that does not read for a while is not
# dead. The heartbeat decides when it is.
SOCKET_SETTINGS: dict[int, int] = {socket.TCP_NODELAY: 1}

# What connect_ex of a non-blocking socket returns while it is connecting.
_CONNECTING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)


class TCPTransport:
    """One TCP connection. Made unconnected; after ``close`` it stays closed.

    host: as ``to_host_port`` takes it. connect_timeout: total seconds for
    ``connect()``, None for no limit. socket_settings: TCP-level options by number
    (``{socket.TCP_USER_TIMEOUT: 30000}``), None to leave one alone. shuffle: whether the
    addresses of a name are tried in a random order. backend: of ``gamqp.green``. The others
    are py-amqp's and have no effect, because no timeout is ever set on the socket.

    guard: a lock. The hub's thread holds it while it sends or closes. The sending thread
    holds it while it calls ``send_without_hub`` and ``unsent``; it calls nothing else. When
    a socket is closed another thread may get its descriptor a moment later, so
    nobody may be sending at that time. The lock is reentrant, because a signal handler or
    the garbage collector may close a transport while this thread holds it. Receiving
    needs no lock: the two directions of a socket are independent.
    """

    __slots__ = ('__dict__', '__weakref__', 'guard')  # where eventlet does not replace it, see ``os_threads``

    default_port = AMQP_PORT
    encrypts = False

    def __init__(
        self,
        host: str,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: Mapping[int, int | None] | None = None,
        raise_on_initial_eintr: bool = True,
        backend: ModuleType | None = None,
        shuffle: bool = False,
        **ignored: Any,
    ) -> None:
        self.host, self.port = to_host_port(host, self.default_port)
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout
        self.raise_on_initial_eintr = raise_on_initial_eintr
        self.shuffle = shuffle
        self.untried: list[Any] = []  # addresses of the host that ``connect`` has not come to
        self.failed = 0  # how many it could not be connected to
        self.peer = ''  # the latest that it has come to
        self.socket: Any = None
        self.descriptor: PollDescriptor | None = None  # made when the program calls ``sock.fileno()``
        self._sock_guard: SocketGuard | None = None
        self._kind: tuple[int, int, int] | None = None  # family, type and protocol, once there was a socket
        self._retired = self._disowned = False
        self._link: Callable[[], TransportLink | None] = _no_link  # a weak reference, see ``serve``
        self.guard: Any = RLock()
        self._settings = {**SOCKET_SETTINGS, **(socket_settings or {})}
        self._green = backend or green.backend()
        self._ready: Any = None
        self._connecting: Any = None  # while connecting: a socket and its Readiness
        _all.add(self)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.host}:{self.port} {"open" if self.socket else "closed"}>'

    # -- opening and closing ------------------------------------------------

    def connect(self, deadline: green.Deadline | None = None, untried: list[Any] | None = None) -> None:
        """Connect to the first address of the host that answers. Switches greenlets.

        deadline: None for one of connect_timeout. untried: addresses that are left of an earlier transport;
        None to ask the name service, which is done each time. Its answer is tried in its own order, or
        shuffled, the families in turn. Each address gets an equal share of the time that is left, so that a dead
        one cannot use up the time of the others. Raises the OSError of the only attempt, or one that
        names all that have failed (ConnectionRefusedError, TimeoutError, socket.gaierror …).
        """
        deadline = deadline or green.Deadline(self.connect_timeout)
        self.untried = self._resolve(deadline) if untried is None else list(untried)
        if not self.untried:
            raise OSError(f'{self.host}: the name has no address')
        failures = ConnectFailures()
        while self.untried:
            share = _share(deadline, len(self.untried))
            family, kind, protocol, _, address = self.untried.pop(0)
            self.peer = f'{address[0]} port {address[1]}'
            try:
                self._connect(family, kind, protocol, address, share)
                return
            except OSError as exc:
                if self._disowned:
                    raise  # the parent goes on, and this is a child
                self.failed += 1
                failures.add(self.peer, exc)
        raise failures.take_error()

    def adopt(self, sock: Any) -> None:
        """Use a socket that is connected already."""
        sock.setblocking(False)
        self._ready = self._green.Readiness(sock.fileno())
        self.socket = sock
        self._kind = (sock.family, sock.type, sock.proto)

    def close(self) -> None:
        """Close the socket and wake the greenlets that wait for it. Never raises, does not switch."""
        with self.guard:
            sock, self.socket = self.socket, None
            if sock is not None:
                if self.descriptor is not None:
                    self.descriptor.unwatch()
                self._ready.close()
                sock.close()

    def disown(self) -> None:
        """In a forked child: close its copy of the parent's socket, without sending anything. Does not switch."""
        self._disowned = True
        self.guard = RLock()  # the old one may be held by a thread that the child does not have
        if self.descriptor is not None:
            # Before ``unwatch`` could take the socket out of the epoll set, which is shared with the parent.
            self.descriptor.close()
        sockets: list[tuple[Any, Any]] = [(self.socket, self._ready), self._connecting or (None, None)]
        for sock, ready in sockets:
            if sock is not None:
                # The socket first: an epoll set of the hub may be shared with the parent. Once the child's
                # descriptor is closed, ``ready.close()`` cannot take the parent's socket out of that set.
                sock.close()
                ready.close()
        self.socket = None

    @property
    def connected(self) -> bool:
        return self.socket is not None

    # -- what a program sees of the socket --------------------------------------------

    @property
    def sock(self) -> SocketGuard | None:
        """The object that the program may use, always the same; None before ``connect`` and after ``retire``."""
        if self._kind is None or self._retired or (self.socket is None and self._link is _no_link):
            return None
        if self._sock_guard is None:
            self._sock_guard = SocketGuard(self, *self._kind)
        return self._sock_guard

    def serve(self, link: TransportLink) -> None:
        """This Link, held weakly, uses the transport, and hears of what the program does with ``sock``."""
        self._link = weakref.ref(link)

    def poll_fileno(self) -> int:
        """What ``sock.fileno()`` returns. Raises OSError when the process cannot open more descriptors."""
        if self.descriptor is None:
            link = self._link()
            if not AVAILABLE or link is None or self._retired:
                return -1 if self.socket is None else int(self.socket.fileno())
            self.descriptor = PollDescriptor()
            link.on_descriptor(self.descriptor)
        return self.descriptor.fileno()

    def watch_input(self, on: bool) -> None:
        """Whether input makes the poll descriptor readable: not while the reader pauses."""
        if self.descriptor is not None:
            if on and self.socket is not None:
                self.descriptor.watch(self.socket.fileno())
            else:
                self.descriptor.unwatch()

    def end_by_program(self) -> None:
        """What ``sock.close()`` does. Raises WrongThread; does not switch."""
        link = self._link()
        if link is None:
            self.close()
        else:
            link.end_by_program()

    def retire(self) -> None:
        """The program has got the error of the end: drop ``sock`` and its descriptor. Does not switch."""
        self._sock_guard = None
        self._retired = True
        if self.descriptor is not None:
            self.descriptor.close()

    # -- resolving and connecting -------------------------------------------------------

    def _resolve(self, deadline: green.Deadline) -> list[Any]:
        try:  # an address needs no resolver
            return socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        except socket.gaierror:
            pass
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, f'{self.host}: no host can have this name: {exc}') from exc
        slot = green.Slot(self._green)
        self._green.spawn(_resolve_into, slot, self._green, self.host, self.port)
        if not slot.wait(deadline.left()):
            raise TimeoutError(f'{self.host}: no answer from the name service within {in_seconds(deadline.seconds)}')
        # The family that the name service puts first stays the first: it knows which one has a route.
        families = families_of(slot.result())
        if self.shuffle:
            # Each by itself. The answer's own order is the same for many clients, however many nodes a name has.
            for family in families:
                random.shuffle(family)
        return interleaved(families)

    def _connect(self, family: int, kind: int, protocol: int, address: Any, deadline: green.Deadline) -> None:
        sock = self._green.socket_class()(family, kind, protocol)
        ready = None
        try:
            sock.setblocking(False)
            self._apply_settings(sock)
            code = sock.connect_ex(address)
            if code in _CONNECTING:
                ready = self._green.Readiness(sock.fileno())
                self._connecting = sock, ready
                if not ready.wait_writable(deadline.left()):
                    raise TimeoutError(errno.ETIMEDOUT, f'no connection to {address[0]} port {address[1]} in time')
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, f'{os.strerror(code)}: {address[0]} port {address[1]}')
        except BaseException:
            if ready is not None:
                ready.close()
            sock.close()
            raise
        finally:
            self._connecting = None
        self.socket, self._ready = sock, ready
        self._kind = (family, kind, protocol)

    def _apply_settings(self, sock: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in self._settings.items():
            if value is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    # -- bytes ---------------------------------------------------------------

    def recv_into(self, view: memoryview) -> int:
        """Receive what has arrived. Returns how many bytes, 0 at the end of the stream.

        Raises BlockingIOError when there is nothing now, OSError when the socket is broken or closed.
        """
        if self.socket is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        count: int = self.socket.recv_into(view)
        return count

    def send(self, data: Any) -> int:
        """Send as much as the kernel takes. Returns how many bytes it took. Raises as ``recv_into`` does."""
        if self.socket is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        count: int = self.socket.send(data)
        return count

    send_without_hub = send  # for another thread; does not touch the hub

    @property
    def unsent(self) -> bool:
        """Whether bytes that ``send`` took have not been given to the kernel yet."""
        return False

    @property
    def has_input(self) -> bool:
        """Whether bytes, or the end of the stream, can be received. Receives nothing."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except (OSError, AttributeError):
            return True  # broken or closed: recv_into raises the error
        return True

    @property
    def is_sound(self) -> bool:
        """Whether the socket is open at both ends, as far as that is known here without sending."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except (OSError, AttributeError):
            return False

    # -- waiting -------------------------------------------------------------

    def wait_readable(self, wake: green.Slot | None = None) -> bool:
        """Wait for input. Returns False when the transport was closed meanwhile. Switches greenlets.

        wake: a settled slot, whose greenlet runs first.
        """
        if self.socket is None:
            if wake is not None:
                self._green.run_soon(wake.wake)
            return False
        return bool(self._ready.wait_readable(None, wake))

    def watch_writable(self, fn: Callable[[], Any]) -> None:
        """Have the hub call *fn* whenever the kernel has room, until ``unwatch_writable``. Does not switch."""
        if self.socket is not None:
            self._ready.watch_writable(fn)

    def unwatch_writable(self) -> None:
        """Call nothing any more. Does not switch."""
        if self.socket is not None:
            self._ready.unwatch_writable()


_all: weakref.WeakSet[TCPTransport] = weakref.WeakSet()


def _disown_all_after_fork() -> None:
    for transport in list(_all):
        transport.disown()


at_fork('transports', in_child=_disown_all_after_fork)


def _no_link() -> None:
    """The reference to the link of a transport that has none."""


def _share(deadline: green.Deadline, count: int) -> green.Deadline:
    """The deadline of the next one of *count* attempts: an equal share of the time that is left."""
    left = deadline.left()
    return deadline if left is None or count == 1 else green.Deadline(left / count)


def _resolve_into(slot: green.Slot, backend: ModuleType, host: str, port: int) -> None:
    try:
        slot.succeed(backend.getaddrinfo(host, port))
    except OSError as exc:
        text, error_type, args = str(exc), type(exc), exc.args
        slot.fail(lambda: error_type(*args[:1], f'{host}: {text}'))
    except Exception as exc:
        text = f'{type(exc).__name__}: {exc}'
        slot.fail(lambda: OSError(f'{host}: the name service failed: {text}'))
