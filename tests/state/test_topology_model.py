"""The registry against a model of the broker: after each of many random operations both know the same.

``TOPOLOGY_OPERATIONS=100000`` in the environment for a long trial; a seed that fails is in the test's name.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from simulated_broker import Refused, SimulatedBroker
from simulated_restore import Attempt, frozen

from gamqp.state.topology_records import RecordedConsumer
from gamqp.state.topology_registry import TopologyRegistry

OPERATIONS = int(os.environ.get('TOPOLOGY_OPERATIONS', '4000'))

EXCHANGES = ['a', 'b', 'c', 'd', 'e', 'f', 'amq.topic']
QUEUES = ['p', 'q', 'r', 's', 't']
KEYS = ['', 'k']
TABLES: list[Any] = [None, {}, {'x': 1}, {'x': True}, {'x': 1, 'y': [1, {'z': 'z'}]}, {'y': [1, {'z': 'z'}], 'x': 1}]
CHANNELS = [1, 2, 3]
TAGS = ['t', 'u', 'v']
MINE, OTHERS = 'mine', 'others'


class Program:
    """A program with one connection, and other programs, which are not seen. What it has made is in ``made``."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.broker = SimulatedBroker()
        self.resume = seed % 2 == 1
        self.registry = TopologyRegistry(self.resume)
        self.waiting: set[tuple[int, str]] = set()  # consumers that the broker has cancelled, and those without a queue
        #: What this connection has declared: (kind, key) -> whether with recover=True.
        self.made: dict[Any, bool] = {}
        self.recover = True

    def step(self) -> None:
        chances = {
            self.declare_exchange: 12,
            self.declare_queue: 12,
            self.bind: 25,
            self.unbind: 8,
            self.consume: 14,
            self.cancel: 6,
            self.delete_exchange: 2,
            self.delete_queue: 2,
            self.close_channel: 1,
            self.other_programs: 8,
            self.other_deletes: 1,
            self.lose_all: 1,
            self.resume_one: 4,
        }
        self.draw.choices(list(chances), list(chances.values()))[0]()

    def do(self, at_broker: Callable[[], Any], done: Callable[[Any], None] | None, made: Any = None) -> None:
        """One call: the broker does it and its reply comes, or it closes the channel."""
        channel = self.draw.choice(CHANNELS)
        recover = self.recover
        try:
            reply = at_broker()
        except Refused:
            self.end_channel(channel)
            return
        cancels_first = self.draw.random() < 0.5
        if cancels_first:
            self.hear_cancels()
        if done is not None:
            done((reply, 0, 0) if isinstance(reply, str) else ())
        if made is not None:
            self.made[made(reply) if callable(made) else made] = recover
        self.hear_cancels()

    def hear_cancels(self) -> None:
        for connection, channel, tag in self.broker.cancelled:
            if connection == MINE:
                if self.resume and self.made['consumer', (channel, tag)]:
                    self.waiting.add((channel, tag))
                self.registry.consumer_cancelled(channel, tag)
        self.broker.cancelled.clear()

    def any_queue(self) -> str:
        return self.draw.choice([*QUEUES, *(name for name in self.broker.queues if name.startswith('amq.'))])

    def flip(self) -> bool:
        return self.draw.random() < 0.5

    # -- what the program does -----------------------------------------------------------

    def declare_exchange(self) -> None:
        self.recover = self.draw.random() < 0.9
        name, how = self.draw.choice(EXCHANGES[:-1]), ('topic', self.flip(), self.flip())
        table = self.draw.choice(TABLES)
        done = self.registry.exchange_declare(name, *how, table, self.recover)
        self.do(lambda: self.broker.exchange_declare(name, *how, frozen(table)), done, ('exchange', name))

    def declare_queue(self) -> None:
        self.recover = self.draw.random() < 0.9
        server_named = self.draw.random() < 0.2 and len(self.broker.queues) < 12
        name = '' if server_named else self.draw.choice(QUEUES)
        how = self.flip(), self.flip(), self.flip()
        table = self.draw.choice(TABLES)
        done = self.registry.queue_declare(name, *how, table, self.recover)
        self.do(lambda: self.broker.queue_declare(name, *how, frozen(table)), done, lambda name: ('queue', name))

    def ends(self) -> tuple[str, str, str, str, Any]:
        kind = self.draw.choice(['queue', 'exchange'])
        destination = self.any_queue() if kind == 'queue' else self.draw.choice(EXCHANGES)
        return kind, destination, self.draw.choice(EXCHANGES), self.draw.choice(KEYS), self.draw.choice(TABLES)

    def bind(self) -> None:
        self.recover = self.draw.random() < 0.9
        kind, *ends, table = self.ends()
        method = self.registry.queue_bind if kind == 'queue' else self.registry.exchange_bind
        done = method(*ends, table, self.recover)
        to, source, key = ends
        made = ('binding', (kind, source, to, key, frozen(table)))
        self.do(lambda: self.broker.bind(kind, to, source, key, frozen(table)), done, made)

    def unbind(self) -> None:
        if self.broker.bindings and self.flip():
            kind, source, to, key, text = self.draw.choice(sorted(self.broker.bindings))
            ends, table = [to, source, key], next(table for table in TABLES if frozen(table) == text)
        else:
            kind, *ends, table = self.ends()
        method = self.registry.queue_unbind if kind == 'queue' else self.registry.exchange_unbind
        self.do(lambda: self.broker.unbind(kind, *ends, frozen(table)), method(*ends, table))

    def delete_exchange(self) -> None:
        name = self.draw.choice(EXCHANGES[:-1])
        self.do(lambda: self.broker.exchange_delete(name), self.registry.exchange_delete(name))

    def delete_queue(self) -> None:
        name = self.any_queue()
        self.do(lambda: self.broker.queue_delete(name), self.registry.queue_delete(name))

    def consume(self) -> None:
        self.recover = self.draw.random() < 0.9
        channel, tag, queue = self.draw.choice(CHANNELS), self.draw.choice(TAGS), self.any_queue()
        if (MINE, channel, tag) in self.broker.consumers:
            return
        table = self.draw.choice(TABLES)
        record = self.registry.consume(channel, queue, tag, False, False, False, table, 10, self.recover)
        assert record is not None
        started = record
        self.do(
            lambda: self.broker.consume(MINE, channel, tag, queue),
            lambda reply: self.begin(started),
            ('consumer', (channel, tag)),
        )

    def begin(self, consumer: RecordedConsumer) -> None:
        self.registry.consumer_started(consumer)
        self.waiting.discard((consumer.channel, consumer.tag))

    def resume_one(self) -> None:
        """A consumer that waits for its queue is tried again."""
        for channel, tag in sorted(self.waiting):
            consumer = self.registry.consumer(channel, tag)
            assert consumer is not None
            if consumer.queue in self.broker.queues:
                self.broker.consume(MINE, channel, tag, consumer.queue)
                self.begin(consumer)
                self.made['consumer', (channel, tag)] = True
                return

    def cancel(self) -> None:
        mine = [consumer for consumer in self.broker.consumers if consumer[0] == MINE]
        if mine:
            _, channel, tag = self.draw.choice(mine)
            self.do(
                lambda: self.broker.cancel(MINE, channel, tag),
                lambda reply: self.registry.consumer_ended(channel, tag),
            )

    def close_channel(self) -> None:
        self.end_channel(self.draw.choice(CHANNELS))

    def end_channel(self, channel: int) -> None:
        self.broker.close_channel(MINE, channel)
        self.registry.channel_closed(channel)
        self.waiting = {consumer for consumer in self.waiting if consumer[0] != channel}

    # -- what happens to it --------------------------------------------------------------

    def other_programs(self) -> None:
        """They declare things, which this program may use without having declared them."""
        if self.flip():
            self.broker.exchanges.setdefault(self.draw.choice(EXCHANGES[:-1]), ('topic', True, False, frozen(None)))
        else:
            self.broker.queues.setdefault(self.draw.choice(QUEUES), (True, False, False, frozen(None)))

    def other_deletes(self) -> None:
        """Somebody deletes a queue that this program has declared and consumes from; the cancel says so."""
        consumed = {queue for (connection, _, _), queue in self.broker.consumers.items() if connection == MINE}
        for queue in sorted(consumed):
            durable, exclusive, auto_delete, _ = self.broker.queues[queue]
            if ('queue', queue) in self.made and (auto_delete or not (durable or exclusive)):
                self.broker.queue_delete(queue)
                self.hear_cancels()
                return

    def lose_all(self) -> None:
        """The connection is lost, and the broker comes back empty. Others declare theirs again, and then it does."""
        before, old, waited = self.broker, self.expected(), self.waiting

        def is_restored(kind: str, name: str) -> bool:
            return (kind, name) in old

        self.registry.connection_lost()
        self.broker = SimulatedBroker()
        for name, how in before.exchanges.items():
            if not is_restored('exchange', name):
                self.broker.exchanges[name] = (*how[:2], False, how[3])
        for name, how in before.queues.items():
            if not is_restored('queue', name) and not how[1]:
                self.broker.queues[name] = (*how[:2], False, how[3])
        self.broker.names = before.names
        self.waiting = set()
        renamed = self.restore()
        self.made = {key: recover for key, recover in self.made.items() if recover}
        for old_name, name in renamed.items():
            assert self.registry.queue_name(old_name) == name
        self.made = {_renamed(key, renamed): recover for key, recover in self.made.items()}
        # An exclusive queue dies with its connection. What hung on one that is not restored cannot be restored, either.
        gone = {name for name, how in before.queues.items() if how[1] and not is_restored('queue', name)}
        hung = {('binding', binding) for binding in before.bindings if binding[0] == 'queue' and binding[2] in gone}
        hung |= {('consumer', consumer[1:]) for consumer, queue in before.consumers.items() if queue in gone}
        begun = {('consumer', consumer) for consumer in waited - self.waiting}
        assert self.expected() == sorted(begun | {_renamed(entry, renamed) for entry in old if entry not in hung})

    def restore(self) -> dict[str, str]:
        attempt = Attempt(self.registry, self.broker, ahead=self.draw.choice([1, 2, 5, 100])).run()
        assert not attempt.skipped
        for consumer in attempt.retry:  # of an exclusive queue that is not restored
            assert isinstance(consumer, RecordedConsumer)
            self.waiting.add((consumer.channel, consumer.tag))
        self.made.update({('consumer', (each.channel, each.tag)): True for each in self.registry.consumers()})
        return attempt.plan.renamed

    # -- what must hold ------------------------------------------------------------------

    def expected(self) -> list[Any]:
        """What the broker holds that this connection has made, and that is to be restored."""
        held = {('exchange', name) for name in self.broker.exchanges}
        held |= {('queue', name) for name in self.broker.queues}
        held |= {('binding', binding) for binding in self.broker.bindings}
        held |= {('consumer', consumer[1:]) for consumer in self.broker.consumers if consumer[0] == MINE}
        self.made = {key: recover for key, recover in self.made.items() if key in held}
        return sorted(key for key, recover in self.made.items() if recover)

    def recorded(self) -> list[Any]:
        registry = self.registry
        bindings = registry.bindings('queue') + registry.bindings('exchange')
        return sorted(
            [('exchange', exchange.name) for exchange in registry.exchanges()]
            + [('queue', queue.name) for queue in registry.queues()]
            + [
                (
                    'binding',
                    (each.destination_type, each.source, each.destination, each.routing_key, frozen(each.arguments)),
                )
                for each in bindings
            ]
            + [('consumer', (each.channel, each.tag)) for each in registry.consumers() if not each.waiting]
        )

    def check(self) -> None:
        assert self.recorded() == self.expected()
        assert {(each.channel, each.tag) for each in self.registry.consumers() if each.waiting} == self.waiting
        for exchange in self.registry.exchanges():
            how = exchange.type, exchange.durable, exchange.auto_delete, frozen(exchange.arguments)
            assert self.broker.exchanges[exchange.name] == how
        for queue in self.registry.queues():
            how = queue.durable, queue.exclusive, queue.auto_delete, frozen(queue.arguments)
            assert self.broker.queues[queue.name] == how
        for consumer in self.registry.consumers():
            if not consumer.waiting:
                assert self.broker.consumers[MINE, consumer.channel, consumer.tag] == consumer.queue


def _renamed(key: Any, names: dict[str, str]) -> Any:
    kind, what = key
    if kind == 'queue':
        return kind, names.get(what, what)
    if kind == 'binding' and what[0] == 'queue':
        return kind, (*what[:2], names.get(what[2], what[2]), *what[3:])
    return key


@pytest.mark.parametrize('seed', range(4))
def test_the_registry_knows_what_the_broker_holds(seed: int) -> None:
    program = Program(seed)
    for _ in range(OPERATIONS // 4):
        program.step()
        program.check()
