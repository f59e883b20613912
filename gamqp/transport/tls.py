"""TLS over a TCP transport, without ever waiting inside OpenSSL.

Layer 2. The TLS session works on two memory buffers (``ssl.MemoryBIO``) instead of the socket. So
encrypting and decrypting are computation only, which cannot switch greenlets: reader and writer use one
session without disturbing each other, and it does not matter whether gevent.ssl, eventlet.green.ssl or
neither is patched in. Does not belong here: AMQP.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable
from ssl import MemoryBIO, SSLError
from typing import Any

from .. import green
from ..state.durations import in_seconds
from .tcp import AMQPS_PORT, TCPTransport
from .tls_context import check_ssl_options, make_context, may_have_certificate
from .tls_errors import explain, explain_loss
from .tls_handshake_queue import queue_of_this_thread

__all__ = ('SSLError', 'SSLTransport')

# Bytes of the buffer for received ciphertext: several TLS records per system call, once so much arrives.
RECEIVE = 128 * 1024
RECEIVE_FIRST = 16 * 1024

# So many bytes that the server sends during the handshake are kept until its end, to explain a failure.
FLIGHT = 32 * 1024

# Bytes of plaintext that are encrypted at once: four full records, about as much as one system call sends.
CHUNK = 64 * 1024


class SSLTransport(TCPTransport):
    """One TLS connection, with the methods of TCPTransport.

    One session object serves both directions, and the sending thread uses it too. So every use of it, reading its
    state included, holds the guard.

    ssl: as for ``make_context``; None means True. The other arguments are TCPTransport's.
    """

    default_port = AMQPS_PORT
    encrypts = True

    def __init__(self, host: str, connect_timeout: float | None = None, ssl: Any = None, **arguments: Any) -> None:
        super().__init__(host, connect_timeout, **arguments)
        self.sslopts = True if ssl is None else ssl
        check_ssl_options(self.sslopts)
        self._context: Any = None
        self._name: str | None = None  # the name that the certificate must have
        self._tls: Any = None
        self._incoming = MemoryBIO()
        self._outgoing = MemoryBIO()
        self._ciphertext = memoryview(b'')  # encrypted, and not yet taken by the kernel
        self._received = memoryview(bytearray(RECEIVE_FIRST))
        self._flight = b''  # the first bytes of the server, kept during the handshake
        self._has_certificate = True
        self._failure: BaseException | None = None  # the next read raises it
        self._watcher: Callable[[], Any] | None = None
        self._must_read_first = False  # the session cannot encrypt before it has received something

    # -- opening and closing ---------------------------------------------------

    def connect(self, deadline: green.Deadline | None = None, untried: list[Any] | None = None) -> None:
        """Connect and shake hands with the first address where both work, within *deadline*. Switches greenlets.

        Raises what TCPTransport.connect raises, and ssl.SSLError (an OSError):
        SSLCertVerificationError says what is wrong with the certificate. Where
        several addresses fail, it is a refused certificate rather than a refused connection.
        """
        deadline = deadline or green.Deadline(self.connect_timeout)
        self._context, self._name = make_context(self.sslopts, self.host)
        self._has_certificate = may_have_certificate(self.sslopts)
        super().connect(deadline, untried)

    def _connect(self, family: int, kind: int, protocol: int, address: Any, deadline: green.Deadline) -> None:
        super()._connect(family, kind, protocol, address, deadline)
        self._incoming, self._outgoing, self._flight = MemoryBIO(), MemoryBIO(), b''
        try:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._name)
            self._shake_hands(deadline)
        except BaseException:
            self.close()
            raise

    def _shake_hands(self, deadline: green.Deadline) -> None:
        try:
            while not self._try_handshake(deadline):
                self._send_handshake(deadline)
                self._receive_handshake(deadline)
            self._flight = b''
            self._send_handshake(deadline)
        except ssl.SSLError as exc:
            raise explain(self._where, exc, self._flight, self._name, self._has_certificate) from exc
        except (ConnectionResetError, BrokenPipeError) as exc:
            raise type(exc)(exc.errno, f'{self._where} hung up during the TLS handshake') from exc

    def _try_handshake(self, deadline: green.Deadline) -> bool:
        if not queue_of_this_thread(self._green).take(deadline):
            raise self._late(deadline)
        try:
            self._session().do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _send_handshake(self, deadline: green.Deadline) -> None:
        while self.unsent:
            try:
                self._push()
            except BlockingIOError:
                if not self._ready.wait_writable(deadline.left()):
                    raise self._late(deadline) from None

    def _receive_handshake(self, deadline: green.Deadline) -> None:
        while True:
            try:
                count = self._receive()
            except BlockingIOError:
                if not self._ready.wait_readable(deadline.left()):
                    raise self._late(deadline) from None
            else:
                self._flight += bytes(self._received[: min(count, FLIGHT - len(self._flight))])
                return

    def _late(self, deadline: green.Deadline) -> OSError:
        if self.socket is None:
            return OSError(errno.EBADF, 'the socket was closed during the TLS handshake')
        return TimeoutError(errno.ETIMEDOUT, f'{self._where}: no TLS handshake within {in_seconds(deadline.seconds)}')

    def close(self) -> None:
        """Send close_notify if the kernel takes it now, and close without waiting for an answer. Never raises."""
        with self.guard:
            tls, self._tls = self._tls, None
            if self.socket is not None and tls is not None:
                try:
                    tls.unwrap()
                except (OSError, ValueError):
                    pass  # the peer's close_notify has not come, or the handshake was not completed
                try:
                    self._push()
                except OSError:
                    pass
            self._ciphertext = memoryview(b'')
            self._watcher = None
            super().close()

    # -- bytes --------------------------------------------------------------------

    def recv_into(self, view: memoryview) -> int:
        """Receive and decrypt, as TCPTransport.recv_into.

        A stream that ends without close_notify ends like any other.
        """
        with self.guard:
            return self._decrypt_into(view)

    def _decrypt_into(self, view: memoryview) -> int:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        total = 0
        try:
            while total < len(view):
                try:
                    count = self._session().read(len(view) - total, view[total:])
                except ssl.SSLWantReadError:
                    if total:
                        break
                    if self._receive() == len(self._received) < RECEIVE:
                        self._received = memoryview(bytearray(RECEIVE))
                    continue
                if not count:
                    break
                total += count
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        except ssl.SSLError as exc:
            error = explain_loss(self._where, exc, ours=self._has_certificate)
            if not total:
                raise error from exc
            self._failure = error  # return first what was decrypted before the error
        finally:
            self._after_reading()
        return total

    def _after_reading(self) -> None:
        """Send what reading made the session produce (renegotiation), and let a write go on that waited for input."""
        if self._outgoing.pending and self.socket is not None:
            try:
                self._push()
            except OSError:
                pass  # it is sent before anything else at the next send, which raises the error if there is one
        if self._must_read_first:
            self._must_read_first = False
            if self._watcher is not None:
                super().watch_writable(self._watcher)

    def send(self, data: Any) -> int:
        """Encrypt and send a part of *data*, as TCPTransport.send. With empty *data* send what is encrypted already.

        Bytes that were taken may be encrypted and not sent yet (``unsent``), but never more than one chunk. Until
        that chunk is sent nothing more is encrypted; a result of 0 means that a part of it was sent.
        """
        with self.guard:
            try:
                return self._encrypt(data)
            except ssl.SSLWantReadError:
                # The peer renegotiates (TLS 1.2; Erlang does it after so many messages).
                self._push()
                self._wait_for_input_to_write()
                raise BlockingIOError(errno.EAGAIN, 'TLS has to read before it can write') from None

    def send_without_hub(self, data: Any) -> int:
        """``send`` for another thread; does not touch the hub.

        Where TLS has to read first, BlockingIOError is raised.
        """
        with self.guard:
            try:
                return self._encrypt(data)
            except ssl.SSLWantReadError:
                raise BlockingIOError(errno.EAGAIN, 'TLS has to read before it can write') from None

    def _encrypt(self, data: Any) -> int:
        if not self._push():
            return 0
        taken = 0
        try:
            while taken < min(len(data), CHUNK):  # the session encrypts one record at a time
                taken += self._session().write(data[taken:CHUNK])
        except ssl.SSLWantReadError:
            if not taken:
                raise
        try:
            self._push()
        except BlockingIOError:
            pass  # the bytes are encrypted, so they are taken; they count as unsent
        return taken

    @property
    def unsent(self) -> bool:
        with self.guard:
            return bool(self._ciphertext or self._outgoing.pending)

    @property
    def has_input(self) -> bool:
        return self._holds_input or super().has_input

    @property
    def _holds_input(self) -> bool:
        """Whether received bytes or an error are here, not in the kernel; they need not be a whole record."""
        with self.guard:
            if self._tls is None:
                return False
            return self._failure is not None or bool(self._tls.pending() or self._incoming.pending)

    # -- waiting -------------------------------------------------------------------

    def wait_readable(self, wake: green.Slot | None = None) -> bool:
        if not self._holds_input:
            return super().wait_readable(wake)
        if wake is not None:
            self._green.run_soon(wake.wake)
        return True

    def watch_writable(self, fn: Callable[[], Any]) -> None:
        self._watcher = fn
        if not self._must_read_first:
            super().watch_writable(fn)

    def unwatch_writable(self) -> None:
        self._watcher = None
        super().unwatch_writable()

    def _wait_for_input_to_write(self) -> None:
        """Stop watching for room in the kernel until input has come: TLS needs that input before it can write."""
        if not self.unsent:
            self._must_read_first = True
            super().unwatch_writable()

    # -- session and kernel ----------------------------------------------------------

    @property
    def _where(self) -> str:
        return f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'

    def _session(self) -> Any:
        if self._tls is None:
            raise OSError(errno.EBADF, 'the socket is closed')
        return self._tls

    def _receive(self) -> int:
        """Move ciphertext from the kernel to the session. Raises BlockingIOError when there is none."""
        count = super().recv_into(self._received)
        if count:
            self._incoming.write(self._received[:count])
        else:
            self._incoming.write_eof()
        return count

    def _push(self) -> bool:
        """Send ciphertext. Returns whether all of it was sent; raises BlockingIOError when the kernel took nothing."""
        moved = False
        while True:
            if not self._ciphertext:
                self._ciphertext = memoryview(self._outgoing.read())
                if not self._ciphertext:
                    return True
            try:
                count = super().send(self._ciphertext)
            except BlockingIOError:
                if moved:
                    return False
                raise
            moved = True
            self._ciphertext = self._ciphertext[count:]
