"""What a program has declared on a connection: exchanges, queues, bindings, consumers.

State, no I/O. A record has what is needed to declare the same again, as it was sent. Its arguments are a copy, so a
program may change its own dict. Records compare by identity: they are entries of one registry (``topology_registry``),
and ``keep`` and ``on_record_error`` of a program get them. Does not belong here: when a record is made and forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ..wire import Encoder
from ..wire.spec import Basic, Exchange, Queue

__all__ = (
    'REPLY_TO',
    'BindingKey',
    'Record',
    'RecordedBinding',
    'RecordedConsumer',
    'RecordedExchange',
    'RecordedQueue',
    'Request',
    'arguments_key',
    'copy_of_arguments',
    'is_predeclared',
)

#: A method and its arguments, ready for ``encode_method``.
Request = tuple[tuple[int, int], tuple[Any, ...]]

#: Source, routing key, and ``arguments_key`` of a binding.
BindingKey = tuple[str, str, bytes]

Arguments = dict[str, Any] | None

# A pseudo queue: it lives and dies with the channel of its consumer.
REPLY_TO = 'amq.rabbitmq.reply-to'


class Record:
    """Base class. kind: 'exchange', 'queue', 'binding' or 'consumer'.

    * arguments: a copy of the table that was sent, or None. To be left unchanged: records share equal ones.
    * recover: False if the program has said ``recover=False``. Such a record is known, since what the broker deletes
      by itself depends on it, but it is never restored and not shown.
    """

    __slots__ = ('arguments', 'recover')

    kind: ClassVar[str]
    arguments: Arguments
    recover: bool

    def request(self) -> Request:
        """The method that declares this again."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """The record as a new dict, with the argument names of the call that made it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        parts = [f'{name}={value!r}' for name, value in self.as_dict().items() if name != 'kind' and value]
        return f'<{self.kind} {" ".join(parts)}>'


class RecordedExchange(Record):
    """An exchange. order: its place among all that was declared."""

    __slots__ = ('auto_delete', 'durable', 'name', 'order', 'type')

    kind = 'exchange'

    def __init__(
        self, name: str, type: str, durable: bool, auto_delete: bool, arguments: Arguments, recover: bool
    ) -> None:
        self.name = name
        self.order = 0  # set by the registry
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.recover = recover

    @property
    def is_transient(self) -> bool:
        """Whether the broker may have deleted it by itself when it is back after a loss."""
        return self.auto_delete or not self.durable

    def take(self, newer: RecordedExchange) -> None:
        """It was declared again: the newest arguments count, and the place stays."""
        self.type, self.durable, self.auto_delete = newer.type, newer.durable, newer.auto_delete
        self.arguments, self.recover = newer.arguments, newer.recover

    def request(self) -> Request:
        args = (0, self.name, self.type, False, self.durable, self.auto_delete, False, False, self.arguments)
        return Exchange.Declare, args

    def as_dict(self) -> dict[str, Any]:
        return {
            'kind': self.kind,
            'exchange': self.name,
            'type': self.type,
            'durable': self.durable,
            'auto_delete': self.auto_delete,
            'arguments': self.arguments,
        }


class RecordedQueue(Record):
    """A queue.

    * name: the one that it has at the broker now. A queue that the broker has named gets a new one when it is declared
      again; first_name, last_name are then the first one and the one before.
    * server_named: it was declared with '' for a name.
    * consumers: of this connection, at the broker. Those that began before the record was made are not counted here.
    """

    __slots__ = (
        'auto_delete',
        'consumers',
        'durable',
        'exclusive',
        'first_name',
        'last_name',
        'name',
        'order',
        'server_named',
    )

    kind = 'queue'

    def __init__(
        self,
        name: str,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
        recover: bool,
        server_named: bool = False,
    ) -> None:
        self.name = name
        self.order = 0  # set by the registry
        self.first_name = self.last_name = ''
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.recover = recover
        self.server_named = server_named
        self.consumers = 0

    @property
    def is_transient(self) -> bool:
        """Whether the broker may have deleted it by itself when it is back after a loss."""
        return self.exclusive or self.auto_delete or not self.durable

    def take(self, newer: RecordedQueue) -> None:
        """It was declared again: the newest arguments count, and the place stays. The broker has named it, or not."""
        self.durable, self.exclusive, self.auto_delete = newer.durable, newer.exclusive, newer.auto_delete
        self.arguments, self.recover = newer.arguments, newer.recover

    def request(self) -> Request:
        name = '' if self.server_named else self.name
        args = (0, name, False, self.durable, self.exclusive, self.auto_delete, False, self.arguments)
        return Queue.Declare, args

    def as_dict(self) -> dict[str, Any]:
        return {
            'kind': self.kind,
            'queue': self.name,
            'durable': self.durable,
            'exclusive': self.exclusive,
            'auto_delete': self.auto_delete,
            'arguments': self.arguments,
            'server_named': self.server_named,
        }


