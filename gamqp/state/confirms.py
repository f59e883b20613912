"""Publisher confirms: which publish each ``basic.ack`` and ``basic.nack`` speaks of.

State, no I/O. The broker numbers the publishes of a channel from 1 after
confirm.select; so do we, in the same step that hands the frames to the writer.
https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ('Confirms',)


class Confirms:
    """Outstanding publishes of one channel, oldest first.

    A waiter has ``succeed(True)`` for an ack and ``succeed(False)`` for a nack;
    None stands for a publish on which nobody waits.
    """

    __slots__ = ('_waiting', 'published')

    def __init__(self) -> None:
        self.published = 0  # the delivery tag of the latest publish
        # Insertion order is tag order, so a "multiple" is a walk from the front.
        self._waiting: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, waiter: Any = None) -> int:
        """Number a publish; call it together with handing the frames over. Returns the tag."""
        self.published += 1
        self._waiting[self.published] = waiter
        return self.published

    def settle(self, tag: int, multiple: bool, ok: bool) -> int:
        """An ack (ok) or nack has come. Returns how many publishes it settled.

        Tag 0 with multiple means everything outstanding. A tag that is not
        outstanding settles nothing: brokers may repeat themselves.
        """
        waiting = self._waiting
        if not multiple:
            if tag not in waiting:
                return 0
            tags = [tag]
        elif tag == 0:
            tags = list(waiting)
        else:
            tags = []
            for outstanding in waiting:
                if outstanding > tag:
                    break
                tags.append(outstanding)
        for settled in tags:
            waiter = waiting.pop(settled)
            if waiter is not None:
                waiter.succeed(ok)
        return len(tags)

    def fail_all(self, make_error: Callable[[], BaseException]) -> int:
        """The channel is gone, none of these will be confirmed. Returns how many waiters were told."""
        waiting, self._waiting = self._waiting, {}
        told = 0
        for waiter in waiting.values():
            if waiter is not None:
                waiter.fail(make_error)
                told += 1
        return told
