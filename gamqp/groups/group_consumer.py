"""The consumer that ``Group.subscribe`` returns: it stays the same while its connection is replaced by another one.

Layer 5. Does not belong here: on which connection it is (``group``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..consuming.consumer import Consumer
from ..state.argument_checks import optional_timeout
from ..state.uncopyable import Uncopyable

if TYPE_CHECKING:
    from ..basic_message import Message
    from .member import Member

__all__ = ('GroupConsumer',)


class GroupConsumer(Uncopyable):
    """A running subscription of a group. It goes on when this object is dropped.

    queue: the name of its queue.
    """

    def __init__(self, queue: str, handler: Callable[[Message], object], arguments: dict[str, Any]) -> None:
        self.queue = queue
        self._handler = handler
        self._arguments = arguments
        self._member: Member | None = None
        # The present one last; those before it are being moved away from, and finish what they have begun.
        self._consumers: list[Consumer] = []
        self._counted = {'delivered': 0, 'acked': 0, 'failed': 0}  # of those that have finished
        self._cancelled = False

    def __repr__(self) -> str:
        state = 'ended' if self._cancelled else 'running'
        return f'<GroupConsumer of {self.queue!r} {state}: {self.delivered} delivered, {self.in_flight} in flight>'

    @property
    def host(self) -> str:
        """Of the broker that it takes messages from at present; '' when it has ended."""
        return '' if self._member is None else str(self._member.connection.host)

    @property
    def delivered(self) -> int:
        """Messages that have arrived."""
        return self._counted['delivered'] + sum(one.delivered for one in self._consumers)

    @property
    def acked(self) -> int:
        """Messages that were handled, and acked here."""
        return self._counted['acked'] + sum(one.acked for one in self._consumers)

    @property
    def failed(self) -> int:
        """Messages whose handler raised."""
        return self._counted['failed'] + sum(one.failed for one in self._consumers)

    @property
    def in_flight(self) -> int:
        """Messages that are being handled now."""
        return sum(one.in_flight for one in self._consumers)

    def cancel(self, wait: bool = True, timeout: float | None = None) -> None:
        """Take no more messages; what no handler has begun goes back to the queue. Twice does no harm.

        wait: also wait for the running handlers. timeout: seconds, None for as long as they take; TimeoutError then,
        and the handlers run on. Raises why a channel ended if the cancel could not be sent. Switches greenlets.
        """
        deadline = green.Deadline(optional_timeout('timeout', timeout))
        self._cancelled = True
        member, self._member = self._member, None
        if member is not None:
            member.forget(self)
        for consumer in list(self._consumers):
            consumer.cancel(wait, deadline.left())

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended and its handlers have returned. Switches greenlets.

        timeout: seconds, None for ever (TimeoutError). Returns after a cancel of ours; raises ConsumerCancelled when
        the broker cancelled it, why its connection was given up, and with on_error='stop' what the handler raised.
        """
        deadline = green.Deadline(optional_timeout('timeout', timeout))
        # Again while it is moved: the consumer before ends without an end of this one.
        while self._consumers:
            latest = self._consumers[-1]
            latest.join(deadline.left())
            if self._consumers[-1:] == [latest]:
                return

    # -- for the group ---------------------------------------------------------------------------

    def _start_on(self, member: Member) -> None:
        """Start it there, beside the consumer that it may have elsewhere. Switches. Raises what subscribe raises."""
        consumer = member.channel_with_room().subscribe(self.queue, self._handler, **self._arguments)
        if self._cancelled:
            consumer.cancel(wait=False)
            return
        self._consumers.append(consumer)
        before, self._member = self._member, member
        member.consumers[self] = None
        if before is not None:
            before.consumers.pop(self, None)

    def _leave_older(self, timeout: float | None) -> None:
        """End those that it had before the present one, when their handlers have returned. Switches."""
        deadline = green.Deadline(timeout)
        while len(self._consumers) > 1:
            older = self._consumers[0]
            try:
                older.cancel(True, deadline.left())
            finally:
                if self._consumers[:1] == [older] and not older.in_flight:
                    del self._consumers[0]
                    for name in self._counted:
                        self._counted[name] += getattr(older, name)

    def _cancel_older(self) -> None:
        """Have those that it had before the present one take no more; their handlers run on. Does not wait."""
        for older in self._consumers[:-1]:
            with contextlib.suppress(exceptions.AMQPError):  # it has ended with its channel
                older.cancel(wait=False)
