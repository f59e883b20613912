"""Class basic, qos: the prefetch.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: what a channel remembers of it
(``state.prefetch``).
"""

from __future__ import annotations

from .. import exceptions
from ..state.argument_checks import whole
from ..state.prefetch import Prefetch
from ..wire.spec import Basic
from .open_state import OpenState

__all__ = ('PREFETCH_COUNT', 'PREFETCH_LIMIT', 'QosMethods')

PREFETCH_LIMIT = 65535  # 16 bits on the wire
PREFETCH_COUNT = whole(0, PREFETCH_LIMIT)
WHOLE = whole(0)


class QosMethods(OpenState):
    """Mixin of Channel."""

    _altered: bool
    _prefetch: Prefetch

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool, argsig: object = None) -> None:
        """Limit the unacked deliveries of each consumer to come, or with *a_global* of the whole channel.

        prefetch_count: messages, 0 for no limit. prefetch_size: must be 0; RabbitMQ
        has no limit in bytes, so AMQPNotImplementedError is raised for another.
        A consumer keeps the limit that held when it began: to give it another, call
        this, start a second consumer on the queue and cancel the first. Say False
        for *a_global*: quorum queues and streams have no limit for a channel. RabbitMQ
        before 4.3 ends the connection when one is then consumed from; where it is
        known to be one, AMQPNotImplementedError is raised before anything is sent.
        RabbitMQ 4.3 quietly takes it for a limit per consumer.
        https://www.rabbitmq.com/docs/consumer-prefetch
        """
        prefetch_count = PREFETCH_COUNT('prefetch_count', prefetch_count)
        if WHOLE('prefetch_size', prefetch_size):
            raise exceptions.AMQPNotImplementedError(
                f'prefetch_size must be 0, not {prefetch_size}: RabbitMQ limits messages, not bytes', Basic.Qos
            )
        self._check(Basic.Qos)
        before = self._prefetch
        if a_global:
            self._altered = True
            self._prefetch = before.limit_channel(prefetch_count)
        else:
            self._prefetch = before.ask_for(prefetch_count)
        try:
            self._call(Basic.Qos, (prefetch_size, prefetch_count, a_global))
        except exceptions.EncodeError:
            self._prefetch = before
            raise

    def _use_prefetch(self, count: int) -> None:
        """Have the consumer that is started next get this prefetch. Does not switch."""
        if self._prefetch.differs_from(count):
            self._call(Basic.Qos, (0, count, False), wait=False)
            self._prefetch = self._prefetch.note_sent(count)

    def _send_prefetch_again(self) -> None:
        """The broker has forgotten the limits, and the program has not. Does not switch."""
        prefetch = self._prefetch
        if prefetch.sent is not None:
            self._call(Basic.Qos, (0, prefetch.sent, False), wait=False)
        if prefetch.of_channel:
            self._call(Basic.Qos, (0, prefetch.of_channel, True), wait=False)
