"""A connection that recovers, against a real broker: topology, channels and consumers of every kind are there again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import broker_tools
import greenlets
import inside
import pytest
from proxy import Proxy

import gamqp
from gamqp import Recovery, exceptions

QUICK = Recovery(first_delay=0, delay=0.05, max_delay=0.2)


class Reports(list[Any]):
    """What on_recovered was called with."""

    def wait(self, count: int = 1) -> Any:
        greenlets.wait_until(lambda: len(self) >= count)
        return self[count - 1]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def lasting(rabbit: Any, proxy: Proxy, reports: Reports) -> Iterator[gamqp.Connection]:
    """A connection by way of ``proxy`` that recovers at once."""
    with gamqp.connect(proxy.url(rabbit), recover=QUICK, on_recovered=reports.append) as connection:
        yield connection


class Got(list[bytes]):
    """The bodies of what has come; what was acked right before a loss comes again."""

    def take(self, message: Any) -> None:
        self.append(bytes(message.body))

    def wait(self, *bodies: bytes) -> None:
        greenlets.wait_until(lambda: set(self) == set(bodies), what=f'{bodies}, got {list(self)}')


def iterate(deliveries: gamqp.Deliveries, got: Got) -> None:
    for message in deliveries:
        got.take(message)
        message.ack()


def test_consumers_of_every_kind_go_on(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    own = lasting.channel()
    queues = [broker_tools.shared_queue(own) for _ in range(3)]
    handled, iterated, called = Got(), Got(), Got()
    consumer = own.subscribe(queues[0], handled.take)
    deliveries = own.consume(queues[1], prefetch=5)
    loop = greenlets.spawn(iterate, deliveries, iterated)
    own.basic_qos(0, 3, False)
    own.basic_consume(queues[2], callback=lambda message: (called.take(message), message.ack()))
    drain = greenlets.spawn(broker_tools.drain_for_ever, lasting)
    sent: list[bytes] = []
    for round_ in range(3):
        sent.append(b'%d' % round_)
        for queue in queues:
            broker_tools.publish_all(channel, queue, sent[-1:])
        for got in (handled, iterated, called):
            got.wait(*sent)
        if round_ < 2:
            proxy.cut()
            report = reports.wait(round_ + 1)
            assert (report.consumers, report.skipped) == (3, [])
    assert lasting.channel(own.channel_id) is own and not (consumer.in_flight or loop.done or drain.done)
    consumer.cancel()
    deliveries.close()
    loop.get()
    for queue in queues:
        own.queue_delete(queue)
    lasting.close()
    drain.kill()


@pytest.mark.filterwarnings('ignore:exchange_declare')
def test_what_was_declared_is_there_again_and_a_queue_that_the_broker_names_has_its_new_name(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports
) -> None:
    channel = lasting.channel()
    exchanges = [broker_tools.fresh_name('ex') for _ in range(2)]
    for exchange in exchanges:
        channel.exchange_declare(exchange, 'topic', durable=False, auto_delete=True)
    queue = channel.queue_declare(exclusive=True).queue
    for exchange in exchanges:
        channel.queue_bind(queue, exchange, 'a.#')
    got = Got()
    consumer = channel.subscribe(queue, got.take)
    before = lasting.topology()
    proxy.cut()
    report = reports.wait()
    new = report.renamed.pop(queue)
    assert new != queue and not report.renamed
    assert lasting.queue_name(queue) == new and lasting.queue_name('other') == 'other'
    assert repr(lasting.topology()) == repr(before).replace(queue, new)
    for exchange in exchanges:
        channel.publish(b'x', exchange, 'a.b', mandatory=True).wait()
    got.wait(b'x', b'x')
    consumer.cancel()  # the queue goes with its last consumer, and the exchanges with their last binding
    assert lasting.topology() == []


def test_a_consumer_whose_queue_is_gone_starts_as_soon_as_there_is_one(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    own = lasting.channel()
    names = [broker_tools.fresh_name() for _ in range(3)]
    gots = [Got() for _ in names]
    for name in names:
        broker_tools.shared_queue(channel, name)
    for name, got in zip(names, gots, strict=True):
        own.subscribe(name, got.take)
    gone = greenlets.spawn(channel.queue_delete, names[1])
    proxy.up.pause()  # the client hears nothing of it
    proxy.down.pause()
    gone.get()
    proxy.cut()
    proxy.up.resume()
    proxy.down.resume()
    report = reports.wait()
    assert report.consumers == 2
    assert [(record['queue'], type(error)) for record, error in report.skipped] == [(names[1], gamqp.NotFound)]
    broker_tools.shared_queue(channel, names[1])
    for name, got in zip(names, gots, strict=True):
        broker_tools.publish_all(channel, name, [b'x'])
        got.wait(b'x')
    for name in names:
        channel.queue_delete(name)


def test_an_old_ack_is_dropped_and_the_channel_stays_open(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    own, queue = lasting.channel(), broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 50)
    held: list[Any] = []
    own.basic_qos(0, 50, False)
    own.basic_consume(queue, callback=held.append)
    broker_tools.drain_until(lasting, lambda: len(held) == 50)
    proxy.cut()
    reports.wait()
    for message in held[:25]:
        message.ack()
        own.basic_ack(message.delivery_tag)
    held[-1].ack(multiple=True)
    own.basic_nack(held[30].delivery_tag, multiple=True)
    broker_tools.drain_until(lasting, lambda: len(held) == 100)
    assert all(message.redelivered for message in held[50:])
    held[-1].ack(multiple=True)
    broker_tools.wait_ready(channel, queue, 0)
    assert own.is_open and lasting.stats()['stale_settlements'] == 52
    lasting.close()
    assert broker_tools.ready(channel, queue) == 0
    channel.queue_delete(queue)


def test_each_consumer_has_the_prefetch_again_with_which_it_began(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    own = lasting.channel()
    own.confirm_select()
    limits = {broker_tools.shared_queue(channel): limit for limit in (10, 20, 30)}
    held: dict[str, list[Any]] = {queue: [] for queue in limits}
    for queue, limit in limits.items():
        broker_tools.publish_numbers(channel, queue, 40)
        own.basic_qos(0, limit, False)
        own.basic_consume(queue, callback=held[queue].append)
    broker_tools.drain_until(lasting, lambda: all(len(held[queue]) == limit for queue, limit in limits.items()))
    proxy.cut()
    reports.wait()
    for messages in held.values():
        messages.clear()
    broker_tools.drain_until(lasting, lambda: all(len(held[queue]) == limit for queue, limit in limits.items()))
    own.basic_publish(gamqp.Message('x'), routing_key=next(iter(limits)))
    assert own.wait_for_confirms()
    lasting.close()
    for queue in limits:
        channel.queue_delete(queue)


def test_requests_and_replies_go_on(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    queue = broker_tools.shared_queue(channel)
    server = gamqp.RPCServer(lasting, queue, lambda request: bytes(request.body) + b'!', concurrency=10)
    client, own, replies = gamqp.RPCClient(lasting, timeout=greenlets.PATIENCE), lasting.channel(), Got()
    own.subscribe('amq.rabbitmq.reply-to', replies.take, no_ack=True)
    for round_ in range(3):
        calls = [greenlets.spawn(client.call, b'%d' % number, queue) for number in range(20)]
        assert [bytes(call.get().body) for call in calls] == [b'%d!' % number for number in range(20)]
        own.publish(b'%d' % round_, '', queue, reply_to='amq.rabbitmq.reply-to').wait()
        replies.wait(*(b'%d!' % one for one in range(round_ + 1)))
        if round_ < 2:
            proxy.cut()
            report = reports.wait(round_ + 1)
            assert (report.consumers, report.skipped) == (2, [])
    assert own.is_open and client.channel.is_open and server.channel.is_open
    assert server.replied >= 63 and server.failed == 0  # some may come again whose acks the cut has overtaken
    client.close()
    server.close()
    channel.queue_delete(queue)


def test_an_exclusive_queue_is_there_again_when_the_broker_has_noticed_that_the_old_socket_is_gone(
    rabbit: Any, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    """The way to the broker was silent: the client has gone, and for the broker it is still there."""
    with Proxy(rabbit.node.port) as other_way:
        urls = [proxy.url(rabbit)]
        recover = Recovery(first_delay=0, delay=0.05, max_delay=0.2, locked_timeout=0)
        with gamqp.connect(lambda: urls, recover=recover, on_recovered=reports.append) as lasting:
            own, got, others, probe = lasting.channel(), Got(), Got(), gamqp.Message(b'y')
            name, shared = broker_tools.fresh_name('mine'), broker_tools.shared_queue(channel)
            own.queue_declare(name, exclusive=True)  # which is auto-delete, too
            own.queue_bind(name, 'amq.topic', f'{name}.#')
            own.subscribe(name, got.take)
            own.subscribe(shared, others.take, exclusive=True)
            urls[:] = [other_way.url(rabbit)]
            proxy.up.pause()
            inside.link(lasting).lose(exceptions.RecoverableConnectionError('the peer is silent'))
            report = reports.wait()
            assert report.consumers == 0 and report.attempts == 1
            lasting.channel().publish(b'x', 'amq.topic', f'{name}.a').wait()  # publishers need not wait for it
            proxy.up.resume()
            greenlets.wait_until(lambda: own.basic_publish(probe, 'amq.topic', f'{name}.a') or b'y' in got)
            broker_tools.publish_all(channel, shared, [b'z'])
            others.wait(b'z')
            assert lasting.stats()['outages'] == 1 and own.consumer_count == 2
            assert {record['kind'] for record, _ in report.skipped} <= {'queue', 'consumer'}
        channel.queue_delete(shared)


def test_what_cannot_be_declared_any_more_is_left_out_and_consumers_run(
    rabbit: Any, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    """A queue that has other arguments now, and a user who may not configure any more."""
    name, queues = broker_tools.fresh_name('user'), [broker_tools.fresh_name() for _ in range(2)]
    rights = {'configure': '.*', 'write': '.*', 'read': '.*'}
    rabbit.node.api(f'users/{name}', 'PUT', {'password': 'secret', 'tags': ''})
    try:
        rabbit.node.api(f'permissions/{rabbit.vhost}/{name}', 'PUT', rights)
        url = proxy.url(rabbit).replace('guest:guest', f'{name}:secret')
        with gamqp.connect(url, recover=QUICK, on_recovered=reports.append) as lasting:
            own, gots = lasting.channel(), [Got(), Got()]
            for queue, got in zip(queues, gots, strict=True):
                broker_tools.shared_queue(own, queue)
                own.subscribe(queue, got.take)
            for way in (proxy.up, proxy.down):  # the client hears nothing of this
                way.pause()
            channel.queue_delete(queues[0])
            broker_tools.shared_queue(channel, queues[0], arguments={'x-max-length': 7})
            for way in (proxy.up, proxy.down):
                proxy.cut()
                way.resume()
            report = reports.wait()
            assert [(record['queue'], error.code) for record, error in report.skipped] == [(queues[0], 406)]
            rabbit.node.api(f'permissions/{rabbit.vhost}/{name}', 'PUT', {**rights, 'configure': ''})
            # RabbitMQ asks for the rights when a channel needs them, and remembers the answers for each connection.
            proxy.cut()
            report = reports.wait(2)
            assert [(record['queue'], error.code) for record, error in report.skipped] == [
                (queue, 403) for queue in queues
            ]
            assert report.consumers == 2
            for queue, got in zip(queues, gots, strict=True):
                broker_tools.publish_all(channel, queue, [b'x'])
                got.wait(b'x')
    finally:
        rabbit.node.api(f'users/{name}', 'DELETE')
    for queue in queues:
        channel.queue_delete(queue)


@pytest.mark.slow
@pytest.mark.real_seconds
@pytest.mark.any_broker
def test_a_broker_that_was_killed_and_comes_back_is_found_again(
    node: Any, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[float] = []
    recover = Recovery(first_delay=(0, 0.2), delay=0.1, max_delay=1)
    with gamqp.connect(
        node.url(),
        recover=recover,
        on_recovered=reports.append,
        on_recovering=lambda attempt, delay, error: attempts.append(delay),
    ) as lasting:
        channel, got = lasting.channel(), Got()
        queue = broker_tools.shared_queue(channel)
        consumer = channel.subscribe(queue, got.take)
        channel.publish(b'before', '', queue, delivery_mode=2).wait()
        got.wait(b'before')
        broker_tools.in_thread(node.kill)
        greenlets.wait_until(lambda: len(attempts) >= 5)
        during = greenlets.spawn(lambda: channel.publish(b'during', '', queue, timeout=greenlets.PATIENCE).wait())
        broker_tools.in_thread(node.start)
        report = reports.wait()
        during.get()
        got.wait(b'before', b'during')
        assert report.consumers == 1 and report.attempts == len(attempts) >= 5 and not consumer.in_flight
        assert all(0 <= delay <= 1 for delay in attempts)
        lines = [one.getMessage().partition(' has failed: ')[2] for one in caplog.records]
        lines = [line for line in lines if line]
        assert len(set(lines)) == len(lines) < len(attempts), lines  # each reason once
        channel.queue_delete(queue)


def test_a_queue_that_the_broker_has_named_and_that_outlives_the_connection_keeps_its_messages(
    lasting: gamqp.Connection, proxy: Proxy, reports: Reports, channel: gamqp.Channel
) -> None:
    own = lasting.channel()
    queue = own.queue_declare('', durable=True, auto_delete=False).queue
    broker_tools.publish_all(channel, queue, [b'kept'])
    proxy.cut()
    report = reports.wait()
    assert report.renamed == {} and report.skipped == [] and lasting.queue_name(queue) == queue
    assert bytes(own.basic_get(queue, no_ack=True).body) == b'kept'
    own.queue_delete(queue)
    assert lasting.topology() == []
