"""Every public call, ready to be interrupted: what to do, and what must hold afterwards, interrupted or not.

Each function of `OPS` takes a `Bench` and returns (call, check): `call()` is the one to interrupt,
`check(done, result)` runs after it has ended, one way or the other, and puts things back as they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import broker_tools
import greenlets
from proxy import Proxy

import gamqp

OPS: dict[str, Callable[[Any], Any]] = {}
STOCK = broker_tools.repeats(100, 1000)  # messages in the queue that is taken from


class Bench:
    """A connection through a proxy, with neighbours that use it all the time, and the books of every message."""

    def __init__(self, rabbit: Any, proxy: Proxy, rng: random.Random) -> None:
        self.rabbit, self.proxy, self.rng = rabbit, proxy, rng
        self.url = proxy.url(rabbit)
        self.connection = gamqp.connect(self.url, rpc_timeout=20)
        self.channel = self.connection.channel()
        self.confirming = self.connection.channel()
        self.confirming.confirm_select()
        self.stock = broker_tools.shared_queue(self.channel)
        self.sink = broker_tools.shared_queue(self.channel)
        self.fanout = broker_tools.fresh_name('ex')
        self.channel.exchange_declare(self.fanout, 'fanout', durable=True, auto_delete=False)
        broker_tools.publish_all(self.channel, self.stock, [b'%d' % number for number in range(STOCK)])
        self.alone = True  # one call at a time, but for the neighbours
        self.acked: list[int] = []
        self.sent: list[str] = []
        self.maybe: set[str] = set()
        self._made = 0
        self._running = True
        self._neighbours = [greenlets.spawn(self._live_next_door, number) for number in range(3)]

    def body(self) -> str:
        self._made += 1
        return f'm{self._made}'

    def book(self, done: bool, body: str) -> None:
        """A message was published, for certain or perhaps."""
        self.sent.append(body) if done else self.maybe.add(body)

    def probe(self) -> None:
        """The connection works, and answers come to those who asked."""
        assert self.connection.connected
        for channel in (self.channel, self.confirming):
            assert channel.queue_declare(self.sink, passive=True).queue == self.sink
        self.proxy.check()

    def no_consumers(self) -> None:
        greenlets.wait_until(lambda: self.channel.queue_declare(self.stock, passive=True).consumer_count == 0)

    def _live_next_door(self, number: int) -> None:
        channel = self.channel if number % 2 else self.connection.channel()
        queue = channel.queue_declare(f'neighbour.{number}', exclusive=True, auto_delete=False).queue
        while self._running:
            assert channel.queue_declare(queue, passive=True).queue == queue
            greenlets.sleep(0.001)

    def close(self) -> None:
        """End, and check the books against what the broker has."""
        self._running = False
        for task in self._neighbours:
            task.get()
        # Two of ours and two of the neighbours': nobody who was interrupted left one.
        greenlets.wait_until(lambda: len(self.connection.channels) == 4, what='no channel is left over')
        self.connection.close()
        assert self.proxy.streams[0].whole
        with self.rabbit.connect() as connection:
            channel = connection.channel()
            broker_tools.wait_ready(channel, self.stock, STOCK - len(self.acked))
            left = [int(bytes(message.body)) for message in broker_tools.get_all(channel, self.stock)]
            assert sorted(left + self.acked) == list(range(STOCK))
            there = [message.properties['message_id'] for message in broker_tools.get_all(channel, self.sink)]
            assert len(there) == len(set(there))
            assert set(self.sent) <= set(there) <= set(self.sent) | self.maybe
            channel.queue_delete(self.stock)
            channel.queue_delete(self.sink)
            channel.exchange_delete(self.fanout)


def op(fn: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
    OPS[fn.__name__] = fn
    return fn


def _nothing(done: bool, result: Any) -> None:
    pass


# -- connections and channels --------------------------------------------------------------------------------


@op
def connect(bench):
    connection = gamqp.Connection(f'127.0.0.1:{bench.proxy.port}', virtual_host=bench.rabbit.vhost)

    def check(done, result):
        assert connection.connected == done
        connection.close()
        assert connection.sock is None

    return connection.connect, check


@op
def close_connection(bench):
    connection = gamqp.connect(bench.url)
    connection.channel()

    def check(done, result):
        connection.close()
        assert not connection.connected
        assert connection.sock is None

    return connection.close, check


@op
def channel(bench):
    def check(done, result):
        if done:
            result.close()

    return bench.connection.channel, check


@op
def close_channel(bench):
    channel = bench.connection.channel()
    message = channel.basic_get(bench.stock)  # held, and requeued by the close

    def check(done, result):
        channel.close()
        greenlets.wait_until(lambda: not channel.is_open)
        if message is not None:
            assert broker_tools.raised(message.ack)

    return channel.close, check


# -- exchanges and queues --------------------------------------------------------------------------------


@op
def queue_declare(bench):
    name = broker_tools.fresh_name('declared')

    def check(done, result):
        if done:
            assert result.queue == name
        bench.channel.queue_delete(name)

    return lambda: bench.channel.queue_declare(name, exclusive=True, auto_delete=False), check


@op
def queue_declare_with_a_name_by_the_broker(bench):
    def check(done, result):
        if done:
            assert result.queue.startswith('amq.gen-')
            bench.channel.queue_delete(result.queue)

    return lambda: bench.channel.queue_declare(exclusive=True), check


@op
def queue_declare_of_what_is_not_there(bench):
    """An error and the reopening of the channel behind it; on a channel of its own, as it ends what is under way."""
    channel = bench.connection.channel()

    def check(done, result):
        if done:
            assert isinstance(result, gamqp.NotFound)
        # When nobody waited any more, the error comes out of the next call.
        try:
            channel.queue_declare(bench.sink, passive=True)
        except gamqp.NotFound:
            pass
        assert channel.queue_declare(bench.sink, passive=True).queue == bench.sink
        channel.close()

    def call():
        try:
            channel.queue_declare('is not there', passive=True)
        except gamqp.NotFound as error:
            return error

    return call, check


@op
def queue_bind_and_unbind(bench):
    def call():
        bench.channel.queue_bind(bench.sink, bench.fanout, 'key')
        bench.channel.queue_unbind(bench.sink, bench.fanout, 'key')

    return call, lambda done, result: bench.channel.queue_unbind(bench.sink, bench.fanout, 'key')


@op
def queue_purge(bench):
    queue = bench.channel.queue_declare(exclusive=True, auto_delete=False).queue
    broker_tools.publish_all(bench.channel, queue, [b'x'] * 3)

    def check(done, result):
        if done:
            assert result == 3
        assert bench.channel.queue_delete(queue) in ((0,) if done else (0, 3))

    return lambda: bench.channel.queue_purge(queue), check


@op
def exchange_declare_bind_and_delete(bench):
    name = broker_tools.fresh_name('ex')

    def call():
        bench.channel.exchange_declare(name, 'direct', auto_delete=False, durable=True)
        bench.channel.exchange_bind(name, bench.fanout, 'key')
        bench.channel.exchange_unbind(name, bench.fanout, 'key')
        bench.channel.exchange_delete(name)

    return call, lambda done, result: bench.channel.exchange_delete(name)


# -- publishing ------------------------------------------------------------------------------------------


@op
def basic_publish(bench):
    body = bench.body()

    def call():
        for _ in range(5):  # small and large, so that some have to wait
            bench.channel.basic_publish(gamqp.Message(bytes(100_000)), '', 'no such queue')
        bench.channel.basic_publish(gamqp.Message(body, message_id=body), '', bench.sink)

    return call, lambda done, result: bench.book(done, body)


@op
def basic_publish_with_a_timeout(bench):
    body = bench.body()
    message = gamqp.Message(bytes(1_000_000), message_id=body)
    call = lambda: bench.channel.basic_publish(message, '', bench.sink, timeout=20)  # noqa: E731
    return call, lambda done, result: bench.book(done, body)


@op
def basic_publish_confirm(bench):
    body = bench.body()
    message = gamqp.Message(body, message_id=body)
    call = lambda: bench.confirming.basic_publish_confirm(message, '', bench.sink)  # noqa: E731
    return call, lambda done, result: bench.book(done, body)


@op
def confirm_select(bench):
    return bench.confirming.confirm_select, _nothing


@op
def transaction(bench):
    """A channel whose commit was interrupted is closed: RabbitMQ would bear nothing else on it."""
    body = bench.body()
    channel = bench.connection.channel()

    def call():
        channel.tx_select()
        channel.basic_publish(gamqp.Message(body, message_id=body), '', bench.sink)
        channel.tx_commit()

    def check(done, result):
        if channel.is_open:
            channel.tx_select()
            channel.tx_rollback()
            channel.close()
        else:
            assert not done
            greenlets.wait_until(lambda: not channel.is_closing)
        bench.book(done, body)

    return call, check


@op
def flush(bench):
    bench.channel.basic_publish(gamqp.Message(bytes(1_000_000)), '', 'no such queue')
    return bench.connection.flush, _nothing


# -- consuming -------------------------------------------------------------------------------------------


@op
def basic_get(bench):
    def check(done, result):
        if done and result is None:
            assert not bench.alone or len(bench.acked) == STOCK
        elif done and bench.rng.random() < 0.3:
            result.ack()
            bench.acked.append(int(bytes(result.body)))
        elif done:
            result.nack(requeue=True)
        if bench.alone:
            # At once, and not only when the channel closes: nobody else holds any.
            broker_tools.wait_ready(bench.channel, bench.stock, STOCK - len(bench.acked))

    return lambda: bench.channel.basic_get(bench.stock), check


@op
def basic_ack(bench):
    message = bench.channel.basic_get(bench.stock)
    if message is None:  # a long storm: all are acked, or in others' hands
        return int, _nothing

    def check(done, result):
        if done:
            bench.acked.append(int(bytes(message.body)))
        else:
            message.nack(requeue=True)

    return message.ack, check


@op
def basic_consume(bench):
    def check(done, result):
        if done:
            bench.channel.basic_cancel(result)
        bench.no_consumers()

    return lambda: bench.channel.basic_consume(bench.stock, callback=print), check


@op
def basic_cancel(bench):
    tag = bench.channel.basic_consume(bench.stock, callback=print)

    def check(done, result):
        bench.channel.basic_cancel(tag)
        bench.no_consumers()

    return lambda: bench.channel.basic_cancel(tag), check


@op
def basic_qos(bench):
    return lambda: bench.channel.basic_qos(0, 20, False), _nothing


@op
def basic_recover(bench):
    return lambda: bench.confirming.basic_recover(requeue=True), _nothing


@op
def flow(bench):
    return lambda: bench.channel.flow(True), _nothing


@op
def drain_events(bench):
    queue = bench.channel.queue_declare(exclusive=True, auto_delete=False).queue
    got = []
    tag = bench.channel.basic_consume(queue, callback=lambda message: got.append(bytes(message.body)), no_ack=True)

    def call():
        bench.channel.basic_publish(gamqp.Message(b'1'), '', queue)
        bench.channel.basic_publish(gamqp.Message(b'2'), '', queue)
        broker_tools.drain_until(bench.connection, lambda: len(got) == 2)

    def check(done, result):
        # Whatever was taken off the wire is still to be had, once.
        bench.channel.basic_publish(gamqp.Message(b'3'), '', queue)
        broker_tools.drain_until(bench.connection, lambda: b'3' in got)
        assert got in ([b'1', b'2', b'3'], [b'1', b'3'], [b'3'])
        bench.channel.basic_cancel(tag)
        bench.channel.queue_delete(queue)

    return call, check
