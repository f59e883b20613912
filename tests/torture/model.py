"""A model of what many greenlets do on one connection: every result is checked, every message has an account.

`Model.work` does random operations, half of them interrupted; `Model.settle` compares the books with the broker.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable

import broker_tools
import greenlets
import inside

import gamqp

CHANNELS, QUEUES = 6, 5
NOWHERE = 'no such queue'
# Of the operations, how many are interrupted.
INTERRUPTED = 0.4


class Model:
    def __init__(self, connection: gamqp.Connection, rng: random.Random, operations: int) -> None:
        self.connection, self.rng = connection, rng
        self.left = operations
        self.channels = [connection.channel() for _ in range(CHANNELS)]
        self.queues = [broker_tools.shared_queue(self.channels[0]) for _ in range(QUEUES)]
        self.confirmed: set[str] = set()
        self.maybe: set[str] = set()  # published, and nobody waited for the confirm
        self.acked: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.cut = 0
        self._ids = itertools.count(1)
        self._operations = [getattr(self, name) for name in dir(self) if name.startswith('op_')]
        self._draining = True
        self._drainers = [greenlets.spawn(self._drain) for _ in range(2)]

    # -- the greenlets ------------------------------------------------------------------------

    def work(self) -> None:
        while self.left > 0:
            self.left -= 1
            operation = self.rng.choice(self._operations)
            name = operation.__name__
            if self.rng.random() >= INTERRUPTED:
                operation()
                self.done[name] += 1
            elif self._cut_short(operation):
                self.done[name] += 1
            else:
                self.cut += 1

    def _cut_short(self, operation: Callable[[], None]) -> bool:
        """Returns whether it came to its end before the kill or the timeout came."""
        moment = self.rng.random() ** 3 * 0.05  # most of them early, some never in time
        if self.rng.random() < 0.5:
            try:
                with broker_tools.times_out(moment):
                    operation()
                return True
            except broker_tools.Interrupted:
                return False
        victim = greenlets.spawn(operation)
        greenlets.sleep(moment)
        if victim.done:
            victim.get()
            return True
        victim.kill()
        greenlets.wait_until(lambda: victim.greenlet.dead, 60, 'a killed greenlet ends')
        return False

    def _drain(self) -> None:
        while self._draining:
            try:
                self.connection.drain_events(timeout=0.1)
            except TimeoutError:
                pass

    def settle(self, connect: Callable[[], gamqp.Connection]) -> None:
        """End, and compare the books with what the broker has."""
        assert all(not inside.incarnation(channel) for channel in self.channels), 'a shared channel was lost'
        greenlets.wait_until(
            lambda: len(self.connection.channels) == CHANNELS, what='only the shared channels are left'
        )
        self._draining = False
        for task in self._drainers:
            task.get()
        assert self.connection.drain(20)
        with connect() as connection:
            channel = connection.channel()
            there: Counter[str] = Counter()
            for queue in self.queues:
                greenlets.wait_until(lambda queue=queue: not channel.queue_declare(queue, passive=True).consumer_count)
                there.update(message.properties['message_id'] for message in broker_tools.get_all(channel, queue))
                channel.queue_delete(queue)
        everything = there + self.acked
        assert max(everything.values(), default=0) <= 1, 'doubled'
        assert self.confirmed <= set(everything), 'lost'
        assert set(everything) <= self.confirmed | self.maybe, 'out of nowhere'

    # -- what the operations have in common ---------------------------------------------------

    def channel(self) -> gamqp.Channel:
        return self.rng.choice(self.channels)

    def queue(self) -> str:
        return self.rng.choice(self.queues)

    def message(self) -> gamqp.Message:
        name = f'm{next(self._ids)}'
        return gamqp.Message(bytes(self.rng.choice((0, 10, 1000, 20_000))), message_id=name)

    def settle_one(self, message: gamqp.Message) -> None:
        """Ack it or give it back. No switch can come between the two halves of either."""
        way = self.rng.random()
        if way < 0.6:
            message.ack()
            self.acked[message.properties['message_id']] += 1
        elif way < 0.8:
            message.nack(requeue=True)
        else:
            message.reject(requeue=True)

    # -- operations ---------------------------------------------------------------------------

    def op_declare(self) -> None:
        channel, name = self.channel(), broker_tools.fresh_name('model')
        try:
            assert tuple(channel.queue_declare(name, exclusive=True, auto_delete=False)) == (name, 0, 0)
        finally:
            channel.queue_delete(name, nowait=True)

    def op_publish_and_wait(self) -> None:
        message = self.message()
        name = message.properties['message_id']
        self.maybe.add(name)
        self.channel().basic_publish_confirm(message, '', self.queue(), mandatory=self.rng.random() < 0.5)
        self.confirmed.add(name)

    def op_publish_several(self) -> None:
        """Receipts, and each has the verdict on its own message."""
        channel, receipts = self.channel(), []
        for _ in range(self.rng.randrange(1, 6)):
            message, routable = self.message(), self.rng.random() < 0.7
            name = message.properties['message_id']
            if routable:
                self.maybe.add(name)
            receipt = channel.publish(message, '', self.queue() if routable else NOWHERE, mandatory=True)
            receipts.append((receipt, name, routable))
        for receipt, name, routable in receipts:
            try:
                receipt.wait(20)
                assert routable, f'{receipt} had no queue to go to'
                self.confirmed.add(name)
            except gamqp.Returned as error:
                assert not routable, f'{receipt} had a queue'
                assert error.returned.properties['message_id'] == name

    def op_wait_for_confirms(self) -> None:
        self.channel().wait_for_confirms(20)

    def op_get(self) -> None:
        message = self.channel().basic_get(self.queue())
        if message is not None:
            self.settle_one(message)

    def op_iterate(self) -> None:
        messages = self.channel().consume(self.queue(), prefetch=self.rng.randrange(1, 20), timeout=0.02)
        try:
            for message in messages:
                self.settle_one(message)
                if self.rng.random() < 0.2:
                    break
                if self.rng.random() < 0.2:
                    greenlets.sleep(0)
        except TimeoutError:
            pass

    def op_subscribe(self) -> None:
        def handle(message: gamqp.Message) -> None:
            way = self.rng.random()
            if way < 0.3:
                greenlets.sleep(0)
            if way < 0.5:
                self.settle_one(message)
            elif way < 0.7:
                raise gamqp.NotFound('of no importance')
            else:
                message.ack()
                self.acked[message.properties['message_id']] += 1

        consumer = None
        try:
            consumer = self.channel().subscribe(
                self.queue(), handle, self.rng.randrange(1, 5), on_error=lambda message, error: 'requeue'
            )
            greenlets.sleep(self.rng.random() * 0.01)
            consumer.cancel(timeout=20)
            assert consumer.in_flight == 0
        finally:
            if consumer is not None and not inside.has_ended(consumer):
                consumer.cancel(wait=False)

    def op_consume_with_a_callback(self) -> None:
        channel = self.channel()
        tag = None
        try:
            tag = channel.basic_consume(self.queue(), callback=self.settle_one)
            greenlets.sleep(self.rng.random() * 0.01)
        finally:
            if tag is not None:
                channel.basic_cancel(tag, nowait=True)

    def op_open_and_close_a_channel(self) -> None:
        channel = self.connection.channel()
        try:
            queue = self.queue()
            assert channel.queue_declare(queue, passive=True).queue == queue
        finally:
            channel.close()

    def op_lose_a_channel(self) -> None:
        channel = self.connection.channel()
        try:
            try:
                channel.queue_declare('is not there', passive=True)
                raise AssertionError('there is a queue that nobody declared')
            except gamqp.NotFound:
                pass
            queue = self.queue()
            assert channel.queue_declare(queue, passive=True).queue == queue
        finally:
            channel.close()
