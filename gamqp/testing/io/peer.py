"""The socket of one client: moves bytes between it and a session.

Layer 5. Used under the broker's lock, by any thread; nothing here waits. Does not belong here: what the bytes mean.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from ..state.session import Session
from .poller import READ, WRITE

__all__ = ('Peer', 'TlsPeer')

_CHUNK = 256 * 1024
_JOINED = 1024 * 1024  # bytes that are sent in one call at most

# The option numbers are the same on every system that has these names in _socket.
_RESET = struct.pack('ii', 1, 0)


class Peer:
    """One client. sock: does not block."""

    def __init__(self, sock: Any, session: Session, linger: tuple[int, int]) -> None:
        self.sock = sock
        self.fd: int = sock.fileno()
        self.session = session
        self._linger = linger
        self._unsent = b''
        self._at = 0

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.session.name}>'

    @property
    def wanted(self) -> int:
        """What the socket is to be watched for."""
        session = self.session
        writes = not session.stalled and (self._unsent or session.out)
        return (READ if session.reads else 0) | (WRITE if writes else 0)

    def read(self) -> bool:
        """Take what has arrived, once. False at the end of the stream."""
        if not self.session.reads:
            return True
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        return self._received(data)

    def _received(self, data: bytes) -> bool:
        self.session.receive(data)
        return True

    def _encoded(self, data: bytes) -> bytes:
        return data

    def write(self) -> bool:
        """Send what waits, as much as the kernel takes. False if the connection has to be closed now."""
        session = self.session
        if session.cut:
            return False
        while not session.stalled:
            if not self._unsent:
                if session.cut_after == 0 and session.out:
                    return False
                if not self._take():
                    return not session.ending
            try:
                size = self.sock.send(memoryview(self._unsent)[self._at :])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._at += size
            if self._at == len(self._unsent):
                self._unsent, self._at = b'', 0
                if session.cut_after == 0:
                    return False
        return True

    def _take(self) -> bool:
        """Take the next bytes of the session to be sent; False if there are none."""
        session = self.session
        out = session.out
        if not out:
            return False
        if session.out_size <= _JOINED:
            data = b''.join(out)
            out.clear()
        else:
            count = size = 0
            while count < len(out) and size < _JOINED:
                size += len(out[count])
                count += 1
            data = b''.join(out[:count])
            del out[:count]
        session.sent(len(data))
        if session.cut_after is not None:
            data = data[: session.cut_after]
            session.cut_after -= len(data)
        self._unsent = self._encoded(data)
        return True

    def close(self) -> None:
        """Close the socket; the session has ended."""
        if self.session.reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(*self._linger, _RESET)
        with contextlib.suppress(OSError):
            self.sock.close()
        self.session.ended()


class TlsPeer(Peer):
    """The same over TLS. context: an ssl.SSLContext of the server side."""

    def __init__(self, sock: Any, session: Session, linger: tuple[int, int], context: Any, ssl: Any) -> None:
        super().__init__(sock, session, linger)
        self._want_read, self._error = ssl.SSLWantReadError, ssl.SSLError
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def _received(self, data: bytes) -> bool:
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self.session.certificate_user = _common_name(self._tls.getpeercert())
            while True:
                plain = self._tls.read(_CHUNK)
                if not plain:
                    return False
                self.session.receive(plain)
        except self._want_read:
            pass
        except self._error:
            self._unsent = self._unsent[self._at :] + self._outgoing.read()  # the alert
            self._at = 0
            with contextlib.suppress(OSError):
                self.sock.send(self._unsent)
            return False
        self._unsent = self._unsent[self._at :] + self._outgoing.read()
        self._at = 0
        return True

    def _encoded(self, data: bytes) -> bytes:
        if data:
            self._tls.write(data)
        encoded: bytes = self._outgoing.read()
        return encoded


def _common_name(certificate: Any) -> str | None:
    """Who a client certificate is of."""
    for part in (certificate or {}).get('subject', ()):
        for name, value in part:
            if name == 'commonName':
                return str(value)
    return None
