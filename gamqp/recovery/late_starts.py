"""What could not be restored before the connection was open again, and is tried while it is.

Layer 4. Consumers whose queue is not there, is consumed exclusively by somebody else, or has no leader; those whose
handler is still at work on a message from before; records that the program wants to be tried again. One greenlet.
A consumer that may be refused is first tried on a channel of our own, since a refusal closes the channel. Does not
belong here: what is restored before (``restoring``).
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import greenlet

from .. import exceptions, green
from ..state.recovery_settings import Recovery
from ..state.restore_errors import treatment
from ..state.restore_plan import DeclarationPlan
from ..state.topology_records import Record, RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..wire.spec import Basic
from .declaring import declare
from .own_channel import OwnChannel
from .refusals import RecoveryStopped, Refusals
from .restoring import Later, is_busy

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('LateStarts',)

logger = logging.getLogger('gamqp.recovery')

# Seconds before the second round of attempts; then twice as long each time, up to the settings' max_delay.
FIRST_PAUSE = 0.1
MOST_DOUBLINGS = 16


class LateStarts:
    """Of one connection, for all its outages."""

    def __init__(self, settings: Recovery, topology: TopologyRegistry, refusals: Refusals) -> None:
        self._settings = settings
        self._topology = topology
        self._refusals = refusals
        self._records: list[list[Record]] = []
        self._consumers: list[RecordedConsumer] = []
        self._greenlet: Any = None
        self._backend: Any = None
        self._changed: green.Slot | None = None  # where the greenlet waits for its next round
        # How often a consumer was begun with on its own channel, and the connection was lost before it had started:
        # perhaps over it.
        self._begun: dict[RecordedConsumer, int] = {}
        # How many outages those were left out of over which the broker closes the connection, and when (time.monotonic)
        # each is due. Its attempt may be the next loss for everything else: each comes twice as late as the one before.
        self._costly: dict[RecordedConsumer, int] = {}
        self._due: dict[RecordedConsumer, float] = {}
        # Those that the broker has not let start on this socket, or has cancelled.
        self._refused: set[Record] = set()

    def __len__(self) -> int:
        return len(self._records) + len(self._consumers)

    def begin(self, connection: Connection, later: Later, costly: Iterable[RecordedConsumer] = ()) -> None:
        """The connection is open again. costly: what could be broken for a while, and was left out. Does not switch."""
        now, before = time.monotonic(), self._costly
        self._costly = {consumer: min(before.get(consumer, 0) + 1, MOST_DOUBLINGS) for consumer in costly}
        self._due = {consumer: now + FIRST_PAUSE * 2**times for consumer, times in self._costly.items()}
        self._records, self._consumers = later.records, [*later.consumers, *self._due]
        self._refused = {*self._due, *(record for record, _ in self._refusals.noted)}
        self._begun = {consumer: times for consumer, times in self._begun.items() if self._topology.holds(consumer)}
        if len(self):
            self._start(connection)

    def add(self, connection: Connection, consumer: RecordedConsumer) -> None:
        """The broker has cancelled this consumer. Does not switch."""
        self._consumers.append(consumer)
        self._refused.add(consumer)
        if self._greenlet is None:
            self._start(connection)
        elif self._changed is not None:
            self._changed.succeed()

    def stop(self) -> None:
        """The connection is lost, or closed. Does not switch."""
        self._records, self._consumers = [], []
        running, self._greenlet = self._greenlet, None
        if running is not None:
            self._backend.kill(running)

    def _start(self, connection: Connection) -> None:
        self._backend = connection._green
        # The connection weakly: what is not there may never come, and the program may drop the connection meanwhile.
        self._greenlet = self._backend.spawn(self._run, weakref.ref(connection), connection._link)

    # -- the greenlet ----------------------------------------------------------------------------

    def _run(self, connection_ref: weakref.ref[Connection], link: Any) -> None:
        """Body of the greenlet. Switches."""
        me, pause = greenlet.getcurrent(), FIRST_PAUSE * 2 ** min(max(self._begun.values(), default=0), MOST_DOUBLINGS)
        pause = min(pause, self._settings.max_delay)
        try:
            while len(self) and link.reason is None:
                self._wait(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, self._settings.max_delay)
                connection = connection_ref()
                if connection is None or link.reason is not None or self._greenlet is not me:
                    return
                self._try_all(connection, me)
                del connection
        except exceptions.AMQPError:
            if link.reason is None:
                raise  # else the next recovery has all of it
        except TimeoutError as exc:
            # The broker may still do what it was asked for, and nobody would know: begin anew.
            link.lose(exc)
        finally:
            if self._greenlet is me:
                self._greenlet = None

    def _try_all(self, connection: Connection, me: Any) -> None:
        """One round. me: the present greenlet. Switches."""
        try:
            self._try_records(connection, me)
            self._try_consumers(connection, me)
        except RecoveryStopped as exc:
            self._records, self._consumers = [], []
            logger.warning('%r: nothing more is started until the next loss: %s', connection, exc)
        except exceptions.ChannelError as exc:  # over nothing that was asked for; the next round may do better
            logger.warning('%r: what is still to be started is tried again: %s', connection, exc)

    def _wait(self, seconds: float) -> None:
        self._changed = green.Slot(self._backend)
        try:
            self._changed.wait(seconds)
        finally:
            self._changed = None

    def _try_records(self, connection: Connection, me: Any) -> None:
        groups, self._records = self._records, []
        records = [record for group in groups for record in group if self._topology.holds(record)]
        if records:
            self._refusals.begin_attempt()  # or what it has noted would grow with each round
            plan = DeclarationPlan(self._topology, records)
            try:
                declare(connection, self._topology, plan, self._refusals)
            except BaseException:
                if self._greenlet is me:
                    self._records = groups
                raise
            self._records = plan.deferred

    def _try_consumers(self, connection: Connection, me: Any) -> None:
        due, self._consumers = deque(self._consumers), []
        waiting_for = {record for group in self._records for record in group}
        try:
            while due:
                consumer = due[0]
                must_wait = consumer.queue_record in waiting_for or is_busy(connection, consumer)
                must_wait = must_wait or time.monotonic() < self._due.get(consumer, 0)
                # One that the registry does not hold the program has cancelled meanwhile.
                if self._topology.holds(consumer) and (must_wait or not self._try_consumer(connection, consumer)):
                    self._consumers.append(consumer)
                due.popleft()
        finally:
            # Those that were not reached. Where this greenlet was stopped, the next recovery has all of them.
            if self._greenlet is me:
                self._consumers.extend(due)

    def _try_consumer(self, connection: Connection, consumer: RecordedConsumer) -> bool:
        """Start it, if the broker lets it. Returns whether it is not to be tried again. Switches."""
        channel = self._channel_of(connection, consumer)
        if channel is None:
            return True
        if not channel.is_open:
            return False
        queue, rehearsal = consumer.queue_record, None
        # Of a queue that is ours alone, and has just been declared, nobody is refused. What is tried on another channel
        # takes a message there, which changes the order, or takes the queue with it when that ends.
        if queue is None or not queue.exclusive or not self._refused.isdisjoint((consumer, queue)):
            rehearsal = OwnChannel(connection)
            error = self._rehearse(rehearsal, consumer)
            if error is not None:
                self._refused.add(consumer)
                rehearsal.leave()
                return treatment(consumer, error) not in ('retry', 'wait')
            if queue is None or not queue.auto_delete:
                rehearsal.leave()
                rehearsal = None
        is_over = self._start_consumer(connection, channel, consumer)
        if rehearsal is not None:
            rehearsal.leave()  # not before: the queue goes with its last consumer
        return is_over

    def _start_consumer(self, connection: Connection, channel: Any, consumer: RecordedConsumer) -> bool:
        """The same, of one that the broker lets start."""
        # The program may have cancelled it in the meantime, and the broker may have closed its channel.
        if not self._topology.holds(consumer) or self._channel_of(connection, consumer) is not channel:
            return True
        if not channel.is_open:
            return False
        self._begun[consumer] = self._begun.get(consumer, 0) + 1
        try:
            channel._start_later(consumer)
        except exceptions.AMQPError:
            if connection._link.reason is not None:
                raise
            # Its channel has ended, over something else, and the consumer with it.
        del self._begun[consumer]
        self._costly.pop(consumer, None)
        return True

    @staticmethod
    def _channel_of(connection: Connection, consumer: RecordedConsumer) -> Any:
        """The channel on which it is to be started; None if the program has closed that, or cancelled the consumer."""
        channel: Any = connection.channels.get(consumer.channel)
        return channel if channel is not None and consumer.tag in channel._consumers else None

    @staticmethod
    def _rehearse(channel: OwnChannel, consumer: RecordedConsumer) -> exceptions.ChannelError | None:
        """Start it on a channel of our own, with which it ends. Returns why the broker refuses it, if it does."""
        channel.answer()
        channel.request(Basic.Qos, (0, 1, False))  # so that one message goes back to its queue, and not all
        sig, args = consumer.request()
        try:
            channel.answer()
            channel.request(sig, args, tag=consumer.tag)
            channel.answer()
        except exceptions.ChannelError as exc:
            return exc
        return None
