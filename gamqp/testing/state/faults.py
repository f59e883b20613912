"""What the broker does wrong on purpose, method by method.

Layer 5, pure. An order waits for calls of a method, perhaps only for those with certain arguments, is carried out a
number of times and then forgotten. Does not belong here: cutting and stalling connections, see ``session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...wire import METHODS
from .errors import Refusal

__all__ = ('Faults', 'Order')

# method -> the names of its arguments
_ARGUMENTS = {method.name: frozenset(name for name, _ in method.args) for method in METHODS.values()}


@dataclass
class Order:
    """What happens to the next *left* calls of a method (None: to all) whose arguments have the values of *where*.

    One of: refusal: it is answered by this error. seconds: it is handled so much later. muted: it is handled, and not
    answered. cut: the connection is cut, before the method is handled, or after that where *muted* is set too; reset:
    with a TCP reset.
    """

    left: int | None
    where: Mapping[str, Any] = field(default_factory=dict)
    refusal: Refusal | None = None
    seconds: float | None = None
    muted: bool = False
    cut: bool = False
    reset: bool = False

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call with these arguments is meant."""
        return all(arguments.get(name) == value for name, value in self.where.items())


class Faults:
    """The orders that wait. armed: whether there is any, so that a message costs one look at it."""

    def __init__(self) -> None:
        self.armed = False
        self._orders: dict[str, list[Order]] = {}
        self._nacks = 0

    def __repr__(self) -> str:
        return f'<Faults {self._orders}, {self._nacks} nacks>'

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()
        self._nacks = 0
        self.armed = False

    def add(self, method: str, order: Order) -> None:
        """Let an order wait. Raises ValueError, also for a method or an argument that there is not."""
        known = _ARGUMENTS.get(method)
        if known is None:
            raise ValueError(f"method: a name such as 'queue.declare' is expected, not {method!r}")
        for name in order.where:
            if name not in known:
                there = ', '.join(sorted(known)) or 'none'
                raise ValueError(f'{method} has no argument {name!r}; it has: {there}')
        if order.left is not None and order.left < 1:
            raise ValueError(f'times: a number from 1 on is expected, not {order.left!r}')
        if order.seconds is not None and not order.seconds >= 0:
            raise ValueError(f'seconds: a number from 0 on is expected, not {order.seconds!r}')
        self._orders.setdefault(method, []).append(order)
        self.armed = True

    def take(self, method: str, arguments: Mapping[str, Any]) -> Order | None:
        """The order for this call of *method*, the oldest that matches, if there is one."""
        waiting = self._orders.get(method, [])
        for order in waiting:
            if order.matches(arguments):
                if order.left is not None:
                    order.left -= 1
                    if not order.left:
                        waiting.remove(order)
                        self._look()
                return order
        return None

    def nack_next(self, count: int) -> None:
        """Refuse the next publishes with basic.nack, where confirms are on."""
        if count < 0:
            raise ValueError(f'count: a number from 0 on is expected, not {count!r}')
        self._nacks = count
        self._look()

    def nacks_this(self) -> bool:
        """Whether this publish is refused."""
        if not self._nacks:
            return False
        self._nacks -= 1
        self._look()
        return True

    def _look(self) -> None:
        self.armed = bool(self._nacks) or any(self._orders.values())
