"""Whether the broker lets a consumer start, found out without its channel: a refusal closes the channel.

Layer 4. Does not belong here: when that is asked, and what follows (``late_starts``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import exceptions
from ..state.topology_records import RecordedConsumer, RecordedQueue
from ..wire.spec import Basic, Queue
from .own_channel import OwnChannel

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('Rehearsal',)


class Rehearsal:
    """On a channel of our own, which is opened now; nothing of it may reach the program's consumer.

    holds: it must not end before the consumer has started, since the queue goes with its last consumer.
    """

    def __init__(self, connection: Connection, consumer: RecordedConsumer) -> None:
        self._channel = OwnChannel(connection)
        self._consumer = consumer
        self.holds = False

    def refusal(self) -> exceptions.ChannelError | None:
        """Why the broker refuses to start it now, None if it does not. Switches. Raises why the socket has ended."""
        self._channel.answer()
        queue = self._consumer.queue_record
        try:
            if queue is None or not queue.auto_delete:
                self._start()
            elif self._consumer.exclusive:
                return self._look(queue)
            else:
                self._start()
                self.holds = True
        except exceptions.ChannelError as exc:
            return exc
        return None

    def _start(self) -> None:
        """Start it here. Where it gets a message, that changes the order when it goes back."""
        self._channel.request(Basic.Qos, (0, 1, False))  # so that one message goes back to its queue, and not all
        sig, args = self._consumer.request(to_try=True)
        self._channel.answer()
        self._channel.request(sig, args, tag=self._consumer.tag)
        self._channel.answer()

    def _look(self, queue: RecordedQueue) -> exceptions.ChannelError | None:
        """Of a consumer that is to be the only one: started here, it would keep itself from starting."""
        self._channel.request(Queue.Declare, (0, queue.name, True, False, False, False, False, None))
        try:
            *_, consumers = self._channel.answer()
        except exceptions.AccessRefused:
            return None  # who may not ask has to try
        if not consumers:
            return None
        text = f'queue {queue.name!r} has {consumers} consumers, and this one is to be the only one'
        return exceptions.AccessRefused(text, Basic.Consume)

    def end(self) -> None:
        """Switches. Raises why the socket has ended."""
        self._channel.leave()
