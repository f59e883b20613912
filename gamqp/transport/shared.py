"""Transports that two threads may use: the hub's, and the one that beats while the hub is held up.

Layer 2. Not what a connection gets unless it asks for it: where one thread is all
there is, no lock should cost anything. The other thread calls ``send_aside`` and
``unsent`` and nothing else, with ``guard`` in its hands. What must not enter: when
it may do so; that is the writer's.
"""

from __future__ import annotations

from typing import Any

from ..green.native import RLock
from .tcp import TCPTransport
from .tls import SSLTransport

__all__ = ('SharedSSLTransport', 'SharedTCPTransport')


class _Shared(TCPTransport):
    """guard: a lock, held by whoever sends, and by the hub when it closes.

    A number that is closed may be somebody else's socket a moment later, so
    nobody may be about to send then. Reentrant: a signal handler, or an object
    that is collected, may come here in the middle of anything.
    """

    shared = True

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.guard: Any = RLock()

    def close(self) -> None:
        with self.guard:
            super().close()

    def renew_guard(self) -> None:
        self.guard = RLock()


class SharedTCPTransport(_Shared):
    """The two ways of a socket do not touch each other, so receiving needs no lock."""


class SharedSSLTransport(_Shared, SSLTransport):
    """One TLS session is one object in both directions: whatever uses it, if only to ask, holds the lock."""

    def recv_into(self, view: memoryview) -> int:
        with self.guard:
            return super().recv_into(view)

    def send(self, data: Any) -> int:
        with self.guard:
            return super().send(data)

    @property
    def unsent(self) -> bool:
        with self.guard:
            return super().unsent

    @property
    def _holds_input(self) -> bool:
        with self.guard:
            return super()._holds_input
