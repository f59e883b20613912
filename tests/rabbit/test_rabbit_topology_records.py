"""What is recorded of a topology is what the broker has: after random calls, and when all of it was declared again."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import broker_tools
import greenlets
import inside
import pytest

import gamqp
from gamqp import exceptions
from gamqp.state.restore_plan import DeclarationPlan, choose
from gamqp.state.topology_registry import TopologyRegistry

KEYS = ('x', 'y')
CALLS = broker_tools.repeats(60, 3000)


class Program:
    """Random calls on channels of one connection; nobody else uses these names."""

    def __init__(self, connection: gamqp.Connection, seed: int) -> None:
        self.draw = random.Random(seed)
        self.connection = connection
        self.registry = inside.record_topology(connection)
        self.channels = [connection.channel() for _ in range(2)]
        prefix = broker_tools.fresh_name('t')
        self.exchanges = [f'{prefix}.e{number}' for number in range(4)]
        self.queues = [f'{prefix}.q{number}' for number in range(4)]
        self.tags: list[tuple[gamqp.Channel, str]] = []

    def call(self) -> bool:
        """One call, which the broker may refuse. Returns whether consumers may have ended."""
        draw = self.draw
        channel = draw.choice(self.channels)
        exchange, other = sorted(draw.sample(self.exchanges, 2))
        queue, key = draw.choice(self.queues), draw.choice(KEYS)
        durable, some = draw.random() < 0.5, draw.random() < 0.5
        calls: list[tuple[int, Any]] = [
            (
                5,
                lambda: channel.exchange_declare(draw.choice(self.exchanges), 'direct', durable=True, auto_delete=some),
            ),
            (5, lambda: channel.queue_declare(queue, durable=durable, exclusive=not durable, auto_delete=some)),
            (8, lambda: channel.queue_bind(queue, draw.choice(self.exchanges), key)),
            (5, lambda: channel.exchange_bind(other, exchange, key)),
            (3, lambda: channel.queue_unbind(queue, exchange, key)),
            (3, lambda: channel.exchange_unbind(other, exchange, key)),
            (1, lambda: channel.queue_delete(queue)),
            (1, lambda: channel.exchange_delete(exchange)),
            (4, lambda: self.tags.append((channel, channel.basic_consume(queue, callback=print)))),
            (3, self.cancel),
        ]
        call = draw.choices([call for _, call in calls], [weight for weight, _ in calls])[0]
        try:
            call()
        except exceptions.ChannelError:
            return True  # with the channel
        return call == self.cancel

    def cancel(self) -> None:
        if self.tags:
            channel, tag = self.tags.pop(self.draw.randrange(len(self.tags)))
            channel.basic_cancel(tag)

    # -- the same question to the registry and the broker --------------------------------

    def recorded(self) -> tuple[set[str], set[tuple[str, str]]]:
        """The names of exchanges and queues, and by which exchange and key a message comes to a queue."""
        registry = self.registry
        names = {exchange.name for exchange in registry.exchanges()} | {queue.name for queue in registry.queues()}
        routes = {(binding.source, binding.routing_key) for binding in registry.bindings('queue')}
        links = {(each.source, each.destination, each.routing_key) for each in registry.bindings('exchange')}
        while more := {(source, key) for source, to, key in links if (to, key) in routes} - routes:
            routes |= more
        return names, routes

    def held(self, observer: gamqp.Channel) -> tuple[set[str], set[tuple[str, str]]]:
        names, routes = set(), set()
        for exchange in self.exchanges:
            with contextlib.suppress(exceptions.NotFound):
                observer.exchange_declare(exchange, 'direct', passive=True)
                names.add(exchange)
                routes.update((exchange, key) for key in KEYS if reaches_a_queue(observer, exchange, key))
        for queue in self.queues:
            with contextlib.suppress(exceptions.NotFound):
                try:
                    observer.queue_declare(queue, passive=True)
                except exceptions.ResourceLocked:
                    pass  # an exclusive one
                names.add(queue)
        return names, routes

    def check(self, observer: gamqp.Channel) -> None:
        # The broker deletes an auto-delete queue a moment after it has answered the cancel.
        with contextlib.suppress(TimeoutError, AssertionError):
            greenlets.wait_until(lambda: self.held(observer) == self.recorded())
        assert self.held(observer) == self.recorded()

    def delete_all(self, channel: gamqp.Channel) -> None:
        def delete(queue: str) -> bool:
            with contextlib.suppress(exceptions.ResourceLocked):
                channel.queue_delete(queue)
                return True
            return False

        for name in self.queues:
            # An exclusive queue may outlive its connection for a moment, and is locked.
            greenlets.wait_until(lambda: delete(name))  # noqa: B023
        for name in self.exchanges:
            channel.exchange_delete(name)


def reaches_a_queue(observer: gamqp.Channel, exchange: str, key: str) -> bool:
    while True:
        try:
            observer.publish(b'', exchange, key, mandatory=True).wait()
        except exceptions.Returned:
            return False
        except exceptions.MessageNacked:
            continue  # a queue went when the broker had found it: what is there now?
        return True


def declare_again(registry: TopologyRegistry, channel: gamqp.Channel) -> None:
    plan = DeclarationPlan(registry, choose(registry).declared)
    while (record := plan.next()) is not None:
        plan.answered(inside.ask(channel, *record.request()))
    assert plan.done


@pytest.mark.filterwarnings('ignore:exchange_declare. auto_delete is deprecated')
@pytest.mark.parametrize('seed', range(2))
def test_the_records_are_what_the_broker_has_and_can_be_declared_again(rabbit: Any, seed: int) -> None:
    with rabbit.connect() as other:
        observer = other.channel()
        with rabbit.connect() as connection:
            program = Program(connection, seed)
            for number in range(CALLS):
                # The broker deletes auto-delete queues by and by. A binding that RabbitMQ 4.3.6 makes meanwhile may
                # keep a part of the exchange, and then each connection that declares that is ended (541).
                if program.call() or number % 15 == 0:
                    program.check(observer)
            program.check(observer)
            before = program.registry.topology()
        left = [record for record in before if record['kind'] != 'consumer']
        assert program.registry.topology() == left
        program.delete_all(observer)
        with rabbit.connect() as connection:
            declare_again(program.registry, connection.channel())
            assert program.registry.topology() == left
            program.check(observer)
            program.delete_all(connection.channel())