class RecordedBinding(Record):
    """A binding of a queue or an exchange, the destination, to an exchange, the source."""

    __slots__ = ('destination', 'destination_type', 'key', 'order')

    kind = 'binding'

    def __init__(
        self,
        destination_type: Literal['queue', 'exchange'],
        source: str,
        destination: str,
        routing_key: str,
        arguments: Arguments,
        recover: bool,
    ) -> None:
        self.destination_type: Literal['queue', 'exchange'] = destination_type
        self.destination = destination
        # What tells it from the other bindings of its destination.
        self.key: BindingKey = source, routing_key, arguments_key(arguments)
        self.order = 0  # set by the registry
        self.arguments = arguments
        self.recover = recover

    @property
    def source(self) -> str:
        return self.key[0]

    @property
    def routing_key(self) -> str:
        return self.key[1]

    def request(self) -> Request:
        sig = Queue.Bind if self.destination_type == 'queue' else Exchange.Bind
        return sig, (0, self.destination, self.source, self.routing_key, False, self.arguments)

    def as_dict(self) -> dict[str, Any]:
        return {
            'kind': self.kind,
            'source': self.source,
            'destination': self.destination,
            'destination_type': self.destination_type,
            'routing_key': self.routing_key,
            'arguments': self.arguments,
        }


class RecordedConsumer(Record):
    """A consumer.

    * channel: the number of its channel.
    * prefetch: the limit of unacked deliveries that was in force when it began, 0 for none.
    * waiting: it is not at the broker: refused, or cancelled by the broker and to be resumed.
    """

    # Programs have ten thousand of these: an object takes 120 bytes.
    __slots__ = ('_queue', 'channel', 'exclusive', 'no_ack', 'no_local', 'prefetch', 'tag', 'waiting')

    kind = 'consumer'

    def __init__(
        self,
        channel: int,
        queue: str,
        tag: str,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        arguments: Arguments,
        prefetch: int,
        recover: bool,
    ) -> None:
        self.channel = channel
        # Once it has started the record of the queue, if there is one: so a new name needs no walk over the consumers.
        self._queue: str | RecordedQueue = queue
        self.tag = tag
        self.no_local = no_local
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.arguments = arguments
        self.prefetch = prefetch
        self.recover = recover
        self.waiting = False

    @property
    def queue(self) -> str:
        """The present name of the queue."""
        queue = self._queue
        return queue if isinstance(queue, str) else queue.name

    def use_queue(self, record: RecordedQueue | None) -> None:
        """It has started, and this is what is recorded of its queue."""
        self._queue = record or self.queue

    @property
    def queue_record(self) -> RecordedQueue | None:
        """The record that its queue had when the consumer began; None if this connection had not declared it."""
        queue = self._queue
        return None if isinstance(queue, str) else queue

    def request(self, to_try: bool = False) -> Request:
        """to_try: what it gets is to go back to the queue. The pseudo queue, which keeps nothing, takes no acks."""
        no_ack = self.no_ack and (not to_try or self.queue == REPLY_TO)
        args = (0, self.queue, self.tag, self.no_local, no_ack, self.exclusive, False, self.arguments)
        return Basic.Consume, args

    def as_dict(self) -> dict[str, Any]:
        return {
            'kind': self.kind,
            'channel': self.channel,
            'queue': self.queue,
            'consumer_tag': self.tag,
            'no_local': self.no_local,
            'no_ack': self.no_ack,
            'exclusive': self.exclusive,
            'arguments': self.arguments,
            'prefetch': self.prefetch,
        }


def is_predeclared(exchange: str) -> bool:
    """Whether the broker has this exchange by itself: the default one, and those of the reserved prefix."""
    return not exchange or exchange.startswith('amq.')


def copy_of_arguments(value: Any) -> Any:
    """A table of arguments that later changes of the program do not reach."""
    if isinstance(value, Mapping):
        return {key: copy_of_arguments(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copy_of_arguments(item) for item in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value  # the others cannot be changed


def arguments_key(arguments: Mapping[str, Any] | None) -> bytes:
    """Equal for tables that the broker takes for the same one: whatever their order, and by type and value.

    EncodeError for what is no table of arguments.
    """
    if not arguments:
        return b''
    encoder = Encoder()
    # Not by ==: 1 and True are different arguments. The broker sorts tables by their keys before it compares them.
    encoder.table(dict(sorted(arguments.items(), key=_text_of_key)) if isinstance(arguments, Mapping) else arguments)
    return encoder.getvalue()


def _text_of_key(item: tuple[Any, Any]) -> str:
    key = item[0]
    return key.decode('utf-8', 'replace') if isinstance(key, bytes) else str(key)
