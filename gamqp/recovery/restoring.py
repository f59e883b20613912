"""Everything that a connection had is made again on its next socket, before the program may use it.

Layer 4, run by the greenlet of ``engine``: what was declared (``declaring``), then channels and consumers
(``opening_channels``). Does not belong here: when this is done, and what is tried later (``late_starts``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import greenlet

from .. import exceptions
from ..green.yielding import with_turns
from ..state.lifecycle import Reason
from ..state.recovery_settings import Recovery
from ..state.restore_plan import DeclarationPlan, choose
from ..state.topology_records import Record, RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..telemetry.log_lines import say
from .declaring import declare
from .opening_channels import OpeningChannels
from .refusals import Refusals

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('Later', 'Restored', 'is_busy', 'restore')

logger = logging.getLogger('gamqp.recovery')

# Seconds for which an attempt waits, at most, where the broker thinks that the connection before is still there. What
# is locked for longer is declared later: publishers and other consumers need not wait for it.
LOCKED_PATIENCE = 1.0


class Later(NamedTuple):
    """What is tried again while the connection is open.

    records: each with what depends on it behind it. consumers: refused, or those whose handler is still at work.
    """

    records: list[list[Record]]
    consumers: list[RecordedConsumer]


class Restored(NamedTuple):
    """consumers: how many were started. renamed: old name -> new name. later: what is still to be tried."""

    consumers: int
    renamed: dict[str, str]
    later: Later


def restore(connection: Connection, topology: TopologyRegistry, settings: Recovery, refusals: Refusals) -> Restored:
    """Restore topology, channels and consumers. Switches. Raises what ends this attempt."""
    refusals.begin_attempt()
    chosen = choose(topology, settings.topology, _keep(connection, settings))
    plan = DeclarationPlan(topology, chosen.declared, refusals.blame)
    patience = LOCKED_PATIENCE if settings.locked_timeout is None else min(LOCKED_PATIENCE, settings.locked_timeout)
    declare(connection, topology, plan, refusals, patience)
    left_out = Reason(exceptions.Lost('the consumer is not started again after a loss: keep or topology leaves it out'))
    for consumer in chosen.without:
        channel: Any = connection.channels.get(consumer.channel)
        if channel is not None:  # else the program has closed it meanwhile
            channel._end_locally(consumer.tag, left_out)
    behind: dict[RecordedConsumer, None] = {}
    at_once: list[RecordedConsumer] = []
    for consumer in with_turns(connection._green, chosen.consumers):
        if plan.waits_for(consumer) or is_busy(connection, consumer):
            behind[consumer] = None
        else:
            at_once.append(consumer)
    opening = OpeningChannels(connection, topology, at_once, refusals)
    opening.run()
    for consumer in behind:
        topology.consumer_waits(consumer)
    return Restored(len(opening.started), plan.renamed, Later(plan.deferred, [*behind, *opening.later]))


def is_busy(connection: Connection, consumer: RecordedConsumer) -> bool:
    """Whether its one handler still works on a message from before, which must not come a second time meanwhile."""
    channel = connection.channels.get(consumer.channel)
    entry = None if channel is None else channel._consumers.get(consumer.tag)
    inbox = None if entry is None else entry.inbox
    return getattr(inbox, 'concurrency', 0) == 1 and inbox is not None and bool(inbox.busy)


def _keep(connection: Connection, settings: Recovery) -> Callable[[Record], object] | None:
    keep = settings.keep
    return None if keep is None else lambda record: _asked(connection, keep, record)


def _asked(connection: Connection, keep: Callable[[dict[str, Any]], object], record: Record) -> object:
    """What the program says to a record. One that it fails on is kept."""
    try:
        return keep(record.as_dict())
    except greenlet.GreenletExit:
        raise
    except BaseException as exc:
        say(connection, logger, logging.ERROR, 'keep has failed on %s', repr(record), error=exc)
        return True
