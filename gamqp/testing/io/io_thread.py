"""The broker's own thread: listens, receives, sends, and runs what is due.

Layer 5. A thread of the operating system with sockets of the operating system, so that any client in any thread or
hub can be served, and a program that is blocked does not block its broker. All state is used under ``lock``; whoever
changes it from another thread calls ``wake`` afterwards. Does not belong here: the protocol.
"""

from __future__ import annotations

import _socket
import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ...green.os_threads import Lock, RLock, original, start_new_thread
from ..state.handshake import Phase
from ..state.server import Node, Server
from ..state.session import Session
from .peer import Peer, TlsPeer
from .poller import READ, WRITE, Poller

__all__ = ('IOThread', 'Listener')

_LINGER = (_socket.SOL_SOCKET, _socket.SO_LINGER)


class Listener:
    """A port of a node. context: TLS, or None."""

    def __init__(self, node: Node, host: str, port: int, context: Any) -> None:
        self.node = node
        self.host = host
        self.context = context
        family = _socket.AF_INET6 if ':' in host else _socket.AF_INET
        self.sock = _socket.socket(family, _socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        try:
            self.sock.bind((host, port))
            self.sock.listen(128)
        except OSError:
            self.sock.close()
            raise
        self.port: int = self.sock.getsockname()[1]
        self.fd = self.sock.fileno()


class IOThread:
    """Serves all nodes of one ``Server``."""

    __slots__ = ('__dict__', '__weakref__', 'lock')  # where eventlet does not replace it, see ``os_threads``

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lock = RLock()
        self._poller: Any = None
        self._peers: dict[int, Peer] = {}
        self._listeners: dict[int, Listener] = {}
        self._inner: Any = None
        self._outer: Any = None
        self._stopping = False
        self._ended = Lock()
        #: The first error of ours, in a connection or of the thread itself.
        self.failure: BaseException | None = None

    def start(self, listen: Callable[[], None]) -> None:
        """Start the thread. listen: opens the ports; what it raises leaves nothing open."""
        self._poller = Poller()
        self._inner, self._outer = _socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._poller.watch(self._inner.fileno(), READ)
        self._stopping = False
        try:
            listen()
        except BaseException:
            self._end()
            self._outer.close()
            raise
        self._ended.acquire()
        start_new_thread(self._run, ())

    def stop(self) -> None:
        """Close everything; returns when the thread has ended."""
        self._stopping = True
        self.wake()
        self._ended.acquire()
        self._ended.release()
        self._outer.close()

    def wake(self) -> None:
        """Have the thread look at what has changed."""
        if self._outer is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyhow; closed: it has ended
                self._outer.send(b'x')

    # Under the lock.

    def listen(self, node: Node, host: str, port: int, context: Any = None) -> Listener:
        """Listen for clients of a node. Raises OSError."""
        listener = Listener(node, host, port, context)
        self._listeners[listener.fd] = listener
        self._poller.watch(listener.fd, READ)
        return listener

    def close_listener(self, listener: Listener) -> None:
        """Take no more clients there; idempotent."""
        if self._listeners.pop(listener.fd, None) is not None:
            self._poller.forget(listener.fd)
            listener.sock.close()

    def drop(self, session: Session) -> None:
        """Close a session's socket at once, after what the kernel takes of its last words."""
        for peer in list(self._peers.values()):
            if peer.session is session:
                if not session.cut:
                    session.stalled = False
                    peer.write()
                self._close(peer)

    # In the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                ready = self._poller.wait(self._patience())
                with self.lock:
                    self._turn(ready)
        except BaseException as exc:
            self.failure = exc
        finally:
            with self.lock:
                self._end()
            self._ended.release()

    def _patience(self) -> float | None:
        with self.lock:
            dues = [due for clock in self._clocks() if (due := clock.next_due()) is not None]
            return min(dues) if dues else None

    def _clocks(self) -> tuple[Any, Any]:
        return self.server.clock, self.server.real_clock

    def _turn(self, ready: list[tuple[int, int]]) -> None:
        for fd, events in ready:
            peer = self._peers.get(fd)
            if peer is not None:
                self._serve(peer, events)
            elif fd in self._listeners:
                self._accept(self._listeners[fd])
            elif fd == self._inner.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._inner.recv(4096)
        for clock in self._clocks():
            clock.run_due()
        self.server.run_later()
        self.flush()

    def _serve(self, peer: Peer, events: int) -> None:
        if peer.session.reads:
            try:
                alive = not events & ~WRITE or peer.read()
            except Exception as exc:  # an error of ours: that connection ends, and stop() raises it
                self.failure = self.failure or exc
                alive = False
        else:
            alive = not events & ~(READ | WRITE)  # an error, or hung up
        if alive:
            self.server.outgoing.add(peer.session)
        else:
            self._close(peer)

    def flush(self) -> None:
        """Send what waits to be sent."""
        outgoing = self.server.outgoing
        while outgoing:
            session = outgoing.pop()
            peer = self._peer_of(session)
            if peer is None:
                continue
            if not peer.write():
                self._close(peer)
            else:
                self._poller.watch(peer.fd, peer.wanted)

    def _peer_of(self, session: Session) -> Peer | None:
        fd = session.fd
        return None if fd is None else self._peers.get(fd)

    def _accept(self, listener: Listener) -> None:
        try:
            fd, address = listener.sock._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        sock = _socket.socket(listener.sock.family, _socket.SOCK_STREAM, fileno=fd)
        sock.setblocking(False)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        name = f'{address[0]}:{address[1]} -> {listener.host}:{listener.port}'
        session = Session(self.server, listener.node, name)
        session.fd = fd
        if listener.context is not None:
            session.tls = True
            peer: Peer = TlsPeer(sock, session, _LINGER, listener.context, _ssl_names())
        else:
            peer = Peer(sock, session, _LINGER)
        self._peers[fd] = peer
        self.server.sessions.append(session)
        self._poller.watch(fd, READ)

    def _close(self, peer: Peer) -> None:
        self._poller.forget(peer.fd)
        self._peers.pop(peer.fd, None)
        peer.close()
        peer.session.fd = None

    def _end(self) -> None:
        for peer in list(self._peers.values()):
            if peer.session.phase is not Phase.ENDED:
                self._close(peer)
        for listener in list(self._listeners.values()):
            self.close_listener(listener)
        self._poller.close()
        self._inner.close()


def _ssl_names() -> Any:
    """The names of the operating system's ssl, whatever was patched."""
    names = ('SSLWantReadError', 'SSLError', 'MemoryBIO')
    return SimpleNamespace(**{name: original('ssl', name) for name in names})
