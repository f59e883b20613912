"""What the objects here need of whoever waits for something: a greenlet's slot, a receipt, the pool.

State, no I/O. Narrow Protocols, for annotations alone. Does not belong here: waiting itself (``green.waiting``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..wire import Content

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


class PublishWaiter(Protocol):
    """Gets what became of one publish, once. No method may switch greenlets or raise, as those of ``Waiter``.

    With underscores, since programs hold the objects that have them.
    """

    def _settle(self, verdict: bool | Content, /) -> None:
        """True for an ack, False for a nack, the message that came back where no queue took it."""

    def _lose(self, make_error: MakeError, /) -> None:
        """Nobody knows: the channel has ended before the confirm has come."""

    @property
    def _awaited(self) -> bool:
        """Whether a greenlet waits there right now."""
        ...
