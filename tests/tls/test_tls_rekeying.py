"""Sessions that change their keys under way, as OpenSSL's own server can be told to: the transport alone."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from typing import Any

import greenlets
import pytest
from certificates import Certificates

from gamqp.io.writer import Writer
from gamqp.state.heartbeat import HeartbeatClock
from gamqp.transport import SSLTransport

pytestmark = pytest.mark.skipif(not shutil.which('openssl'), reason='no openssl command here')


class Server:
    """``openssl s_server``: what it decrypts comes out, what is put in goes to the client, some letters are orders."""

    def __init__(self, certificates: Certificates, version: str) -> None:
        with socket.create_server(('127.0.0.1', 0)) as probe:
            self.port = probe.getsockname()[1]
        pair = certificates.server
        command = [
            'openssl',
            's_server',
            '-accept',
            f'127.0.0.1:{self.port}',
            '-cert',
            pair.certfile,
            '-key',
            pair.keyfile,
        ]
        self._process = subprocess.Popen(
            [*command, version, '-naccept', '1'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self.said = bytearray()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(65536):
            self.said += data

    def put(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(60)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


HELLO_REQUEST, FINISHED, KEY_UPDATE = 0, 20, 24


class Session:
    """A server, a transport connected to it, the writer on that, and a reader that notes what comes."""

    def __init__(self, certificates: Certificates, version: str) -> None:
        self.server = Server(certificates, version)
        self.notes: list[tuple[str, int]] = []  # handshake messages after the handshake, as OpenSSL tells them
        self.got = bytearray()
        self.lost: list[BaseException] = []
        self.after_read: Any = lambda: None
        context = ssl.create_default_context(cafile=certificates.trust)
        context._msg_callback = self._note  # type: ignore[attr-defined]
        self.transport: Any = SSLTransport(f'localhost:{self.server.port}', 5, context)
        self.writer = Writer(greenlets.backend, self.transport, HeartbeatClock(0, 0), self.lost.append)

    def _note(self, engine: Any, direction: str, version: Any, content: Any, kind: Any, data: bytes) -> None:
        if content == 22:  # a handshake message
            self.notes.append((direction, int(kind)))

    def __enter__(self) -> Session:
        try:
            greenlets.wait_until(lambda: b'ACCEPT' in self.server.said)
            self.transport.connect()
        except BaseException:
            self.server.close()
            raise
        self.notes.clear()
        self._reading = greenlets.spawn(self._read)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.writer.close()
        self.transport.close()
        self.server.close()
        self._reading.get()
        assert not self.lost, self.lost

    def _read(self) -> None:
        view = memoryview(bytearray(1000))  # less than what comes at once
        while self.transport.wait_readable():
            with contextlib.suppress(BlockingIOError):
                self.got += view[: self.transport.recv_into(view)]
            self.after_read()

    def exchange(self, number: int) -> None:
        """A line each way."""
        ours, theirs = b'ours %d\n' % number, b'theirs %d\n' % number
        self.writer.send(ours)
        greenlets.wait_until(lambda: ours in self.server.said)
        self.server.put(theirs)
        greenlets.wait_until(lambda: theirs in self.got)


@pytest.mark.parametrize('order', [b'k\n', b'K\n'], ids=['of the server', 'of both sides'])
def test_a_key_update_of_tls_1_3(certificates: Certificates, order: bytes) -> None:
    with Session(certificates, '-tls1_3') as session:
        for number in range(5):
            session.exchange(number)
            session.server.put(order)
            greenlets.wait_until(lambda number=number: session.notes.count(('read', KEY_UPDATE)) > number)
        session.exchange(5)
        assert session.notes.count(('write', KEY_UPDATE)) == (5 if order == b'K\n' else 0)


def test_a_small_buffer_gets_all_that_came_at_once(certificates: Certificates) -> None:
    """What is decrypted, or received and not yet decrypted, makes no socket readable."""
    with Session(certificates, '-tls1_3') as session:
        session.exchange(0)
        text = b'y' * 12_000 + b'\n'
        session.server.put(text)
        greenlets.wait_until(lambda: session.got.endswith(text))


def test_a_renegotiation_of_tls_1_2_while_we_are_idle(certificates: Certificates) -> None:
    """What reading makes the engine say goes out, although nobody writes."""
    with Session(certificates, '-tls1_2') as session:
        for number in range(3):
            session.notes.clear()
            session.server.put(b'r\n')
            greenlets.wait_until(lambda: ('read', FINISHED) in session.notes)
            session.exchange(number)


def test_a_renegotiation_of_tls_1_2_while_we_send(certificates: Certificates) -> None:
    """The engine cannot write until it has read; what we send meanwhile waits, without a busy loop, and arrives."""
    with Session(certificates, '-tls1_2') as session:
        block = b'x' * 65535 + b'\n'
        pushes = Counting(session.transport)

        def send_at_once() -> None:
            """As soon as the server has asked, when its answer cannot be here yet."""
            if ('read', HELLO_REQUEST) in session.notes and session.server.said.count(block) == blocks:
                session.after_read = lambda: None
                session.server.signal(signal.SIGSTOP)
                session.writer.send(block)
                stuck.append(session.writer.queued)
                greenlets.backend.call_later(0.05, lambda: session.server.signal(signal.SIGCONT))

        for blocks in range(5):
            stuck: list[int] = []
            session.exchange(blocks)
            session.notes.clear()
            session.after_read = send_at_once
            pushes.count = 0
            session.server.put(b'r\n')
            greenlets.wait_until(lambda blocks=blocks: session.server.said.count(block) == blocks + 1)
            assert stuck == [len(block)]
            assert pushes.count < 5
        session.exchange(5)


class Counting:
    """How often the writer tried."""

    def __init__(self, transport: Any) -> None:
        self.count = 0
        self._send = transport.send
        transport.send = self

    def __call__(self, data: Any) -> int:
        self.count += 1
        count: int = self._send(data)
        return count
