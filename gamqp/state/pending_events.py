"""What a channel has to tell the program and the program has not yet come for.

State, no I/O. Four kinds: calls of event handlers (confirms, returns), which drain_events
runs; those that belong to a publisher who waits for just this, and runs them itself;
errors, which only drain_events raises; and returned messages that nobody takes, which
are such errors too. Of the last only the latest are kept, for programs that never come.
What a handler was registered for is never dropped: there is no more of it than the
program has published and not come for.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ('MOST_RETURNS', 'HandlerCall', 'PendingEvents', 'PendingReturns')

MOST_RETURNS = 1000  # returned messages that are to be raised; one is a few hundred bytes, and the body

KEPT_RETURNS = 100  # with their bodies, for programs that never look at them

HandlerCall = Callable[[], Any]


class PendingEvents:
    """flagged: whether drain_events has been told to come here and has not come yet.

    own: publisher -> the calls that concern its message. running: greenlet that runs
    calls -> those that come of what it publishes meanwhile, to be run when it has returned.
    """

    __slots__ = ('_lost', '_returns', 'calls', 'errors', 'flagged', 'own', 'running')

    def __init__(self) -> None:
        # Made when needed: most channels have nothing to tell.
        self.calls: deque[HandlerCall] | None = None
        self.errors: deque[HandlerCall] | None = None
        self._returns: deque[HandlerCall] | None = None
        self.own: dict[Any, deque[HandlerCall]] | None = None
        self.running: dict[Any, deque[HandlerCall]] | None = None
        self._lost = False
        self.flagged = False

    def add_call(self, call: HandlerCall) -> None:
        if self.calls is None:
            self.calls = deque()
        self.calls.append(call)

    def add_own(self, publisher: Any, call: HandlerCall) -> None:
        if self.own is None:
            self.own = {}
        self.own.setdefault(publisher, deque()).append(call)

    def take_own(self, publisher: Any) -> deque[HandlerCall]:
        """The calls that belong to this publisher."""
        return (self.own.pop(publisher, None) if self.own else None) or deque()

    def run_by(self, greenlet: Any) -> deque[HandlerCall] | None:
        """What *greenlet* is to run when the handler has returned in which it is; None when it is in none."""
        return None if self.running is None else self.running.get(greenlet)

    def begin(self, greenlet: Any, calls: deque[HandlerCall]) -> None:
        if self.running is None:
            self.running = {}
        self.running[greenlet] = calls

    def end(self, greenlet: Any, outer: deque[HandlerCall] | None) -> None:
        """*outer*: what ``run_by`` gave before ``begin``."""
        assert self.running is not None
        if outer is not None:
            self.running[greenlet] = outer
        else:
            del self.running[greenlet]
            self.running = self.running or None

    def add_error(self, throw: HandlerCall) -> None:
        if self.errors is None:
            self.errors = deque()
        self.errors.append(throw)

    def add_return(self, throw: HandlerCall) -> bool:
        """A returned message that nobody took. Returns True when this was the first one to push an older one out."""
        if self._returns is None:
            self._returns = deque(maxlen=MOST_RETURNS)
        lost, self._lost = self._lost, self._lost or len(self._returns) == MOST_RETURNS
        self._returns.append(throw)
        return self._lost and not lost

    @property
    def to_raise(self) -> bool:
        return bool(self.errors or self._returns)

    def take_call(self) -> HandlerCall | None:
        """The oldest call, or None."""
        return self.calls.popleft() if self.calls else None

    def take_error(self) -> HandlerCall | None:
        """The oldest error, those first that are of no returned message; or None."""
        errors = self.errors or self._returns
        return errors.popleft() if errors else None

    def clear(self) -> None:
        self.calls = self.errors = self._returns = self.own = None

    def __bool__(self) -> bool:
        return bool(self.calls or self.errors or self._returns)


class PendingReturns(deque[Any]):
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
