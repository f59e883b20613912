"""A virtual host: its exchanges, queues and bindings, and the way of a message from exchange to queues.

Layer 5, pure. Does not belong here: checks of names, arguments and permissions, which are the handlers' of methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .dead_lettering import dead_letter, is_automatic_circle
from .exchange import Binding, Exchange, frozen, make_exchange
from .message import Entry, StoredMessage
from .policies import Policies
from .queue import Queue
from .queue_quorum import QuorumQueue
from .stream import Stream

if TYPE_CHECKING:
    from .server import Server
    from .session import Session

__all__ = ('VirtualHost',)

Name = str | bytes
_KINDS: dict[str, type[Queue]] = {kind.kind: kind for kind in (Queue, QuorumQueue, Stream)}
_PREDECLARED = (
    ('', 'direct'),
    ('amq.direct', 'direct'),
    ('amq.fanout', 'fanout'),
    ('amq.headers', 'headers'),
    ('amq.match', 'headers'),
    ('amq.rabbitmq.trace', 'topic'),
    ('amq.topic', 'topic'),
)


class VirtualHost:
    """One virtual host. generation: changes with everything that routes depend on."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.clock = server.clock
        self.version = server.version
        self.generation = 0
        self.policies = Policies()
        self.queues: dict[Name, Queue] = {}
        self.exchanges: dict[Name, Exchange] = {}
        for exchange, kind in _PREDECLARED:
            self.add_exchange(exchange, kind, True, False, exchange == 'amq.rabbitmq.trace', {})
        self._to: dict[tuple[str, Name], set[Binding]] = {}  # the bindings of each destination

    def __repr__(self) -> str:
        return f'<VirtualHost {self.name!r}, {len(self.queues)} queues, {len(self.exchanges)} exchanges>'

    # Messages.

    def route(self, exchange: Exchange, message: StoredMessage) -> list[Queue]:
        """The queues that a message goes to, each once."""
        return self._route(exchange, message)[0]

    def route_by_key(self, exchange: Exchange, message: StoredMessage) -> list[Queue] | None:
        """The same if it depends on the routing key alone, so that it holds for equal keys; else None."""
        queues, by_key_alone = self._route(exchange, message)
        return queues if by_key_alone else None

    def _route(self, exchange: Exchange, message: StoredMessage) -> tuple[list[Queue], bool]:
        found: dict[Queue, None] = {}
        by_key_alone = True
        todo, seen = [exchange], {exchange.name}
        for one in todo:
            targets = self._targets(one, message)
            by_key_alone = by_key_alone and one.by_key_alone
            if not targets and one.alternate is not None:
                targets = [('exchange', one.alternate)]
            for kind, name in targets:
                if kind == 'queue':
                    queue = self.queues[name]
                    if queue.leader is None or queue.leader.running:
                        found[queue] = None
                elif name not in seen and name in self.exchanges:
                    seen.add(name)
                    todo.append(self.exchanges[name])
        # As from RabbitMQ, where that is the usual order, though it promises none between queues.
        return sorted(found, key=_octets_of_name), by_key_alone

    def _targets(self, exchange: Exchange, message: StoredMessage) -> list[tuple[str, Name]]:
        targets: list[tuple[str, Name]] = []
        for key in message.routing_keys:
            if exchange.name == '':
                targets += [('queue', key)] if key in self.queues else []
            else:
                targets += exchange.targets(key, message)
        return targets

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        """A message leaves *queue* by its end: on to the dead-letter exchange, if there is one."""
        name = queue.dead_letter_exchange
        exchange = None if name is None else self.exchanges.get(name)
        if exchange is None:
            return
        containers = self.version.message_containers
        letter = dead_letter(queue, entry.message, reason, self.clock.time(), containers)
        letter.failures = entry.deliveries if containers else 0
        for target in self.route(exchange, letter):
            if not is_automatic_circle(letter, target, reason):
                target.publish(letter)

    def policies_changed(self) -> None:
        """Have all queues and exchanges go by the policies of now."""
        self.generation += 1
        for queue in list(self.queues.values()):
            queue.apply_policy(self.policies.definition_for(queue.kind, queue.name))
        for exchange in self.exchanges.values():
            exchange.apply_policy(self.policies.definition_for('exchange', exchange.name))

    # Exchanges and bindings.

    def add_exchange(
        self, name: Name, kind: Name, durable: bool, auto_delete: bool, internal: bool, arguments: dict[Any, Any]
    ) -> Exchange:
        """Make an exchange. Raises a Refusal for a type that is not known."""
        exchange = make_exchange(self.name, name, kind, durable, auto_delete, internal, arguments)
        exchange.typed_headers = self.version.typed_headers
        exchange.apply_policy(self.policies.definition_for('exchange', name))
        self.exchanges[name] = exchange
        self.generation += 1
        return exchange

    def delete_exchange(self, exchange: Exchange) -> None:
        """Delete an exchange and its bindings, and the auto-delete exchanges that had no other."""
        if self.exchanges.pop(exchange.name, None) is None:
            return
        self.generation += 1
        for binding in exchange.bindings:
            self._to[binding.target].discard(binding)
        exchange.bindings = {}
        self._unbind_destination(('exchange', exchange.name))

    def bind(self, source: Exchange, kind: str, destination: Name, key: Name, arguments: dict[Any, Any]) -> None:
        """Add a binding, unless it is there. Raises a Refusal when this type of exchange does not take such."""
        source.check_binding(key, arguments, self.queues[destination].kind if kind == 'queue' else '')
        if source.bind(kind, destination, key, arguments):
            self.generation += 1
            binding = Binding(source.name, kind, destination, key, frozen(arguments))
            self._to.setdefault(binding.target, set()).add(binding)

    def unbind(self, source: Exchange, kind: str, destination: Name, key: Name, arguments: dict[Any, Any]) -> bool:
        """Take a binding away; False if it is not there. An auto-delete exchange goes with its last one."""
        return self._unbind(Binding(source.name, kind, destination, key, frozen(arguments)))

    def _unbind(self, binding: Binding) -> bool:
        source = self.exchanges.get(binding.source)
        if source is None or not source.unbind(binding):
            return False
        self.generation += 1
        self._to[binding.target].discard(binding)
        if source.auto_delete and not source.bindings:
            self.delete_exchange(source)
        return True

    def _unbind_destination(self, target: tuple[str, Name]) -> None:
        for binding in list(self._to.get(target, ())):
            self._unbind(binding)
        self._to.pop(target, None)

    def bindings_to(self, kind: str, name: Name) -> list[Binding]:
        """The bindings of a destination."""
        return list(self._to.get((kind, name), ()))

    # Queues.

    def add_queue(
        self,
        name: Name,
        kind: str,
        durable: bool,
        auto_delete: bool,
        owner: Session | None,
        arguments: dict[Any, Any],
    ) -> Queue:
        """Make a queue."""
        queue = _KINDS[kind](self, name, durable, auto_delete, owner, arguments)
        self.queues[name] = queue
        self.generation += 1
        if owner is not None:
            owner.exclusive_queues.append(queue)
        return queue

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue with its bindings and messages. Returns how many are lost. Its consumers are told."""
        if queue.deleted:
            return 0
        count = queue.lost_by_deletion
        queue.close()
        self.generation += 1
        if self.queues.get(queue.name) is queue:
            del self.queues[queue.name]
            self._unbind_destination(('queue', queue.name))
        for consumer in list(queue.consumers):
            queue.consumers.remove(consumer)
            consumer.channel.consumers.pop(consumer.tag, None)
            # After the reply to the method that deletes the queue, as from RabbitMQ.
            self.server.later(lambda consumer=consumer: consumer.channel.notify_cancelled(consumer))  # type: ignore[misc]
        return count


def _octets_of_name(queue: Queue) -> bytes:
    return queue.name if isinstance(queue.name, bytes) else queue.name.encode()
