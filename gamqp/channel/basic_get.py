"""Class basic, get: fetch one message.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: consumers (``basic_consume``).
"""

from __future__ import annotations

from typing import Any

from ..basic_message import Message
from ..state.name_arguments import name
from ..wire.spec import Basic
from .basic_ack import AckMethods

__all__ = ('GetMethods',)


class GetMethods(AckMethods):
    """Mixin of Channel."""

    def basic_get(self, queue: str = '', no_ack: bool = False, argsig: object = None) -> Message | None:
        """Fetch one message. Returns a Message, or None when the queue is empty.

        A caller that is killed while it waits gives the message back to the queue.
        Streams have consumers only: AMQPNotImplementedError, before anything is sent
        where the queue is known to be one.
        """
        queue = self._name_to_send(name('queue', queue), Basic.Get)
        self._connection._queue_types.check_get(queue or self._declared)
        if no_ack:
            reply = self._call(Basic.Get, (0, queue, no_ack))
        else:
            reply = self._call(Basic.Get, (0, queue, no_ack), self._note_got, self._give_back_got)
        return None if isinstance(reply, tuple) else reply  # a tuple is get-empty

    def _note_got(self, reply: Any) -> None:
        if not isinstance(reply, tuple):
            self._unacked[reply.delivery_tag] = ('', self._connection._link.heartbeat_clock.heard_at)

    def _give_back_got(self, reply: Any) -> None:
        if not isinstance(reply, tuple):
            self._give_back(reply)
