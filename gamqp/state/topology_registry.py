"""The topology of one connection: what it has declared and what consumes, to be declared again after a loss.

State, no I/O. The methods named as those of a channel are called before the method is sent, and return what is to be
called with the broker's reply: by the reader, so that a declaration counts also if its caller was killed meanwhile.
What the broker deletes by itself (auto-delete queues and exchanges, bindings of what is deleted) is forgotten here,
too, one after the other. Every method takes time for the records that it concerns, and only those that list records
take time for all. Does not belong here: what is restored, and in which order (``restore_plan``).
https://www.rabbitmq.com/docs/queues#temporary-queues https://www.rabbitmq.com/docs/e2e
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .topology_bindings import DESTINATIONS, Bindings, Destination
from .topology_consumers import RecordedConsumers
from .topology_records import (
    REPLY_TO,
    BindingKey,
    Record,
    RecordedBinding,
    RecordedConsumer,
    RecordedExchange,
    RecordedQueue,
    arguments_key,
    copy_of_arguments,
    is_predeclared,
)

__all__ = ('Done', 'TopologyRegistry')

#: To be called with the broker's reply, or with () where none is wanted.
Done = Callable[[Any], None]

Named = TypeVar('Named', RecordedExchange, RecordedQueue)

# Equal tables of arguments are kept once, for ten thousand consumers. So many different ones are remembered for that.
SHARED_ARGUMENTS = 1000


class TopologyRegistry:
    """The records of one connection.

    resume: consumers that the broker cancels stay recorded, to be started again.
    """

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume
        self._exchanges: dict[str, RecordedExchange] = {}
        self._queues: dict[str, RecordedQueue] = {}  # by their present names
        self._former: dict[str, RecordedQueue] = {}  # by names that they had before
        self._bindings = Bindings()
        self._consumers = RecordedConsumers()
        self._arguments: dict[bytes, dict[str, Any]] = {}
        self._declared = 0  # gives each record its order
        self._has_unrestored = False  # whether there was a record that is not to be restored

    def __repr__(self) -> str:
        return (
            f'<{type(self).__name__} {len(self._exchanges)} exchanges, {len(self._queues)} queues, '
            f'{len(self._bindings)} bindings, {len(self._consumers)} consumers>'
        )

    # -- reading -----------------------------------------------------------------------

    def exchanges(self) -> list[RecordedExchange]:
        """Those to be restored, in the order of their first declaration. So are the lists of queues and bindings."""
        return _in_order(self._exchanges.values())

    def queues(self) -> list[RecordedQueue]:
        return _in_order(self._queues.values())

    def bindings(self, destination_type: Destination) -> list[RecordedBinding]:
        return _in_order(self._bindings.all(destination_type))

    def consumers(self, channel: int | None = None) -> list[RecordedConsumer]:
        """Of one channel, or of all, in the order in which each channel has started them."""
        consumers = self._consumers.all() if channel is None else self._consumers.of_channel(channel)
        return [consumer for consumer in consumers if consumer.recover]

    def holds(self, record: Record) -> bool:
        """Whether this record is still to be restored, and not forgotten since it was listed."""
        if not record.recover:
            return False
        if isinstance(record, RecordedExchange):
            return self._exchanges.get(record.name) is record
        if isinstance(record, RecordedQueue):
            return self._queues.get(record.name) is record
        if isinstance(record, RecordedConsumer):
            return self._consumers.get(record.channel, record.tag) is record
        return record in self._bindings

    def exchange(self, name: str) -> RecordedExchange | None:
        """The record of an exchange, also one that is not to be restored."""
        return self._exchanges.get(name)

    def queue(self, name: str) -> RecordedQueue | None:
        """The record of a queue, also one that is not to be restored."""
        return self._queues.get(name)

    def consumer(self, channel: int, tag: str) -> RecordedConsumer | None:
        """The record of a consumer, also one that is not to be restored."""
        return self._consumers.get(channel, tag)

    def queue_name(self, name: str) -> str:
        """The present name of a queue that was called *name* when it was declared, or before its last new name."""
        queue = self._former.get(name)
        return name if queue is None else queue.name

    def topology(self) -> list[dict[str, Any]]:
        """All records as new dicts, in the order in which they are restored."""
        exchanges, queues = self.exchanges(), self.queues()
        to_exchanges, to_queues = self.bindings('exchange'), self.bindings('queue')
        # Arguments are copied: a program may change what it gets, and records share them.
        return [
            {**record.as_dict(), 'arguments': copy_of_arguments(record.arguments)}
            for records in (exchanges, to_exchanges, queues, to_queues, self.consumers())
            for record in records
        ]

    # -- exchanges ---------------------------------------------------------------------

    def exchange_declare(
        self, exchange: str, type: str, durable: bool, auto_delete: bool, arguments: Any, recover: bool
    ) -> Done | None:
        """A declaration that is not passive. None for an exchange that the broker has by itself."""
        if is_predeclared(exchange):
            return None
        flags = bool(durable), bool(auto_delete)
        record = RecordedExchange(exchange, type, *flags, self._kept(arguments), bool(recover))
        return functools.partial(self._enter, self._exchanges, record)

    def exchange_delete(self, exchange: str) -> Done:
        return lambda reply: self._forget_exchanges([exchange])

    # -- queues ------------------------------------------------------------------------

    def queue_declare(
        self, queue: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: Any, recover: bool
    ) -> Done:
        """A declaration that is not passive. queue: '' if the broker is to choose the name, which is in its reply."""
        flags = bool(durable), bool(exclusive), bool(auto_delete)
        record = RecordedQueue(queue, *flags, self._kept(arguments), bool(recover), server_named=not queue)
        return functools.partial(self._queue_declared, record)

    def _queue_declared(self, record: RecordedQueue, reply: Any) -> None:
        if not record.name:
            if not reply:
                return  # with nowait nobody learns its name, so it cannot be restored for those who use it
            record.name = reply[0]
        self._enter(self._queues, record)

    def queue_delete(self, queue: str) -> Done:
        return lambda reply: self._forget_queue(queue)

    def queue_renamed(self, queue: RecordedQueue, name: str) -> None:
        """The broker has chosen a new name for this queue. Its bindings and consumers follow."""
        old = queue.name
        if self._queues.get(old) is not queue or name == old:
            return  # deleted meanwhile
        del self._queues[old]
        # Names between the first and the last one are forgotten, or those of a long-lived queue would fill the
        # memory. A program that follows each change knows the last one, and a program that follows none the first.
        if queue.last_name != queue.first_name:
            del self._former[queue.last_name]
        queue.first_name = queue.first_name or old
        queue.last_name, queue.name = old, name
        self._former[queue.first_name] = self._former[old] = self._queues[name] = queue
        self._bindings.rename_queue(old, name)

    # -- bindings ----------------------------------------------------------------------

    def exchange_bind(self, destination: str, source: str, routing_key: str, arguments: Any, recover: bool) -> Done:
        return self._bind('exchange', destination, source, routing_key, arguments, recover)

    def queue_bind(self, queue: str, exchange: str, routing_key: str, arguments: Any, recover: bool) -> Done:
        """queue: its name; '' if that is not known, and then nothing is recorded."""
        return self._bind('queue', queue, exchange, routing_key, arguments, recover)

    def exchange_unbind(self, destination: str, source: str, routing_key: str, arguments: Any) -> Done:
        key = source, routing_key, arguments_key(arguments)
        return functools.partial(self._unbound, 'exchange', destination, key)

    def queue_unbind(self, queue: str, exchange: str, routing_key: str, arguments: Any) -> Done:
        key = exchange, routing_key, arguments_key(arguments)
        return functools.partial(self._unbound, 'queue', queue, key)

    def _bind(self, kind: Destination, to: str, source: str, routing_key: str, arguments: Any, recover: bool) -> Done:
        record = RecordedBinding(kind, source, to, routing_key, self._kept(arguments), bool(recover))
        return functools.partial(self._bound, record)

    def _bound(self, record: RecordedBinding, reply: Any) -> None:
        known = self._bindings.find(record.destination_type, record.destination, record.key)
        if known is not None:
            known.recover = record.recover  # all else is the same
        elif record.destination:
            self._number(record)
            self._bindings.add(record)
        self._has_unrestored |= not record.recover

    def _unbound(self, destination_type: Destination, destination: str, key: BindingKey, reply: Any) -> None:
        record = self._bindings.find(destination_type, destination, key)
        if record is not None:
            self._forget_bindings([record])

    # -- consumers ---------------------------------------------------------------------

    def consume(
        self,
        channel: int,
        queue: str,
        tag: str,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        arguments: Any,
        prefetch: int,
        recover: bool,
    ) -> RecordedConsumer | None:
        """basic.consume is about to be sent. Returns the record for ``consumer_started``; None if there is none to be.

        queue: its name, '' if that is not known. prefetch: in force for this consumer, 0 for no limit.
        """
        if not queue or (queue == REPLY_TO and not recover):
            return None  # with the pseudo queue nothing is deleted
        flags = bool(no_local), bool(no_ack), bool(exclusive)
        return RecordedConsumer(channel, queue, tag, *flags, self._kept(arguments), prefetch, bool(recover))

    def consumer_started(self, record: RecordedConsumer) -> None:
        """consume-ok has come, for a new consumer, or for one that was restored or was waiting."""
        self._consumers.start(record, self._queues.get(record.queue))
        self._has_unrestored |= not record.recover

    def consumer_waits(self, record: RecordedConsumer) -> None:
        """This consumer is not at the broker, and is to be started again."""
        self._consumers.wait(record)

    def consumer_ended(self, channel: int, tag: str) -> None:
        """cancel-ok has come."""
        record = self._consumers.get(channel, tag)
        if record is not None:
            self._consumers.remove(record)
            self._forget_unused([record])

    def consumer_cancelled(self, channel: int, tag: str) -> None:
        """The broker has cancelled this consumer, most likely since its queue is gone."""
        record = self._consumers.get(channel, tag)
        if record is None:
            return
        if self.resume and record.recover:
            self._consumers.wait(record)
        else:
            self._consumers.remove(record)
        queue = self._queue_of(record)
        # A durable queue may only be out of reach. An exclusive one nobody else can delete: then the broker has another
        # reason, e.g. a consumer that does not ack.
        if queue is not None and (queue.auto_delete or not (queue.durable or queue.exclusive)):
            self._forget_queue(queue.name)

    def channel_closed(self, channel: int) -> None:
        """A channel has ended, and its consumers with it."""
        self._forget_unused(self._consumers.remove_channel(channel))

    def drop_consumers(self, channel: int) -> None:
        """The connection has ended for good: nobody is left to get these messages. What was declared stays."""
        self._consumers.remove_channel(channel)

    def connection_lost(self) -> None:
        """It will be restored. What was declared with ``recover=False`` is not, so nothing is known of it any more.

        Takes time for all records, if there are such ones.
        """
        if not self._has_unrestored:
            return
        self._has_unrestored = False
        for consumer in [each for each in self._consumers.all() if not each.recover]:
            self._consumers.remove(consumer)
        for queue in [each for each in self._queues.values() if not each.recover]:
            self._take_queue(queue.name)
            if queue.exclusive:  # the others may still be there
                self._bindings.remove(self._bindings.into('queue', queue.name))
        self._exchanges = {name: each for name, each in self._exchanges.items() if each.recover}
        for kind in DESTINATIONS:
            self._bindings.remove([each for each in self._bindings.all(kind) if not each.recover])

    def _queue_of(self, consumer: RecordedConsumer) -> RecordedQueue | None:
        """The record of its queue, unless the queue has been deleted since it began, and perhaps declared anew."""
        known = self._queues.get(consumer.queue)
        return known if consumer.queue_record in (None, known) else None

    # -- forgetting --------------------------------------------------------------------

    def forget(self, kind: str, name: str) -> bool:
        """Have something restored no more; the broker is not asked. Returns whether there was such a record.

        kind: 'exchange' or 'queue', together with its bindings, or 'consumer', and then *name* is its tag.
        """
        if kind == 'exchange':
            self._bindings.remove(self._bindings.out_of(name))
            self._bindings.remove(self._bindings.into('exchange', name))
            return self._exchanges.pop(name, None) is not None
        if kind == 'queue':
            self._bindings.remove(self._bindings.into('queue', name))
            return self._take_queue(name) is not None
        if kind == 'consumer':
            found = [consumer for consumer in self._consumers.with_tag(name) if consumer.recover]
            for consumer in found:
                consumer.recover = False  # it lives on, and its queue may go with it
                self._has_unrestored = True
            return bool(found)
        raise ValueError(f"kind: one of 'exchange', 'queue', 'consumer', not {kind!r}")

    def _take_queue(self, name: str) -> RecordedQueue | None:
        queue = self._queues.pop(name, None)
        if queue is not None and queue.first_name:
            self._former.pop(queue.first_name, None)
            self._former.pop(queue.last_name, None)
        return queue

    def _forget_queue(self, name: str) -> None:
        """A queue is gone, and its bindings with it."""
        self._take_queue(name)
        self._forget_bindings(self._bindings.into('queue', name))

    def _forget_unused(self, ended: Iterable[RecordedConsumer]) -> None:
        """These consumers have ended: an auto-delete queue goes with its last one."""
        for consumer in ended:
            queue = None if consumer.waiting else self._queue_of(consumer)
            if queue is not None and queue.auto_delete and not self._consumers.has_of(queue):
                self._forget_queue(queue.name)

    def _forget_bindings(self, bindings: Iterable[RecordedBinding]) -> None:
        """Bindings are gone: an auto-delete exchange goes with the last one that it was the source of."""
        self._forget_exchanges(self._auto_deleted(self._bindings.remove(bindings)))

    def _forget_exchanges(self, names: Iterable[str]) -> None:
        """Exchanges are gone, their bindings on both sides with them, and so perhaps others, one after the other."""
        # A list and no recursion: a chain of exchanges may be long.
        due = list(names)
        while due:
            name = due.pop()
            self._exchanges.pop(name, None)
            self._bindings.remove(self._bindings.out_of(name))
            due += self._auto_deleted(self._bindings.remove(self._bindings.into('exchange', name)))

    def _auto_deleted(self, sources: Iterable[str]) -> list[str]:
        return [name for name in sources if (known := self._exchanges.get(name)) is not None and known.auto_delete]

    # -- entering ----------------------------------------------------------------------

    def _enter(self, table: dict[str, Named], record: Named, reply: Any = ()) -> None:
        known = table.get(record.name)
        if known is not None:
            known.take(record)
        else:
            self._number(record)
            table[record.name] = record
        self._has_unrestored |= not record.recover

    def _number(self, record: RecordedExchange | RecordedQueue | RecordedBinding) -> None:
        self._declared += 1
        record.order = self._declared

    def _kept(self, arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A copy of a table of arguments, the same one for equal tables."""
        if not arguments:
            return None
        key = arguments_key(arguments)
        known = self._arguments.get(key)
        if known is None:
            if len(self._arguments) >= SHARED_ARGUMENTS:
                self._arguments.clear()
            known = self._arguments[key] = copy_of_arguments(arguments)
        return known


def _in_order(records: Iterable[Any]) -> list[Any]:
    return sorted((record for record in records if record.recover), key=lambda record: record.order)
