"""A TLS server in front of a plain AMQP one, in a thread of the operating system, that can be told to misbehave.

    with Front(peer.port, certificates.server) as front:
        connection = peer.client(host=front.host, ssl={'ca_certs': certificates.trust})

It decrypts towards `target` and encrypts towards the client, so that any scripted or real broker speaks TLS.
It runs the standard library's TLS over sockets of its own, and goes on while the hub sleeps. Ban: nothing of
gamqp, nothing of greenlets; the process must not be monkey-patched.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from typing import Any

CHUNK = 64 * 1024
# More than this waiting for one side stops reading from the other.
HIGH = 256 * 1024


class Front:
    """Listens on `port` of 127.0.0.1.

    record: bytes of plaintext per TLS record. segment: bytes of ciphertext per send, for the first `fine` bytes.
    tickets: session tickets after a handshake of TLS 1.3. mute: shake no hands and say nothing. buffer: of the
    kernel, where a test wants to fill it. answer_goodbye: with close_notify, for which py-amqp waits.
    """

    def __init__(
        self,
        target: int | None,
        pair: Any,
        *,
        record: int = 16384,
        segment: int = 0,
        fine: int = 20_000,
        tickets: int = 2,
        mute: bool = False,
        buffer: int = 0,
        version: ssl.TLSVersion | None = None,
        trust: str | None = None,
        answer_goodbye: bool = False,
    ) -> None:
        self._target, self._record, self._segment, self._fine, self._mute = target, record, segment, fine, mute
        self._answer_goodbye = answer_goodbye
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certfile, pair.keyfile)
        context.num_tickets = tickets
        context.sni_callback = lambda engine, name, context: self.names.append(name)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if trust is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(trust)
        self.context = context
        self.names: list[str | None] = []  # as SNI tells them
        self.clients: list[Any] = []  # certificates of clients, as getpeercert tells them
        self.versions: list[str | None] = []
        self.errors: list[BaseException] = []
        self.goodbyes = 0  # close_notify of clients
        self.reading = threading.Event()  # from the client
        self.reading.set()
        self.forge = False  # spoil what goes to the client from now on
        self.append = b''  # put this behind all that goes to the client from now on
        self._pace = (CHUNK, 0.0)
        self._listener = socket.create_server(('127.0.0.1', 0))
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.port: int = self._listener.getsockname()[1]
        self.host = f'localhost:{self.port}'
        self._stop = threading.Event()
        self._hang_up = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self.reading.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)

    @property
    def accepted(self) -> int:
        """How many clients have come, served or not."""
        return len(self._threads) - 1

    def hang_up(self) -> None:
        """Close every connection without close_notify."""
        self._hang_up.set()

    def pace(self, size: int, seconds: float) -> None:
        """Read from clients so many bytes at a time, and pause after each."""
        self._pace = (size, seconds)

    # -- threads -------------------------------------------------------------------------------------------

    def _start(self, fn: Any, *args: Any) -> None:
        thread = threading.Thread(target=fn, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.closing(client):
            if self._mute:
                self._stop.wait()
                return
            try:
                _Session(self, client).run()
            except (ssl.SSLError, OSError) as error:
                self.errors.append(error)


class _Session:
    """One client; both sockets without blocking, one thread, one engine on memory buffers."""

    def __init__(self, front: Front, client: socket.socket) -> None:
        self._front, self._client = front, client
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = front.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._server: Any = None
        self._up = bytearray()  # plaintext for the server
        self._down = bytearray()  # ciphertext for the client
        self._sent = 0

    def run(self) -> None:
        self._client.setblocking(False)
        try:
            while not self._front._stop.is_set() and not self._front._hang_up.is_set():
                if not self._turn():
                    return
        finally:
            if self._server is not None:
                self._server.close()

    def _turn(self) -> bool:
        front, client, server = self._front, self._client, self._server
        readers = [client] if front.reading.is_set() and len(self._up) < HIGH else []
        if server is not None and len(self._down) < HIGH:
            readers.append(server)
        writers = [sock for sock, data in ((client, self._down), (server, self._up)) if data]
        readable, writable, _ = select.select(readers, writers, [], 0.01)
        if client in readable and not self._from_client():
            return False
        if server is not None and server in readable and not self._from_server():
            return False
        if client in writable:
            self._to_client()
        if server is not None and server in writable:
            del self._up[: server.send(self._up)]
        return True

    def _from_client(self) -> bool:
        size, pause = self._front._pace
        data = self._client.recv(size)
        time.sleep(pause)
        if not data:
            return False
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._engine.do_handshake()
                self._on_handshake()
            while True:
                plain = self._engine.read(CHUNK)
                if not plain:
                    self._front.goodbyes += 1
                    if self._front._answer_goodbye:
                        self._server.shutdown(socket.SHUT_WR)  # the answer comes with its end
                    break
                self._up += plain
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._collect()
            with contextlib.suppress(OSError):
                self._client.send(self._down)  # the alert
            raise
        self._collect()
        return True

    def _on_handshake(self) -> None:
        self._shaken = True
        self._front.clients.append(self._engine.getpeercert())
        self._front.versions.append(self._engine.version())
        if self._front._target is not None:
            self._server = socket.create_connection(('127.0.0.1', self._front._target))
            self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server.setblocking(False)

    def _from_server(self) -> bool:
        data = self._server.recv(CHUNK)
        for start in range(0, len(data), self._front._record):
            self._engine.write(data[start : start + self._front._record])
        if not data:  # an orderly end, with close_notify
            with contextlib.suppress(ssl.SSLError):
                self._engine.unwrap()
        self._collect()
        if not data:
            self._client.setblocking(True)
            self._client.sendall(self._down)
        return bool(data)

    def _to_client(self) -> None:
        size = self._front._segment if self._sent < self._front._fine else 0
        sent = self._client.send(self._down[: size or len(self._down)])
        if size:
            time.sleep(0)  # the client's turn, between two pieces
        self._sent += sent
        del self._down[:sent]

    def _collect(self) -> None:
        data = self._outgoing.read()
        if self._front.forge:
            data = data[:-1] + bytes([data[-1] ^ 1]) if data else data
        self._down += data + self._front.append if data else b''
