"""Exchanges, queues and bindings are declared again on a new socket.

Layer 4, run by the greenlet of ``engine``. Does not belong here: in which order (``state.restore_plan``), and what a
refusal means (``refusals``).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .. import exceptions
from ..state.restore_plan import DeclarationPlan
from ..state.topology_records import Record, RecordedBinding, RecordedExchange, RecordedQueue
from ..state.topology_registry import TopologyRegistry
from ..wire.spec import Queue
from .own_channel import OwnChannel
from .refusals import Refusals

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('declare',)

# Seconds between two attempts to declare what is locked: from and to.
FIRST_LOCKED_PAUSE = 0.02
LAST_LOCKED_PAUSE = 2.0

# How often a binding is tried again whose exchange or queue was not there, and seconds before that.
MOST_MISSED = 3
MISSED_PAUSE = 0.05


def declare(
    connection: Connection, topology: TopologyRegistry, plan: DeclarationPlan, refusals: Refusals, patience: float = 0.0
) -> None:
    """Declare what the plan has, on a channel of our own. Switches.

    patience: seconds for which what is locked is tried again. Raises what ends this attempt: why the socket has ended,
    TimeoutError, RecoveryStopped.
    """
    if plan.done:
        return
    channel = OwnChannel(connection)
    channel.answer()
    _await_ends_of_queues(channel, topology, _LockedWait(patience))
    _find_lasting_queues(channel, plan)
    missed = _Declaring(channel, plan, refusals).run(patience)
    for _ in range(MOST_MISSED):
        if not missed:
            break
        connection._green.sleep(MISSED_PAUSE)
        again = DeclarationPlan(topology, _with_ends(topology, missed, plan.records))
        missed = _Declaring(channel, again, refusals).run(0.0)
    for binding, error in missed.items():
        plan.skip(binding, error)
        refusals.note(binding, error)
    channel.leave()


def _await_ends_of_queues(channel: OwnChannel, topology: TopologyRegistry, waiting: _LockedWait) -> None:
    """Wait until the broker has deleted the queues that it had named for the connection before. Switches.

    Only those that auto-delete exchanges are bound to, which are deleted with them: RabbitMQ 4.3 may do so even when
    such an exchange has got another binding meanwhile.
    """
    names = [
        binding.destination
        for binding in topology.bindings('queue')
        if _is_auto_delete(topology.exchange(binding.source)) and _is_named_anew(topology.queue(binding.destination))
    ]
    names = list(dict.fromkeys(names))
    for name in names:  # which grows by those that are still there
        channel.request(Queue.Declare, (0, name, True, False, False, False, False, None))
        try:
            channel.answer()
        except exceptions.ResourceLocked:
            if not waiting.pause(channel._connection):
                return
            names.append(name)
        except exceptions.ChannelError:
            pass  # it is gone, or the program may not ask


def _find_lasting_queues(channel: OwnChannel, plan: DeclarationPlan) -> None:
    """Leave queues as they are that the broker has named and that did not go with the connection. Switches.

    A new one each time would leave the old one, and what is in it, to nobody.
    """
    for queue in [record for record in plan.records if isinstance(record, RecordedQueue)]:
        if queue.server_named and not queue.exclusive and not queue.auto_delete:
            channel.request(Queue.Declare, (0, queue.name, True, False, False, False, False, None))
            try:
                channel.answer()
            except exceptions.ChannelError:
                continue  # it is gone, or the program may not ask
            plan.is_there(queue)


def _is_auto_delete(exchange: RecordedExchange | None) -> bool:
    return exchange is not None and exchange.auto_delete


def _is_named_anew(queue: RecordedQueue | None) -> bool:
    return queue is not None and queue.server_named and queue.exclusive


def _with_ends(
    topology: TopologyRegistry, missed: Iterable[RecordedBinding], chosen: Collection[Record]
) -> list[Record]:
    """Bindings, and what they connect, as far as that is to be declared and may have been deleted meanwhile."""
    ends: dict[Record, None] = {}
    for binding in missed:
        to_queue = binding.destination_type == 'queue'
        destination = topology.queue(binding.destination) if to_queue else topology.exchange(binding.destination)
        for end in (topology.exchange(binding.source), destination):
            if end is not None and end in chosen and not (isinstance(end, RecordedQueue) and end.server_named):
                ends[end] = None
    return [*ends, *missed]


class _Declaring:
    """One plan on one channel."""

    def __init__(self, channel: OwnChannel, plan: DeclarationPlan, refusals: Refusals) -> None:
        self._channel = channel
        self._plan = plan
        self._refusals = refusals
        self._missed: dict[RecordedBinding, BaseException] = {}

    def run(self, patience: float) -> dict[RecordedBinding, BaseException]:
        """Returns the bindings for which something was not there, with the errors. Switches.

        The broker may be about to delete what the connection before had to itself, and with it what is auto-delete:
        then something that has just been declared is gone before it is bound.
        """
        plan, waiting = self._plan, _LockedWait(patience)
        try:
            while not (plan.done and not plan.locked):
                while (record := plan.next()) is not None:
                    self._channel.request(*record.request())
                if self._channel.awaits_answer:
                    self._take_answer()
                elif waiting.pause(self._channel._connection):
                    plan.try_locked()
                else:
                    plan.defer_locked()
        except BaseException as exc:
            self._refusals.attempt_failed(exc, plan.unanswered)
            raise
        return self._missed

    def _take_answer(self) -> None:
        try:
            reply = self._channel.answer()
        except exceptions.ChannelError as exc:
            culprit = self._plan.refused()
            if culprit is None:
                raise  # over no record of ours
            self._treat(culprit, exc.with_traceback(None))
        else:
            self._plan.answered(reply)

    def _treat(self, record: Record, error: exceptions.ChannelError) -> None:
        treatment = self._refusals.treat(record, error)
        if treatment == 'wait':
            self._plan.lock(record)
        elif isinstance(record, RecordedBinding) and isinstance(error, exceptions.NotFound):
            self._missed[record] = error
        else:
            if treatment == 'retry':
                self._plan.defer(record)
            else:
                self._plan.skip(record, error)
            self._refusals.note(record, error)


class _LockedWait:
    """The broker has not noticed yet that the socket before is gone."""

    def __init__(self, patience: float) -> None:
        self._until = time.monotonic() + patience
        self._pause = FIRST_LOCKED_PAUSE

    def pause(self, connection: Connection) -> bool:
        """Wait a while, longer each time. Returns whether it may be tried again. Switches."""
        if time.monotonic() >= self._until:
            return False
        connection._green.sleep(self._pause)
        self._pause = min(2 * self._pause, LAST_LOCKED_PAUSE)
        return True
