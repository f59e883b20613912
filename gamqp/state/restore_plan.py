"""What is declared again after a loss, and in which order: exchanges, queues and their bindings.

State, no I/O. A plan is for one attempt, and one channel of gamqp's own. It gives out records as long as the broker's
replies allow; the broker answers the requests of a channel in order, so an error is that of the first one without an
answer. Consumers: ``restore_channels``. Does not belong here: sending, waiting, and what an error means
(``restore_errors``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from .restore_errors import Blame
from .topology_records import Record, RecordedBinding, RecordedConsumer, RecordedExchange, RecordedQueue
from .topology_registry import TopologyRegistry

__all__ = ('AHEAD', 'Chosen', 'DeclarationPlan', 'Topology', 'choose')

#: Which records are restored: all; or of what was declared only what the broker deletes by itself; or consumers alone.
Topology = Literal['all', 'transient', 'consumers', 'none']

# Requests that are sent before the reply to the first of them has come. So many hide the round trip, and are a few
# kilobytes; and the more there are, the more are to be sent again behind one that is refused.
AHEAD = 100


class Chosen(NamedTuple):
    """What is to be restored.

    * declared: exchanges, bindings of exchanges, queues, bindings of queues, in this order.
    * consumers: of all channels.
    * without: consumers that are recorded and not to be restored.
    """

    declared: list[Record]
    consumers: list[RecordedConsumer]
    without: list[RecordedConsumer]


def choose(
    registry: TopologyRegistry, topology: Topology = 'all', keep: Callable[[Record], object] | None = None
) -> Chosen:
    """Take the records of which *topology* and *keep*, a function of the program, approve. keep may raise or switch."""
    everything: list[Record] = []
    if topology in ('all', 'transient'):
        everything += registry.exchanges()
        everything += registry.bindings('exchange')
        everything += registry.queues()
        everything += registry.bindings('queue')
    if topology == 'transient':
        everything = [record for record in everything if _is_transient(registry, record)]
    consumers = registry.consumers()
    if topology == 'none':
        return Chosen([], [], consumers)
    if keep is None:
        return Chosen(everything, consumers, [])
    declared = [record for record in everything if keep(record)]
    kept = [consumer for consumer in consumers if keep(consumer)]
    without = set(consumers).difference(kept)
    # An exclusive queue is gone for certain, and nothing can be bound to it.
    gone = {record for record in everything if isinstance(record, RecordedQueue) and record.exclusive}
    names = {queue.name for queue in gone.difference(declared)}
    declared = [record for record in declared if _queue_of(record) not in names]
    return Chosen(declared, kept, [consumer for consumer in consumers if consumer in without])


def _queue_of(record: Record) -> str | None:
    """The queue that a binding leads to."""
    is_of_queue = isinstance(record, RecordedBinding) and record.destination_type == 'queue'
    return record.destination if is_of_queue and isinstance(record, RecordedBinding) else None


def _is_transient(registry: TopologyRegistry, record: Record) -> bool:
    if isinstance(record, (RecordedExchange, RecordedQueue)):
        return record.is_transient
    assert isinstance(record, RecordedBinding)
    to_queue = record.destination_type == 'queue'
    ends = (
        registry.exchange(record.source),
        registry.queue(record.destination) if to_queue else registry.exchange(record.destination),
    )
    return any(end is not None and end.is_transient for end in ends)


class DeclarationPlan:
    """Declares records again, on a channel that does nothing else.

    The caller sends what ``next`` gives, until it gives None, and says what came of it: ``answered`` for each reply,
    in order, or ``refused`` when the broker has closed the channel, and then it opens another one and goes on. So no
    record is sent twice but those behind one that was refused, of which the broker took no notice. Each step takes the
    same time, however many records there are.

    * records: all of them.
    * renamed: the name before -> the new one, of queues that the broker has named.
    * skipped: (record, error).
    """

    def __init__(
        self, registry: TopologyRegistry, records: Iterable[Record], blame: Blame | None = None, ahead: int = AHEAD
    ) -> None:
        self._registry = registry
        self._ahead = ahead
        records = list(records)
        self.records = frozenset(records)
        first, suspects = (blame or Blame()).split(records)
        first, behind = _without_dependents(first, suspects)
        self._pending = deque(first)
        # In this order, when all before has been answered: the suspects one at a time, and what depends on them.
        self._suspects, self._behind = deque(suspects), deque(behind)
        self._sent: deque[Record] = deque()
        self._there: set[Record] = set()  # to be left as they are
        self._naming: set[Record] = set()  # sent, and the broker has still to say their new name
        # Queues and others that cannot be declared now -> what depends on them.
        self._locked: dict[Record, list[Record]] = {}
        self._deferred: dict[Record, list[Record]] = {}
        self.renamed: dict[str, str] = {}
        self.skipped: list[tuple[Record, BaseException]] = []

    def __repr__(self) -> str:
        pending = len(self._pending) + len(self._suspects) + len(self._behind)
        return f'<{type(self).__name__} {pending} to send, {len(self._sent)} sent>'

    @property
    def done(self) -> bool:
        """Whether ``next`` has given all, and all is answered, but for ``locked`` and ``deferred``."""
        return not (self._pending or self._suspects or self._behind or self._sent)

    @property
    def unanswered(self) -> list[Record]:
        """Those whose replies have still to come, oldest first."""
        return list(self._sent)

    @property
    def locked(self) -> bool:
        """Whether there are records to be tried again in this attempt, by ``try_locked``."""
        return bool(self._locked)

    @property
    def deferred(self) -> list[list[Record]]:
        """What is to be tried again when the connection is open: each record, and behind it what depends on it."""
        return [[record, *dependents] for record, dependents in self._deferred.items()]

    def next(self) -> Record | None:
        """The record to send next; None if a reply is to be awaited first, or ``done``."""
        sent = self._sent
        while len(sent) < self._ahead and self._has_pending():
            record = self._pending[0]
            if isinstance(record, RecordedBinding):
                ends = self._ends(record)
                if not self._naming.isdisjoint(ends):
                    return None  # its queue gets a new name
                if self._hold_back(record, ends):
                    self._pending.popleft()
                    continue
            self._pending.popleft()
            if record in self._there or not self._registry.holds(record):
                continue  # or the program has taken it out meanwhile
            sent.append(record)
            if isinstance(record, RecordedQueue) and record.server_named:
                self._naming.add(record)
            return record
        return None

    def is_there(self, record: Record) -> None:
        """This one need not be declared."""
        self._there.add(record)

    def _has_pending(self) -> bool:
        if not self._pending and not self._sent:
            if self._suspects:
                self._pending.append(self._suspects.popleft())
            else:
                self._pending, self._behind = self._behind, deque()
        return bool(self._pending)

    def _ends(self, binding: RecordedBinding) -> list[Record]:
        """Those of its ends that are recorded."""
        registry = self._registry
        to_queue = binding.destination_type == 'queue'
        destination = registry.queue(binding.destination) if to_queue else registry.exchange(binding.destination)
        return [end for end in (destination, registry.exchange(binding.source)) if end is not None]

    def _hold_back(self, binding: RecordedBinding, ends: list[Record]) -> bool:
        for held in (self._locked, self._deferred):
            for end in ends:
                if end in held:
                    held[end].append(binding)
                    return True
        return False

    def answered(self, reply: tuple[Any, ...]) -> Record:
        """A reply has come. Returns the record that has been declared."""
        record = self._sent.popleft()
        if isinstance(record, RecordedQueue) and record.server_named:
            self._naming.discard(record)
            old, new = record.name, reply[0]
            self._registry.queue_renamed(record, new)
            if record.name == new != old:
                self.renamed[old] = new
        return record

    def refused(self) -> Record | None:
        """The broker has closed the channel. Returns the record that it refused, to ``skip``, ``lock`` or ``defer``.

        None if all was answered: the channel was closed for another reason.
        """
        sent, self._sent = self._sent, deque()
        self._naming.clear()
        if not sent:
            return None
        culprit = sent.popleft()
        self._pending.extendleft(reversed(sent))
        return culprit

    def skip(self, record: Record, error: BaseException) -> None:
        """Go on without it; what depends on it is tried all the same."""
        self.skipped.append((record, error))

    def lock(self, record: Record) -> None:
        """The broker has it locked. All exclusive queues wait for ``try_locked``, and what depends on them.

        All, since in most cases the broker has not noticed that the connection before has ended, and each that it
        refused would cost a channel. Those of which that is not known are tried first then.
        """
        refused = {record: self._locked.pop(record, [])}
        for other in [each for each in self._pending if isinstance(each, RecordedQueue) and each.exclusive]:
            self._locked[other] = []
        self._pending = deque(each for each in self._pending if each not in self._locked)
        self._locked.update(refused)

    def try_locked(self) -> None:
        """Declare again what is ``locked``."""
        locked, self._locked = self._locked, {}
        self._pending.extend(locked)
        for dependents in locked.values():
            self._pending.extend(dependents)

    def defer_locked(self) -> None:
        """The time for what is ``locked`` is over."""
        locked, self._locked = self._locked, {}
        for record, dependents in locked.items():
            self._deferred.setdefault(record, []).extend(dependents)

    def defer(self, record: Record) -> None:
        """It may be declared when the connection is open: it and what depends on it are ``deferred``."""
        self._deferred.setdefault(record, [])

    def waits_for(self, consumer: RecordedConsumer) -> bool:
        """Whether the queue of this consumer is still to be declared."""
        queue = consumer.queue_record
        return queue is not None and (queue in self._locked or queue in self._deferred)


def _without_dependents(first: list[Record], suspects: list[Record]) -> tuple[list[Record], list[Record]]:
    """The bindings of exchanges and queues under suspicion cannot come before these. Returns the others, and them."""
    names = {(record.kind, record.name) for record in suspects if isinstance(record, (RecordedExchange, RecordedQueue))}
    if not names:
        return first, []
    behind = {
        record: None
        for record in first
        if isinstance(record, RecordedBinding)
        and not names.isdisjoint({('exchange', record.source), (record.destination_type, record.destination)})
    }
    return [record for record in first if record not in behind], list(behind)
