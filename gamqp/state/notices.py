"""What a channel has to tell the program and the program has not yet come for.

State, no I/O. Three kinds: calls of event handlers (confirms, returns), which a
publisher may run on its way; errors, which only drain_events raises; and returned
messages that nobody takes, which are such errors too. Of the last only the latest are
kept, for programs that never come. What a handler was registered for is never dropped:
there is no more of it than the program has published and not come for.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ('KEPT', 'Notices', 'Returned')

KEPT = 1000  # returned messages that are to be raised; one is a few hundred bytes, and the body

KEPT_RETURNS = 100  # with their bodies, for programs that never look at them

Call = Callable[[], Any]


class Notices:
    """flagged: whether drain_events has been told to come here and has not come yet."""

    __slots__ = ('_lost', '_returns', 'calls', 'errors', 'flagged')

    def __init__(self) -> None:
        # Made when needed: most channels have nothing to tell.
        self.calls: deque[Call] | None = None
        self.errors: deque[Call] | None = None
        self._returns: deque[Call] | None = None
        self._lost = False
        self.flagged = False

    def add_call(self, call: Call) -> None:
        if self.calls is None:
            self.calls = deque()
        self.calls.append(call)

    def add_error(self, throw: Call) -> None:
        if self.errors is None:
            self.errors = deque()
        self.errors.append(throw)

    def add_return(self, throw: Call) -> bool:
        """A returned message that nobody took. Returns True when this was the first one to push an older one out."""
        if self._returns is None:
            self._returns = deque(maxlen=KEPT)
        lost, self._lost = self._lost, self._lost or len(self._returns) == KEPT
        self._returns.append(throw)
        return self._lost and not lost

    @property
    def to_raise(self) -> bool:
        return bool(self.errors or self._returns)

    def take_call(self) -> Call | None:
        """The oldest call, or None."""
        return self.calls.popleft() if self.calls else None

    def take_error(self) -> Call | None:
        """The oldest error, those first that are of no returned message; or None."""
        errors = self.errors or self._returns
        return errors.popleft() if errors else None

    def clear(self) -> None:
        self.calls = self.errors = self._returns = None

    def __bool__(self) -> bool:
        return bool(self.calls or self.errors or self._returns)


class Returned(deque[Any]):
    """Returned messages, with the verbs of queue.Queue that py-amqp's attribute has, none of which waits here."""

    def __init__(self) -> None:
        super().__init__(maxlen=KEPT_RETURNS)

    put = deque.append

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        """The oldest. Raises queue.Empty at once when there is none, whatever the arguments."""
        if not self:
            raise queue.Empty
        return self.popleft()

    get_nowait = get

    def empty(self) -> bool:
        return not self

    def qsize(self) -> int:
        return len(self)
