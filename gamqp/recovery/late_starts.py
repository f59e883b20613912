"""What could not be restored before the connection was open again, and is tried while it is.

Layer 4. Consumers whose queue is not there, or is consumed exclusively by somebody else; those whose handler is still
at work on a message from before; records that the program wants to be tried again. One greenlet, while there are any.
A consumer is first tried on a channel of our own, since a refusal closes the channel. Does not belong here: what is
restored before (``restoring``).
"""

from __future__ import annotations

import logging
import random
from collections import deque
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
from .refusals import Refusals
from .restoring import Later

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('LateStarts',)

logger = logging.getLogger('gamqp.recovery')

# Seconds before the second round of attempts; then twice as long each time, up to the settings' max_delay.
FIRST_PAUSE = 0.1


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

    def __len__(self) -> int:
        return len(self._records) + len(self._consumers)

    def begin(self, connection: Connection, later: Later) -> None:
        """The connection is open again. Does not switch."""
        self._records, self._consumers = later.records, later.consumers
        if len(self):
            self._start(connection)

    def add(self, connection: Connection, consumer: RecordedConsumer) -> None:
        """The broker has cancelled this consumer. Does not switch."""
        self._consumers.append(consumer)
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
        self._greenlet = self._backend.spawn(self._run, connection, connection._link)

    # -- the greenlet ----------------------------------------------------------------------------

    def _run(self, connection: Connection, link: Any) -> None:
        """Body of the greenlet. Switches."""
        me, pause = greenlet.getcurrent(), FIRST_PAUSE
        try:
            while len(self) and link.reason is None:
                self._wait(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, self._settings.max_delay)
                self._try_records(connection)
                self._try_consumers(connection)
        except exceptions.AMQPError:
            if link.reason is None:
                raise  # else the next recovery has all of it
        except TimeoutError as exc:
            # The broker may still do what it was asked for, and nobody would know: begin anew.
            link.lose(exc)
        finally:
            if self._greenlet is me:
                self._greenlet = None

    def _wait(self, seconds: float) -> None:
        self._changed = green.Slot(self._backend)
        try:
            self._changed.wait(seconds)
        finally:
            self._changed = None

    def _try_records(self, connection: Connection) -> None:
        groups, self._records = self._records, []
        records = [record for group in groups for record in group if self._topology.holds(record)]
        if records:
            plan = DeclarationPlan(self._topology, records)
            try:
                declare(connection, self._topology, plan, self._refusals)
            except BaseException:
                self._records = groups
                raise
            self._records = plan.deferred

    def _try_consumers(self, connection: Connection) -> None:
        # Taken one by one: where this greenlet is killed, the one that it works on is recorded all the same.
        due, self._consumers = deque(self._consumers), []
        waiting_for = {record for group in self._records for record in group}
        while due:
            consumer = due.popleft()
            if self._topology.holds(consumer):  # else the program has cancelled it meanwhile
                must_wait = consumer.queue_record in waiting_for or self._is_busy(connection, consumer)
                if must_wait or not self._try_consumer(connection, consumer):
                    self._consumers.append(consumer)

    @staticmethod
    def _is_busy(connection: Connection, consumer: RecordedConsumer) -> bool:
        channel = connection.channels.get(consumer.channel)
        entry = None if channel is None else channel._consumers.get(consumer.tag)
        inbox = None if entry is None else entry.inbox
        return getattr(inbox, 'concurrency', 0) == 1 and inbox is not None and bool(inbox.busy)

    def _try_consumer(self, connection: Connection, consumer: RecordedConsumer) -> bool:
        """Start it, if the broker lets it. Returns whether it is not to be tried again. Switches."""
        channel: Any = connection.channels.get(consumer.channel)
        if channel is None or not channel.is_open or consumer.tag not in channel._consumers:
            return channel is None or consumer.tag not in channel._consumers
        error = self._rehearse(connection, consumer)
        if error is None:
            channel._start_later(consumer)
            return True
        return treatment(consumer, error) not in ('retry', 'wait')

    @staticmethod
    def _rehearse(connection: Connection, consumer: RecordedConsumer) -> exceptions.ChannelError | None:
        """Start and cancel it on a channel of our own. Returns why the broker refuses it, None if it does not."""
        channel = OwnChannel(connection)
        channel.answer()
        channel.request(Basic.Qos, (0, 1, False))  # so that one message goes back to its queue, and not all
        sig, args = consumer.request()
        error = None
        try:
            channel.answer()
            channel.request(sig, args, tag=consumer.tag)
            channel.answer()
        except exceptions.ChannelError as exc:
            error = exc
        channel.leave()  # with its consumer
        return error
