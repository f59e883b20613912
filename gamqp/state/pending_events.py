"""Events of one channel that the program has not handled yet: confirms, returned messages, errors.

State, no I/O. There are four kinds:

* calls of event handlers (for confirms and returns), which drain_events makes;
* calls of event handlers for the message of one publisher that waits for its confirm; that publisher makes them;
* errors, which drain_events raises;
* returned messages that no handler takes, which drain_events raises as errors, too.

Only the latest returned messages are kept, because a program may never call drain_events. Calls of handlers are
dropped only with the channel. What the program has published limits them: each message has one confirm, and may come
back before that.
Does not belong here: when they are made and raised (``channel.events``); the messages that py-amqp's
attribute ``returned_messages`` holds (``returned_messages``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ('MOST_RETURNS', 'HandlerCall', 'PendingEvents')

MOST_RETURNS = 1000  # returned messages kept as errors; one takes a few hundred bytes, and its body

HandlerCall = Callable[[], Any]


class PendingEvents:
    """The events of one channel.

    flagged: a notice for this channel is in the connection's event queue. own: publisher -> calls of handlers for
    its message, which it makes itself. running: greenlet that is in a handler of this channel -> calls for the
    messages that it publishes there; they are made when that handler has returned.
    """

    __slots__ = ('_lost', '_returns', 'calls', 'errors', 'flagged', 'own', 'running')

    def __init__(self) -> None:
        # Made when needed: most channels never have an event.
        # Deques, because the oldest goes first, and there may be a call for each message that was published.
        self.calls: deque[HandlerCall] | None = None
        self.errors: deque[HandlerCall] | None = None
        self._returns: deque[HandlerCall] | None = None
        # An entry leaves when its publisher wakes, or when it waits no more. Its calls are made in both cases: in the
        # second one by drain_events.
        self.own: dict[Any, deque[HandlerCall]] | None = None
        # An entry is there only while that greenlet is in a handler, so no dead greenlet is kept.
        self.running: dict[Any, deque[HandlerCall]] | None = None
        # Whether a returned message was dropped. Never reset, since the log says it once.
        self._lost = False
        # Set with the notice, and reset when drain_events takes that. With it at most one notice is queued for the
        # channel.
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
        """Remove and return the calls that this publisher makes itself."""
        # An empty deque for none, so that callers need no second case.
        return (self.own.pop(publisher, None) if self.own else None) or deque()

    def run_by(self, greenlet: Any) -> deque[HandlerCall] | None:
        """The calls to be made when *greenlet* has returned from its handler; None when it is in no handler."""
        return None if self.running is None else self.running.get(greenlet)

    def begin(self, greenlet: Any, calls: deque[HandlerCall]) -> None:
        if self.running is None:
            self.running = {}
        # A handler may call drain_events, which begins anew in the same greenlet. end() then restores what stood here.
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
        """Keep a returned message as an error. Returns True the first time that an older one is dropped for it."""
        if self._returns is None:
            self._returns = deque(maxlen=MOST_RETURNS)
        # A deque with maxlen drops silently. It is noted once, so that the log can say it.
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
        """The oldest error, or None. Errors that are no returned messages go first."""
        # A returned message may be one of a thousand alike. An error is mostly the end of a consumer.
        errors = self.errors or self._returns
        return errors.popleft() if errors else None

    def clear(self) -> None:
        # ``running`` stays: greenlets that are in a handler now call end() later. ``flagged`` stays as well, with its
        # notice.
        self.calls = self.errors = self._returns = self.own = None

    def __bool__(self) -> bool:
        # Without ``own``: those calls are made by a publisher that waits, and drain_events has nothing to do for them.
        return bool(self.calls or self.errors or self._returns)
