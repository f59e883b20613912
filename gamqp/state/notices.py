"""What a channel has to tell the program and the program has not yet come for.

State, no I/O. Two kinds: calls of event handlers (confirms, returns), which a
publisher may run on its way, and errors, which only drain_events raises. Both
are bounded for programs that never come: the oldest go first.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ('KEPT', 'Notices', 'Returned')

KEPT = 1000  # of each kind; one is a few hundred bytes, and the body of a returned message

KEPT_RETURNS = 100  # with their bodies, for programs that never look at them

Call = Callable[[], Any]


class Notices:
    """flagged: whether drain_events has been told to come here and has not come yet."""

    __slots__ = ('calls', 'errors', 'flagged')

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.errors: list[Call] = []
        self.flagged = False

    def add_call(self, call: Call) -> None:
        self._add(self.calls, call)

    def add_error(self, throw: Call) -> None:
        self._add(self.errors, throw)

    def _add(self, kind: list[Call], item: Call) -> None:
        if len(kind) >= KEPT:
            del kind[0]
        kind.append(item)

    def clear(self) -> None:
        self.calls.clear()
        self.errors.clear()

    def __bool__(self) -> bool:
        return bool(self.calls or self.errors)


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
