"""A file descriptor for an event loop of the program: readable when the socket has input or the connection wants so.

Layer 2. On Linux it is an epoll set of the socket and an eventfd; other systems lack one of the two. It is made only
when a program asks for ``Connection.sock.fileno()``. Does not belong here: when the connection wants it readable.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any

from ..green import os_threads

__all__ = ('AVAILABLE', 'PollDescriptor')

# gevent and eventlet take epoll out of the select module when they patch it.
_epoll = os_threads.original('select', 'epoll')

#: Whether this system has what a PollDescriptor needs.
AVAILABLE = _epoll is not None and hasattr(os, 'eventfd')

_INPUT = getattr(select, 'EPOLLIN', 1)


class PollDescriptor:
    """Not readable and without a socket at first. ``close``, or the garbage collector, closes its descriptors.

    Nothing here switches greenlets. Raises OSError when the process cannot open more descriptors.
    """

    def __init__(self) -> None:
        self._epoll: Any = _epoll()
        self._eventfd = -1
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._eventfd, _INPUT)
        self._socket = -1  # the descriptor of the socket that is watched, -1 for none
        self._ready = self._shown = False

    def __repr__(self) -> str:
        return f'<PollDescriptor {self.fileno()} {"ready" if self._ready else "not ready"}>'

    def fileno(self) -> int:
        """The descriptor to poll, -1 after ``close``."""
        number: int = -1 if self._epoll.closed else self._epoll.fileno()
        return number

    def show(self, ready: bool) -> None:
        """Be readable (True), or only when the socket has input (False)."""
        self._ready = ready
        # A loop, because a signal handler or the garbage collector may call this method between two of its lines.
        while self._shown is not self._ready and self._eventfd >= 0:
            wanted = self._ready
            if wanted:
                os.eventfd_write(self._eventfd, 1)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._eventfd)
            self._shown = wanted

    def watch(self, socket: int) -> None:
        """Be readable also when this socket is. ``unwatch`` must be called before the socket is closed."""
        if self._eventfd >= 0 and self._socket < 0:
            self._epoll.register(socket, _INPUT)
            self._socket = socket

    def unwatch(self) -> None:
        """Ignore the socket from now on. Does nothing when none is watched."""
        socket, self._socket = self._socket, -1
        if socket >= 0 and self._eventfd >= 0:
            self._epoll.unregister(socket)

    def close(self) -> None:
        """Close the descriptors. In a forked child this closes the child's copies only; the parent's stay open."""
        eventfd, self._eventfd = self._eventfd, -1
        self._epoll.close()
        if eventfd >= 0:
            os.close(eventfd)

    def __del__(self) -> None:
        if getattr(self, '_epoll', None) is not None:
            self.close()
