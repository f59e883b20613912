"""A connection that recovers, under random losses at every step, refusals, silence, and kills of greenlets.

Whatever happens, there is one recovery at a time, and the connection is open in the end: everything consumes, every
receipt is resolved, and what the broker has confirmed is in its queue or was consumed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import broker_tools
import greenlets
import inside
import pytest

import gamqp
from gamqp import Recovery, exceptions, testing

SEEDS = range(broker_tools.repeats(4, 300))
STEPS = 40

#: What an attempt sends, in order, and what the program sends besides.
METHODS = (
    *('connection.start-ok', 'connection.tune-ok', 'connection.open', 'channel.open', 'confirm.select', 'basic.qos'),
    *('exchange.declare', 'queue.declare', 'queue.bind', 'basic.consume', 'channel.close', 'basic.publish'),
    *('basic.ack', 'basic.cancel'),
)

QUEUES = ('handled', 'iterated', 'called')


class Publisher:
    """Publishes numbered messages until it is killed, and keeps their receipts."""

    def __init__(self, channel: gamqp.Channel, receipts: dict[bytes, Any], next_body: Callable[[], bytes]) -> None:
        self.channel, self.receipts, self.next_body = channel, receipts, next_body
        self.task = greenlets.spawn(self._run)

    def _run(self) -> None:
        while True:
            body = self.next_body()
            try:
                self.receipts[body] = self.channel.publish(body, 'ex', random.choice(QUEUES), timeout=1)
                greenlets.sleep(0.001)
            except (exceptions.AMQPError, TimeoutError):
                greenlets.sleep(0.01)


class Program:
    """What a program does on a connection that recovers, and what it sees."""

    def __init__(self, broker: testing.Broker, seed: int) -> None:
        self.broker, self.rng = broker, random.Random(seed)
        self.events: list[str] = []
        self.got: Counter[bytes] = Counter()
        self.receipts: dict[bytes, Any] = {}
        self.count = 0
        names = ('on_lost', 'on_recovering', 'on_recovered', 'on_given_up')
        calls: Any = {name: lambda *_, name=name: self.events.append(name) for name in names}
        quick = Recovery(first_delay=0, delay=0.001, max_delay=0.02)
        self.connection = gamqp.connect(broker.url, recover=quick, rpc_timeout=0.3, confirm_timeout=0.5, **calls)
        self.publishing, self.consuming, self.calling = (self.connection.channel() for _ in range(3))
        self.publishing.confirm_select()
        channel = self.consuming
        channel.exchange_declare('ex', 'direct', durable=True, auto_delete=False)
        for name in QUEUES:
            channel.queue_declare(name, durable=True, auto_delete=False)
            channel.queue_bind(name, 'ex', name)
        channel.queue_declare('mine', exclusive=True)
        channel.subscribe('handled', self._take, prefetch=7, concurrency=self.rng.choice((1, 3)))
        channel.subscribe('mine', lambda message: None)
        self.deliveries = channel.consume('iterated', prefetch=5)
        channel.basic_qos(0, 3, False)
        channel.basic_consume('called', callback=lambda message: (self._take(message), message.ack()))
        self.iterating = greenlets.spawn(self._iterate)
        self.draining = greenlets.spawn(self._drain)
        self.publishers = [self._publisher() for _ in range(3)]
        self.others: list[greenlets.Task] = []

    def _publisher(self) -> Publisher:
        return Publisher(self.publishing, self.receipts, self._next)

    def _next(self) -> bytes:
        self.count += 1
        return b'%d' % self.count

    def _take(self, message: gamqp.Message) -> None:
        self.got[message.body] += 1

    def _iterate(self) -> None:
        for message in self.deliveries:
            self._take(message)
            message.ack()

    def _drain(self) -> None:
        while True:
            self.connection.drain_events()

    # -- steps ----------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, to the program or to its broker."""
        steps = (
            *(self._cut_at,) * 6,
            *(self._cut,) * 4,
            *(self._kill_publisher, self._call, self._call, self._kill_call, self._restart, self._silence),
            *(self._close_by_broker, self._stall, self._channel, self._refuse),
        )
        self.rng.choice(steps)()
        greenlets.sleep(self.rng.choice((0, 0, 0.001, 0.01, 0.05)))
        if self.rng.random() < 0.1:  # it takes its time
            assert inside.recoveries(self.connection) <= 1

    def _cut_at(self) -> None:
        self.broker.cut_at(self.rng.choice(METHODS), handled=self.rng.random() < 0.5, reset=self.rng.random() < 0.3)

    def _cut(self) -> None:
        self.broker.cut(after=self.rng.choice((0, 0, 1, 10, 100, 500, 1000)), reset=self.rng.random() < 0.3)

    def _kill_publisher(self) -> None:
        number = self.rng.randrange(len(self.publishers))
        self.publishers[number].task.kill()
        self.publishers[number] = self._publisher()

    def _call(self) -> None:
        channel = self.calling
        calls: tuple[Callable[[], Any], ...] = (
            lambda: channel.queue_declare('other', durable=True, auto_delete=False),
            lambda: channel.exchange_declare('other', 'fanout', auto_delete=False),
            lambda: channel.queue_bind('handled', 'ex', 'more'),
            lambda: channel.basic_get('other'),
            lambda: self.connection.wait_open(1),
            lambda: channel.subscribe('other', lambda message: None).cancel(),
            lambda: self.publishing.wait_for_confirms(0.2),
        )
        self.others.append(greenlets.spawn(self.rng.choice(calls)))

    def _channel(self) -> None:
        def use() -> None:
            with self.connection.channel() as channel:
                channel.queue_declare('brief', exclusive=True)
                channel.basic_consume('brief', callback=lambda message: None)

        self.others.append(greenlets.spawn(use))

    def _kill_call(self) -> None:
        if self.others:
            self.rng.choice(self.others).kill()

    def _restart(self) -> None:
        self.broker.restart(keep='all', abrupt=self.rng.random() < 0.5)

    def _silence(self) -> None:
        self.broker.drop_reply(self.rng.choice(METHODS[3:11]))

    def _close_by_broker(self) -> None:
        self.broker.close(code=self.rng.choice((320, 541)))

    def _stall(self) -> None:
        self.broker.stall()
        greenlets.sleep(0.01)
        self.broker.resume() if self.rng.random() < 0.5 else self.broker.cut()

    def _refuse(self) -> None:
        method = self.rng.choice(('connection.open', 'queue.declare', 'basic.consume', 'channel.open'))
        self.broker.refuse(method, 541 if method != 'connection.open' else 530)

    # -- the end ---------------------------------------------------------------------------

    def check(self) -> None:
        """Quiet again, everything works, and nothing was lost that was confirmed."""
        self.broker.clear_faults()
        for publisher in self.publishers:
            publisher.task.kill()
        for one in self.others:
            one.kill()
        self.connection.wait_open(10)
        greenlets.wait_until(lambda: self._all_settled(), 10, 'every receipt is resolved')
        greenlets.wait_until(lambda: self._consumes(), 10, f'every queue is consumed: {self.broker.describe()}')
        greenlets.wait_until(lambda: not any(len(self.broker.queue(name)) for name in QUEUES), 10, 'queues are empty')
        acked = {body for body, receipt in self.receipts.items() if receipt.state == 'acked'}
        greenlets.wait_until(lambda: not acked - set(self.got), 10, f'confirmed and not seen: {acked - set(self.got)}')
        unsent = {b for b, receipt in self.receipts.items() if getattr(receipt.error, 'sent', None) is False}
        assert not unsent & set(self.got)
        stats = self.connection.stats()
        assert stats['outages'] == stats['recoveries'] and stats['recovering'] == 0
        assert stats['recovery_attempts'] >= stats['recoveries']
        assert 'on_given_up' not in self.events
        greenlets.wait_until(self._quiet, 10, f'all is settled: {self.broker.describe()}')
        assert self.connection.recovery is None and self.connection.state == 'open'

    def _quiet(self) -> bool:
        return self.consuming.unsettled == self.publishing.unconfirmed == 0

    def _all_settled(self) -> bool:
        return all(receipt.state != 'pending' for receipt in self.receipts.values())

    def _consumes(self) -> bool:
        return all(len(self.broker.queue(name).consumers) == 1 for name in QUEUES)

    def end(self) -> None:
        tasks = [self.iterating, self.draining, *self.others, *(one.task for one in self.publishers)]
        self.connection.close()
        for task in tasks:
            task.kill()


