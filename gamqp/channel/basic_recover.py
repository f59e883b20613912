"""Class basic, recover; and what makes deliveries void that have arrived and were not handed out.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: which ones are void
(``state.void_deliveries``), and who passes them over.
"""

from __future__ import annotations

from typing import Any

from .. import exceptions, green
from ..state.consumers import ConsumerTable
from ..state.expected_replies import Expected
from ..state.stream_consumers import StreamConsumers
from ..state.unacked import Unacked, WideUnacked
from ..state.void_deliveries import VoidDeliveries
from ..wire.spec import Basic
from .open_state import OpenState

__all__ = ('RecoverMethods',)


class RecoverMethods(OpenState):
    """Mixin of Channel."""

    _arriving: int
    _consumers: ConsumerTable
    _streams: StreamConsumers | None
    _unacked: Unacked | WideUnacked
    _void: VoidDeliveries | None

    def basic_recover(self, requeue: bool = False) -> None:
        """Have all unacked deliveries of this channel delivered again.

        Those that wait here are dropped, and acks and the like of messages that were
        handed out before do nothing: the broker has taken them back.
        requeue: must be True with RabbitMQ, which does not know the other way:
        AMQPNotImplementedError is raised instead of letting it close the connection,
        also by RabbitMQ before 3.13 on a channel that reads a stream.
        """
        self._check_recover(requeue, Basic.Recover)
        self._check(Basic.Recover)
        expected = Expected((Basic.RecoverOk,), green.Slot(self._connection._green), self._on_recover_ok)
        self._ask(Basic.Recover, (requeue,), expected)
        self._incarnation += 1  # what was delivered up to now; what comes before recover-ok belongs to that
        self._forget_unsettled()
        self._await_reply(expected, Basic.Recover, None)

    def _on_recover_ok(self, reply: Any) -> None:
        self._arriving += 1
        self._forget_unsettled()

    def basic_recover_async(self, requeue: bool = False) -> None:
        """basic_recover without waiting for the reply; there is none. Does not switch."""
        self._check_recover(requeue, Basic.RecoverAsync)
        self._send(Basic.RecoverAsync, (requeue,))
        self._incarnation += 1
        self._arriving += 1  # at once, since nothing tells where the old deliveries end
        self._forget_unsettled()

    def _check_recover(self, requeue: bool, sig: tuple[int, int]) -> None:
        product = self._connection.server_properties.get('product')
        if not requeue and product == 'RabbitMQ':
            raise exceptions.AMQPNotImplementedError('RabbitMQ recovers with requeue=True only', sig)
        if self._streams is not None:
            self._streams.check_recovering(self.channel_id, sig)

    def _forget_unsettled(self) -> None:
        """The broker has them; they come again under new tags. Does not switch."""
        self._doubt()
        self._event_queue.forget_unsettled(self, list(self._consumers.values()))
        self._unacked.clear()

    def _doubt(self) -> VoidDeliveries:
        """From now on each message that waits here is looked up there before it is handed out. Does not switch."""
        self._event_queue.doubtful = True
        if self._void is None:
            self._void = VoidDeliveries()
        return self._void

    @property
    def _era(self) -> int:
        """How often all consumers have ended with the channel."""
        return 0 if self._void is None else self._void.era

    def _forget_deliveries(self) -> None:
        """The broker takes back what is undelivered, and its consumers have ended. Does not switch."""
        self._doubt().end_era()
        self._event_queue.forget_deliveries(self, list(self._consumers.values()))
