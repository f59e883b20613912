"""What could not be restored before the connection was open again, and is tried while it is.

Layer 4. Consumers whose queue is not there, is consumed exclusively by somebody else, or has no leader; those whose
handler is still at work on a message from before; records that the program wants to be tried again. One greenlet.
Each is tried when it is due, and later each time. A consumer that may be refused is first tried on a channel of our own
(``rehearsing``), since a refusal closes the channel. Does not belong here: what is restored before (``restoring``).
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import greenlet

from .. import exceptions, green
from ..green.yielding import TICK, with_turns
from ..state.recovery_settings import Recovery
from ..state.restore_errors import treatment
from ..state.restore_plan import DeclarationPlan
from ..state.topology_records import Record, RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..telemetry.log_lines import say
from .declaring import declare
from .refusals import RecoveryStopped, Refusals
from .rehearsing import Rehearsal
from .restoring import Later, is_busy

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('LateStarts',)

logger = logging.getLogger('gamqp.recovery')

# Seconds before the first attempt; then twice as long each time, up to the settings' max_delay.
FIRST_PAUSE = 0.1
# What may cost the connection is tried twice as late after each time that it may have, so often.
MOST_DOUBLINGS = 16


class _Due:
    """When something is tried next. pause: the seconds before, of which half or more are waited, drawn at random."""

    __slots__ = ('at', 'pause')

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.at = time.monotonic() + pause * (0.5 + random.random() / 2)


class LateStarts:
    """Of one connection, for all its outages."""

    def __init__(self, settings: Recovery, topology: TopologyRegistry, refusals: Refusals) -> None:
        self._settings = settings
        self._topology = topology
        self._refusals = refusals
        self._records: list[list[Record]] = []
        self._records_due = _Due(0)
        # Those that began to wait at the same time share one of these, however many they are.
        self._consumers: dict[RecordedConsumer, _Due] = {}
        self._greenlet: Any = None
        self._backend: Any = None
        self._changed: green.Slot | None = None  # where the greenlet waits until something is due
        # What is being started on its own channel. Still here when the connection is open again: it was lost meanwhile,
        # perhaps over this one.
        self._under_way: RecordedConsumer | None = None
        # How many outages in a row a consumer may have caused. Each time its attempt may be the next loss for
        # everything else, so it comes twice as late as the one before.
        self._costs: dict[RecordedConsumer, int] = {}
        # Those that the broker has not let start on this socket, or has cancelled.
        self._refused: set[Record] = set()

    def __len__(self) -> int:
        return len(self._records) + len(self._consumers)

    def begin(self, connection: Connection, later: Later, costly: Iterable[RecordedConsumer] = ()) -> None:
        """The connection is open again. costly: what could be broken for a while, and was left out. Does not switch."""
        suspects = dict.fromkeys(costly)
        for consumer in suspects:
            self._topology.consumer_waits(consumer)
        # Cancelled by the broker while others were restored, and not started again by the attempt after that.
        cancelled = [consumer for consumer in self._consumers if consumer.waiting]
        waiting = dict.fromkeys((*later.consumers, *suspects, *cancelled))
        if self._under_way is not None:
            suspects[self._under_way] = None
            self._under_way = None
        before = self._costs
        times = {consumer: before.get(consumer, 0) + (consumer in suspects) for consumer in (*before, *suspects)}
        self._costs = {
            consumer: min(so_often, MOST_DOUBLINGS) for consumer, so_often in times.items() if consumer in waiting
        }
        first = self._records_due = _Due(FIRST_PAUSE)
        self._consumers = {
            consumer: _Due(FIRST_PAUSE * 2 ** self._costs[consumer]) if consumer in self._costs else first
            for consumer in waiting
        }
        self._records = later.records
        self._refused = {*suspects, *cancelled, *(record for record, _ in self._refusals.noted)}
        if len(self):
            self._start(connection)

    def add(self, connection: Connection, consumer: RecordedConsumer) -> None:
        """The broker has cancelled this consumer. Does not switch."""
        self._consumers[consumer] = _Due(FIRST_PAUSE)
        self._refused.add(consumer)
        if not connection.is_open:
            return  # it is being restored, and ``begin`` follows
        if self._greenlet is None:
            self._start(connection)
        elif self._changed is not None:
            self._changed.succeed()

    def stop(self) -> None:
        """The connection is lost, or closed. Does not switch."""
        # New ones: the greenlet may take a step before it ends.
        self._records, self._consumers = [], {}
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
        me = greenlet.getcurrent()
        try:
            while len(self) and link.reason is None:
                self._wait()
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

    def _wait(self) -> None:
        """Until something is due, or something more has come."""
        dues = set(self._consumers.values())
        if self._records:
            dues.add(self._records_due)
        self._changed = green.Slot(self._backend)
        try:
            self._changed.wait(max(TICK, min(due.at for due in dues) - time.monotonic()))
        finally:
            self._changed = None

    def _try_all(self, connection: Connection, me: Any) -> None:
        """Try what is due. me: the present greenlet. Switches."""
        try:
            if self._records and self._records_due.at <= time.monotonic():
                self._records_due = self._next_due(self._records_due)
                self._try_records(connection, me)
            self._try_consumers(connection, me)
        except RecoveryStopped as exc:
            self._records, self._consumers = [], {}
            text = '%s: nothing more is started until the next loss: %s'
            say(connection, logger, logging.WARNING, text, repr(connection), str(exc))
        except exceptions.ChannelError as exc:  # over nothing that was asked for; the next time may do better
            text = '%s: what is still to be started is tried again: %s'
            say(connection, logger, logging.WARNING, text, repr(connection), str(exc))

    def _next_due(self, due: _Due) -> _Due:
        return _Due(min(2 * due.pause, self._settings.max_delay))

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
        consumers, now = self._consumers, time.monotonic()
        waiting_for = {record for group in self._records for record in group}
        next_dues: dict[_Due, _Due] = {}
        for consumer in with_turns(self._backend, [one for one, due in consumers.items() if due.at <= now]):
            if self._greenlet is not me:
                return
            # Not one that the program has cancelled meanwhile, which the registry does not hold.
            if consumer.waiting and self._topology.holds(consumer):
                due = consumers[consumer]
                if due not in next_dues:
                    next_dues[due] = self._next_due(due)
                if consumer.queue_record in waiting_for:
                    consumers[consumer] = self._records_due  # with its queue
                    continue
                # Before the attempt, which may raise. The broker may cancel it again in its last moment.
                due = consumers[consumer] = next_dues[due]
                if is_busy(connection, consumer) or not self._try_consumer(connection, consumer, me):
                    continue
                if consumers.get(consumer) is not due:
                    continue
            consumers.pop(consumer, None)

    def _try_consumer(self, connection: Connection, consumer: RecordedConsumer, me: Any) -> bool:
        """Start it, if the broker lets it. Returns whether it is not to be tried again. Switches."""
        channel = self._channel_of(connection, consumer)
        if channel is None:
            return True
        if not channel.is_open:
            return False
        queue, rehearsal = consumer.queue_record, None
        # Of a queue that is ours alone, and has just been declared, nobody is refused.
        if queue is None or not queue.exclusive or not self._refused.isdisjoint((consumer, queue)):
            rehearsal = Rehearsal(connection, consumer)
            error = rehearsal.refusal()
            if error is not None:
                self._refused.add(consumer)
                rehearsal.end()
                return treatment(consumer, error) not in ('retry', 'wait')
            if not rehearsal.holds:
                rehearsal.end()
                rehearsal = None
        is_over = self._start_consumer(connection, channel, consumer, me)
        if rehearsal is not None:
            rehearsal.end()
        return is_over

    def _start_consumer(self, connection: Connection, channel: Any, consumer: RecordedConsumer, me: Any) -> bool:
        """The same, of one that the broker lets start."""
        # The program may have cancelled it in the meantime, and the broker may have closed its channel.
        if not self._topology.holds(consumer) or self._channel_of(connection, consumer) is not channel:
            return True
        if not channel.is_open:
            return False
        self._under_way = consumer
        try:
            channel._start_later(consumer)
        except exceptions.AMQPError:
            if connection._link.reason is not None or self._greenlet is not me:
                raise
            # Its channel has ended, over something else, and the consumer with it.
        self._under_way = None
        self._costs.pop(consumer, None)
        return True

    @staticmethod
    def _channel_of(connection: Connection, consumer: RecordedConsumer) -> Any:
        """The channel on which it is to be started; None if the program has closed that, or cancelled the consumer."""
        channel: Any = connection.channels.get(consumer.channel)
        return channel if channel is not None and consumer.tag in channel._consumers else None