@pytest.mark.parametrize('seed', SEEDS)
def test_whatever_happens_it_is_open_in_the_end(seed: int) -> None:
    with testing.Broker() as broker:
        program = Program(broker, seed)
        try:
            for _ in range(STEPS):
                program.step()
            program.check()
        except BaseException:
            print(f'seed {seed}: {program.connection!r} {program.connection.recovery} {program.events}')
            raise
        finally:
            program.end()
            broker.clear_faults()
        broker.wait_until(lambda: not broker.connections)


@pytest.mark.parametrize('seed', SEEDS)
def test_a_close_at_any_moment_leaves_nothing(seed: int) -> None:
    with testing.Broker() as broker:
        program = Program(broker, seed)
        try:
            for _ in range(program.rng.randrange(6)):
                program.step()
            greenlets.sleep(program.rng.random() * 0.02)
            program.broker.cut_at(program.rng.choice(METHODS))
            how = program.rng.choice(('close', 'close', 'collect', 'drain'))
            ending = greenlets.spawn(
                *((program.connection.drain, 1) if how == 'drain' else (getattr(program.connection, how),))
            )
            if program.rng.random() < 0.3:
                greenlets.sleep(program.rng.random() * 0.003)
                ending.kill()
                program.connection.close()
            else:
                try:
                    ending.get(10)
                except exceptions.RecoverableConnectionError:
                    assert how == 'drain'
            assert program.connection.state == 'closed' and program.connection.recovery is None
            opened = program.events.count('on_recovered')
            assert all(receipt.state != 'pending' for receipt in program.receipts.values())
            with pytest.raises(exceptions.AMQPError):
                program.draining.get(10)
            try:
                program.iterating.get(10)
            except exceptions.AMQPError:
                pass
            else:
                assert how == 'drain'  # which ends loops in order
        finally:
            program.end()
            broker.clear_faults()
        broker.wait_until(lambda: not broker.connections)
        assert program.events.count('on_recovered') <= opened + 1  # one may have waited for its turn
