"""What the objects here need of whoever waits for something: a greenlet's slot, a receipt, the pool.

State, no I/O. Narrow Protocols, for annotations alone. Does not belong here: waiting itself (``green.waiting``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ('MakeError', 'PublishWaiter', 'Waiter')

#: Makes a new exception each time, so that no two waiters share one and its traceback.
MakeError = Callable[[], BaseException]


class Waiter(Protocol):
    """Gets its result or its error, once. Neither method may switch greenlets or raise."""

    # The reader calls these in the middle of what it has read. An error would reach the reader, and end the connection
    # for all.
    def succeed(self, value: Any) -> None: ...

    # The function and no error: it is called only if somebody raises the error.
    def fail(self, make_error: MakeError) -> None: ...


class PublishWaiter(Waiter, Protocol):
    """Waits for the confirm of one publish. awaited: whether a greenlet waits there right now."""

    #: Whether a greenlet waits there right now.
    @property
    def awaited(self) -> bool: ...
