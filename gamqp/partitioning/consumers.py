"""PartitionConsumers: one consumer for each partition, as one.

Layer 5. It has a channel of its own, whose close ends them all: the broker then gives back what is unsettled before it
feeds another member, so that the order is kept. After a basic.cancel it would feed another one at once, with what
comes behind the messages that are still here. Does not belong here: worker greenlets and acks, which a
subscription has (``gamqp.consuming``).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import greenlet

from .. import green
from ..basic_message import Message
from ..channel.channel import Channel
from ..consuming.consumer import Consumer
from ..consuming.subscription import STOP, OnError, Policy
from ..state.argument_checks import optional_timeout
from ..state.durations import in_seconds
from ..state.uncopyable import Uncopyable
from ..telemetry.log_fields import log_fields
from .priorities import priority

__all__ = ('PartitionConsumers',)

logger = logging.getLogger('gamqp.consumer')


class PartitionConsumers(Uncopyable):
    """The consumers of all partitions, made by ``Partitions.subscribe``. They go on when this object is dropped.

    channel: their own. member, members: as they were given. consumers: a Consumer for each partition, in their order.
    The broker does not say which of them it feeds; ``delivered`` of each tells what it has sent to it.
    """

    def __init__(
        self, channel: Channel, handler: Callable[[Message], object], member: int, members: int, on_error: OnError
    ) -> None:
        self.channel = channel
        self.member = member
        self.members = members
        self.consumers: tuple[Consumer, ...] = ()
        self._handler = handler
        self._on_error: OnError = on_error
        self._running: set[greenlet.greenlet] = set()  # those in the handler
        self._ending = False  # no handler is begun any more
        self._over = False  # ended by us
        self._stopped_by: BaseException | None = None
        # Greenlets wait here for a handler to return, or for an end of any kind.
        self._changed = green.Gate(channel._connection._green)

    @classmethod
    def _start(
        cls,
        channel: Channel,
        queues: Sequence[str],
        handler: Callable[[Message], object],
        membership: tuple[int, int],
        prefetch: int,
        on_error: OnError,
    ) -> PartitionConsumers:
        """Start them all, or none, on a channel that is theirs from now on. Switches greenlets."""
        started = cls(channel, handler, *membership, on_error)
        # A stop is done here, for all of them; without it they do what is to be done themselves, and log it.
        policy: OnError = started._failed if on_error == STOP or callable(on_error) else on_error
        try:
            for number, queue in enumerate(queues):
                handle = functools.partial(started._handle, number)
                arguments = {'x-priority': priority(number, *membership)}
                consumer = channel.subscribe(queue, handle, 1, prefetch, policy, arguments=arguments)
                consumer._inbox._idle = started._changed
                started.consumers = (*started.consumers, consumer)
        except BaseException:
            started._ending = True
            if channel._was_opened:
                channel._begin_close(0, '', (0, 0), wait=False)
            raise
        return started

    def __repr__(self) -> str:
        state = 'ended' if self._over else 'ending' if self._ending else 'running'
        counts = f'{self.delivered} delivered, {len(self._running)} in flight'
        return f'<{type(self).__name__} {self.member} of {self.members} {state}: {counts}>'

    @property
    def delivered(self) -> int:
        """Messages that have arrived, of all partitions."""
        return sum(consumer.delivered for consumer in self.consumers)

    @property
    def acked(self) -> int:
        """Messages that were handled, and acked here."""
        return sum(consumer.acked for consumer in self.consumers)

    @property
    def failed(self) -> int:
        """Messages whose handler raised."""
        return sum(consumer.failed for consumer in self.consumers)

    @property
    def in_flight(self) -> int:
        """Messages that are being handled now."""
        return len(self._running)

    def cancel(self, timeout: float | None = None) -> None:
        """Begin no more messages, wait for the running handlers, and only then leave the partitions to other members.

        What no handler has begun goes back to its place in the queue. timeout: seconds, None for as long as they take;
        TimeoutError then: they run on, nothing else is begun, and the partitions are kept until another call.
        Called by a handler, it returns at once, and the rest is done when that has returned. Twice does no harm.
        Switches greenlets. ``Connection.drain`` does not wait before it leaves: call this first.
        """
        self.channel._connection._affinity.check()
        deadline = green.Deadline(optional_timeout('timeout', timeout))
        self._ending = True
        if greenlet.getcurrent() in self._running:
            self.channel._connection._green.spawn(self._end, green.Deadline(None))
        else:
            self._end(deadline)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended by ``cancel``, or one of the consumers by an error, which is raised.

        timeout: seconds, None for ever (TimeoutError). Raises what the handler raised, with on_error='stop', which ends
        them all; ConsumerCancelled when the broker cancelled one, the others go on then; and why the channel
        or connection ended. Switches greenlets.
        """
        self.channel._connection._affinity.check()
        deadline = green.Deadline(optional_timeout('timeout', timeout))
        while not self._over:
            if not self._ending:
                for number, consumer in enumerate(self.consumers):
                    if self._has_ended(number):
                        consumer.join(deadline.left())
            self._wait(deadline)
        if self._stopped_by is not None:
            raise self._stopped_by

    def _end(self, deadline: green.Deadline) -> None:
        """Wait for the handlers, and close the channel. Switches greenlets."""
        while self._running and not self._over:
            self._wait(deadline)
        if not self._over:
            try:
                self.channel.close()
            finally:
                self._over = True
                self._changed.wake_all()

    def _wait(self, deadline: green.Deadline) -> None:
        if not self._changed.wait(deadline.left()):
            raise TimeoutError(f'{self!r} after {in_seconds(deadline.seconds)}')

    def _has_ended(self, number: int) -> bool:
        """Whether a partition's consumer gets nothing more, or was never started."""
        return number >= len(self.consumers) or self.consumers[number]._inbox.over

    # -- in a worker greenlet ----------------------------------------------------------

    def _handle(self, number: int, message: Message) -> None:
        me = greenlet.getcurrent()
        if not self._ending:
            self._running.add(me)
            try:
                self._handler(message)
                return
            finally:
                # The worker acks before anybody else runs.
                self._running.discard(me)
                if self._ending:
                    self._changed.wake_all()
        # It stays here, unsettled, until the close of the channel gives it back to its place.
        while not (self._over or self._has_ended(number)):
            self._changed.wait()
        if self.channel._awaits_settlement(message):  # the broker has cancelled this consumer
            message.nack(requeue=True)

    def _failed(self, message: Message, error: BaseException) -> Policy | None:
        """The handler raised. For a stop the message is left unsettled, as those behind it."""
        on_error = self._on_error
        answer: Any = on_error(message, error) if callable(on_error) else on_error
        policy: Policy | None = answer
        if policy != STOP:
            return policy
        if not callable(on_error):
            fields = log_fields(self.channel._connection, None, message)
            logger.error('%r: the handler failed on %r (%s)', self, message, policy, exc_info=error, extra=fields)
        if not self._ending:
            self._stopped_by = error
            self._ending = True
            self.channel._connection._green.spawn(self._end, green.Deadline(None))
        return None
