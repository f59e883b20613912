"""What the broker does wrong on purpose, method by method.

Layer 5, pure. Each order holds for a number of times and is then forgotten. Does not belong here: cutting and stalling
connections, see ``session``.
"""

from __future__ import annotations

from typing import TypeVar

from ...wire import METHODS
from .errors import Refusal

__all__ = ('Faults',)

_T = TypeVar('_T')
_NAMES = frozenset(method.name for method in METHODS.values())


class Faults:
    """The orders that wait. armed: whether there is any, so that a message costs one look at it."""

    def __init__(self) -> None:
        self.armed = False
        self._refusals: dict[str, list[Refusal]] = {}
        self._delays: dict[str, list[float]] = {}
        self._drops: dict[str, int] = {}
        self._nacks = 0

    def __repr__(self) -> str:
        return f'<Faults {self._refusals} {self._delays} {self._drops} {self._nacks} nacks>'

    def clear(self) -> None:
        """Forget all orders."""
        self.__init__()  # type: ignore[misc]

    def refuse(self, method: str, code: int, text: str, times: int) -> None:
        """Answer *method* with this error."""
        _check(method, times)
        self._refusals.setdefault(method, []).extend(Refusal(code, text) for _ in range(times))
        self.armed = True

    def delay(self, method: str, seconds: float, times: int) -> None:
        """Handle *method* later."""
        _check(method, times)
        if not seconds >= 0:
            raise ValueError(f'seconds: a number from 0 on is expected, not {seconds!r}')
        self._delays.setdefault(method, []).extend([seconds] * times)
        self.armed = True

    def drop_reply(self, method: str, times: int) -> None:
        """Handle *method* without a reply."""
        _check(method, times)
        self._drops[method] = self._drops.get(method, 0) + times
        self.armed = True

    def nack_next(self, count: int) -> None:
        """Refuse the next publishes with basic.nack, where confirms are on."""
        if count < 0:
            raise ValueError(f'count: a number from 0 on is expected, not {count!r}')
        self._nacks = count
        self.armed = True

    def refusal_for(self, method: str) -> Refusal | None:
        """The error for this call of *method*, if there is one."""
        return self._take(self._refusals, method)

    def delay_for(self, method: str) -> float | None:
        """How many seconds this call of *method* waits, if it does."""
        return self._take(self._delays, method)

    def drops_reply_of(self, method: str) -> bool:
        """Whether this call of *method* gets no reply."""
        left = self._drops.pop(method, 0)
        if left > 1:
            self._drops[method] = left - 1
        self._look()
        return left > 0

    def nacks_this(self) -> bool:
        """Whether this publish is refused."""
        if not self._nacks:
            return False
        self._nacks -= 1
        self._look()
        return True

    def _take(self, orders: dict[str, list[_T]], method: str) -> _T | None:
        waiting = orders.get(method)
        if not waiting:
            return None
        order = waiting.pop(0)
        if not waiting:
            del orders[method]
        self._look()
        return order

    def _look(self) -> None:
        self.armed = bool(self._refusals or self._delays or self._drops or self._nacks)


def _check(method: str, times: int) -> None:
    if method not in _NAMES:
        raise ValueError(f"method: a name such as 'queue.declare' is expected, not {method!r}")
    if times < 1:
        raise ValueError(f'times: a number from 1 on is expected, not {times!r}')
