"""Which sockets are ready: the operating system's own epoll or poll, whatever gevent or eventlet has patched.

Layer 5. Does not belong here: what is done with a socket that is ready.
"""

from __future__ import annotations

from typing import Any

from ...green.os_threads import original

__all__ = ('READ', 'WRITE', 'Poller')

READ, WRITE = 1, 4  # as in POLLIN and POLLOUT, and in epoll
_LONGEST = 3600.0  # seconds of one wait; the system takes no number much larger than some weeks


class Poller:
    """Watches descriptors. ``watch`` and ``forget`` may be called by other threads while one waits."""

    def __init__(self) -> None:
        epoll = original('select', 'epoll')
        self._unit = 1 if epoll is not None else 1000
        self._poll: Any = epoll() if epoll is not None else original('select', 'poll')()
        self._watched: dict[int, int] = {}

    def watch(self, fd: int, events: int) -> None:
        """Watch a descriptor for READ, WRITE, both or (0) for its end only."""
        known = self._watched.get(fd)
        if known == events:
            return
        self._watched[fd] = events
        if known is None:
            self._poll.register(fd, events)
        else:
            self._poll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Do not watch it any more; to be called before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Wait for up to so many seconds (None: without end). Returns the descriptors that are ready."""
        if seconds is None:
            ready = self._poll.poll(None if self._unit == 1000 else -1)
        else:
            ready = self._poll.poll(min(seconds, _LONGEST) * self._unit)
        found: list[tuple[int, int]] = ready
        return found

    def close(self) -> None:
        """Give the descriptor of epoll back."""
        if hasattr(self._poll, 'close'):
            self._poll.close()
