"""kombu on gamqp: every scenario below, one after the other, in this process.

    kombu_on_gamqp.py gevent|gevent-patched|gevent-transport|eventlet|… URL VHOST [SCENARIO…]

``transport`` is the transport of gamqp.kombu, in a patched process; the others are kombu's own pyamqp transport,
on gamqp by install_as_amqp. GAMQP_TEST_NODES names the broker, which is asked to close connections.
"""

from __future__ import annotations

import json
import sys

LIBRARY, URL, VHOST = sys.argv[1:4]
LIBRARY, _, HOW = LIBRARY.partition('-')
if HOW and LIBRARY == 'gevent':
    from gevent import monkey

    monkey.patch_all()
elif HOW:
    import eventlet

    eventlet.monkey_patch()

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

green.use(LIBRARY)
if HOW == 'transport':
    import gamqp.kombu

    gamqp.kombu.register()
    URL = f'g{URL}'
else:
    gamqp.install_as_amqp()

import itertools  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import amqp  # noqa: E402
import inside  # noqa: E402
import kombu  # noqa: E402
import kombu.exceptions  # noqa: E402
import kombu.transport.pyamqp  # noqa: E402
import scenarios  # noqa: E402
from kombu.asynchronous import Hub  # noqa: E402
from kombu.common import eventloop  # noqa: E402
from kombu.mixins import ConsumerMixin  # noqa: E402
from kombu.simple import SimpleQueue  # noqa: E402
from node import Node  # noqa: E402

backend = green.backend()
node = Node.attach(next(e for e in json.loads(os.environ['GAMQP_TEST_NODES']) if f':{e["port"]}/' in URL))
numbers = itertools.count()
# Seconds that kombu gives a broker to begin: its default of 5 is little on a busy machine.
CONNECT = 60
RETRY = {'max_retries': 5, 'interval_start': 0, 'interval_step': 0.1, 'interval_max': 0.5}


def name(kind: str) -> str:
    return f'{kind}.{next(numbers)}'


def durable(**arguments: Any) -> kombu.Queue:
    queue = name('queue')
    return kombu.Queue(queue, kombu.Exchange(name('exchange'), durable=True), routing_key=queue, **arguments)


def drain_until(connection: kombu.Connection, condition: Any) -> None:
    deadline = green.Deadline(60)
    while not condition():
        connection.drain_events(timeout=deadline.left())


def get_one(bound: Any, **how: Any) -> Any:
    """basic.get, until there is something."""
    deadline = green.Deadline(60)
    while not deadline.passed:
        message = bound.get(**how)
        if message is not None:
            return message
        backend.sleep(0.01)
    raise AssertionError('nothing came')


def kill_connections(*connections: kombu.Connection) -> None:
    """The broker's operator closes all connections of our virtual host; waits until these have heard of it."""
    raw = [connection.connection for connection in connections]  # kombu's attribute may connect again
    node.close_connections(VHOST)
    deadline = green.Deadline(60)
    while any(one.is_open for one in raw):
        assert not deadline.passed, raw
        backend.sleep(0.01)


# -- scenarios ------------------------------------------------------------------------------------


def the_transport_is_on_gamqp() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        if HOW == 'transport':
            assert type(connection.transport) is gamqp.kombu.Transport
            assert amqp is not gamqp
        else:
            assert type(connection.transport) is kombu.transport.pyamqp.Transport
            assert amqp is gamqp
        assert isinstance(connection.connection, gamqp.Connection)
        assert isinstance(connection.default_channel, gamqp.Channel)
        assert connection.connected
        assert connection.transport.driver_version() == gamqp.__version__
        assert connection.info()['hostname'] == '127.0.0.1'
        connection.transport.qos_semantics_matches_spec(connection.connection)
        assert issubclass(gamqp.ConnectionError, kombu.exceptions.ConnectionError)
    assert not connection.connected


def declare() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        bound = queue(connection)
        bound.declare()
        bound.declare()
        assert bound.queue_declare(passive=True).message_count == 0
        bound.unbind_from(queue.exchange, queue.routing_key)
        bound.bind_to(queue.exchange, 'another')
        assert bound.purge() == 0
        bound.delete()
        try:
            bound.queue_declare(passive=True)
        except connection.channel_errors as error:
            assert isinstance(error, gamqp.NotFound) and error.code == 404
        else:
            raise AssertionError('a queue that is gone was found')
        queue.exchange(connection).delete()


def publish_with_confirm() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT, transport_options={'confirm_publish': True}) as connection:
        queue = durable(max_length=1, queue_arguments={'x-overflow': 'reject-publish'})
        producer = connection.Producer()
        producer.publish({'n': 1}, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue])
        assert queue(connection).queue_declare(passive=True).message_count == 1
        try:
            producer.publish({'n': 2}, exchange=queue.exchange, routing_key=queue.routing_key)
        except gamqp.MessageNacked:
            pass
        else:
            raise AssertionError('a refused message counts as published')
        queue(connection).delete()


def consume() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        got: list[Any] = []
        with connection.Consumer(queue, callbacks=[lambda body, message: got.append((body, message))]) as consumer:
            consumer.qos(prefetch_count=2)
            producer = connection.Producer(serializer='json')
            for number in range(4):
                producer.publish(
                    {'n': number}, exchange=queue.exchange, routing_key=queue.routing_key, headers={'h': number}
                )
            drain_until(connection, lambda: len(got) == 2)
            assert [body for body, _ in got] == [{'n': 0}, {'n': 1}]
            assert got[1][1].headers == {'h': 1} and got[1][1].content_type == 'application/json'
            got[0][1].ack()
            got[1][1].requeue()
            for number in range(2, 5):
                drain_until(connection, lambda count=number + 1: len(got) == count)
                got[number][1].reject() if number == 2 else got[number][1].ack()
            assert sorted(body['n'] for body, _ in got) == [0, 1, 1, 2, 3]
        assert queue(connection).queue_declare(passive=True).message_count == 0
        queue(connection).delete()


def consume_without_acks_and_cancel() -> None:
    """Messages that had arrived are handed out after the cancel; acking them must send nothing."""
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        got: list[Any] = []

        def take(body: Any, message: Any) -> None:
            message.ack()
            got.append(body)
            if len(got) == 1:
                deadline = green.Deadline(60)
                while inside.waiting_events(connection.connection) < 9 and not deadline.passed:
                    backend.sleep(0.01)
                consumer.cancel()

        queue(connection).declare()
        producer = connection.Producer()
        for number in range(10):
            producer.publish(str(number), exchange=queue.exchange, routing_key=queue.routing_key)
        consumer = connection.Consumer(queue, callbacks=[take], no_ack=True)
        consumer.consume()
        drain_until(connection, lambda: len(got) == 10)
        channel = connection.default_channel
        channel.queue_declare(queue.name, passive=True)
        assert inside.incarnation(channel) == 0, 'the broker has closed the channel'
        queue(connection).delete()


def fanout() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        exchange = kombu.Exchange(name('fanout'), 'fanout', durable=True)
        queues = [kombu.Queue(name('queue'), exchange, exclusive=True) for _ in range(3)]
        got: list[Any] = []
        with connection.Consumer(queues, callbacks=[lambda body, message: (got.append(body), message.ack())]):
            connection.Producer().publish('to all', exchange=exchange)
            drain_until(connection, lambda: len(got) == 3)
        assert got == ['to all'] * 3
        exchange(connection).delete()


def time_to_live() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        last = durable()
        last(connection).declare()
        dead = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': last.name}
        of_queue = durable(message_ttl=0.05, queue_arguments=dead)
        of_message = durable(queue_arguments=dead)
        producer = connection.Producer()
        producer.publish('a', exchange=of_queue.exchange, routing_key=of_queue.routing_key, declare=[of_queue])
        message = get_one(last(connection), no_ack=True)
        assert message.headers['x-death'][0]['reason'] == 'expired'
        producer.publish(
            'b', exchange=of_message.exchange, routing_key=of_message.routing_key, declare=[of_message], expiration=0.05
        )
        assert get_one(last(connection), no_ack=True).payload == 'b'
        for queue in (last, of_queue, of_message):
            queue(connection).delete()


def priority() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable(max_priority=9)
        producer = connection.Producer()
        for level in (1, 9, 5):
            producer.publish(
                level, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], priority=level
            )
        bound = queue(connection)
        assert [get_one(bound, no_ack=True).payload for _ in range(3)] == [9, 5, 1]
        bound.delete()


def failover_between_two_urls() -> None:
    nobody = f'{URL.partition(":")[0]}://guest:guest@127.0.0.1:1//'
    with kombu.Connection(f'{nobody};{URL}', connect_timeout=CONNECT, failover_strategy='round-robin') as connection:
        connection.ensure_connection(**{**RETRY, 'interval_start': 0.01})
        assert connection.connected
        queue = durable()
        connection.Producer().publish('x', exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue])
        kill_connections(connection)
        connection.Producer().publish(
            'y', exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], retry=True, retry_policy=RETRY
        )
        bound = queue(connection)
        assert {get_one(bound, no_ack=True).payload for _ in range(2)} == {'x', 'y'}
        bound.delete()


def connection_pool_after_an_error() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        pool = connection.Pool(limit=1)
        for _ in range(3):
            with pool.acquire(block=True) as leased:
                try:
                    leased.default_channel.queue_declare(name('missing'), passive=True)
                except gamqp.NotFound:
                    pass
        with pool.acquire(block=True) as leased:
            leased.ensure_connection(**RETRY)
            kill_connections(leased)
        queue = durable()
        with pool.acquire(block=True) as leased:
            leased.Producer().publish(
                'x',
                exchange=queue.exchange,
                routing_key=queue.routing_key,
                declare=[queue],
                retry=True,
                retry_policy=RETRY,
            )
            assert get_one(queue(leased), no_ack=True).payload == 'x'
            queue(leased).delete()
        pool.force_close_all()


def heartbeat_check() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT, heartbeat=1) as connection:
        connection.connect()
        assert connection.get_heartbeat_interval() == 1
        assert connection.supports_heartbeats
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            connection.heartbeat_check(rate=2)
            backend.sleep(0.1)
        raw = connection.connection
        assert raw.is_alive()
        kill_connections(connection)
        try:
            connection.transport.heartbeat_check(raw, rate=2)
        except connection.recoverable_connection_errors:
            pass
        else:
            raise AssertionError('a heartbeat on a closed connection')


def drain_events_times_out() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT, heartbeat=1) as connection:
        connection.connect()
        for timeout in (0, 0.3, 2.2):
            began = time.monotonic()
            try:
                connection.drain_events(timeout=timeout)
            except TimeoutError:
                assert timeout - 0.01 <= time.monotonic() - began < timeout + 20
            else:
                raise AssertionError('something came')
        assert list(eventloop(connection, limit=2, timeout=0.01, ignore_timeouts=True)) == []


def ensure_after_the_broker_closed() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        revived: list[Any] = []
        queue(connection).declare()
        producer = connection.Producer()
        assert producer.channel.is_open
        kill_connections(connection)

        def publish() -> None:
            producer.publish('x', exchange=queue.exchange, routing_key=queue.routing_key)
            producer.channel.queue_declare(queue.name, passive=True)

        connection.ensure(producer, publish, on_revive=revived.append, **{**RETRY, 'interval_start': 0.01})()
        assert len(revived) == 1
        assert get_one(queue(connection), no_ack=True).payload == 'x'
        queue(connection).delete()


def a_blocked_drain_learns_that_the_broker_closed() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        connection.connect()
        outcome: list[Any] = []

        def drain() -> None:
            try:
                connection.drain_events(timeout=15)
            except Exception as error:
                outcome.append(error)

        backend.spawn(drain)
        backend.sleep(0.05)
        kill_connections()
        deadline = green.Deadline(60)
        while not outcome and not deadline.passed:
            backend.sleep(0.01)
        assert isinstance(outcome[0], connection.recoverable_connection_errors), outcome
        assert isinstance(outcome[0], gamqp.ConnectionForced), outcome
        assert 'closed by a test' in str(outcome[0])


def a_loss_between_two_drains_is_raised_and_not_mended_in_silence() -> None:
    """kombu asks ``connected`` first, and would go on with a new connection that has no consumers."""
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        got: list[Any] = []
        with connection.Consumer(
            queue, callbacks=[lambda body, message: (got.append(body), message.ack())]
        ) as consumer:
            lost = connection.connection
            kill_connections(connection)
            try:
                connection.drain_events(timeout=0.1)
            except connection.recoverable_connection_errors as error:
                assert 'closed by a test' in str(error), error
            else:
                raise AssertionError('nobody heard of the loss')
            assert not connection.connected and not lost.connected
            # What kombu's users do about it.
            drain = connection.ensure(consumer, lambda consumer: drain_until(connection, lambda: got), **RETRY)
            producer = connection.Producer()
            producer.publish(
                'x', exchange=queue.exchange, routing_key=queue.routing_key, retry=True, retry_policy=RETRY
            )
            consumer.revive(connection.default_channel)
            consumer.consume()
            drain(consumer)
        assert got == ['x']
        queue(connection).delete()


def an_idle_producer_is_reconnected_in_silence() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        queue(connection).declare()
        lost = connection.connection
        kill_connections(connection)
        assert not lost.connected
        connection.Producer().publish('x', exchange=queue.exchange, routing_key=queue.routing_key)
        assert get_one(queue(connection), no_ack=True).payload == 'x'
        queue(connection).delete()


def the_socket_is_closed_under_a_consumer() -> None:
    """What kombu's own tests do to see that a consumer is revived."""
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        got: list[Any] = []
        with connection.Consumer(
            queue, callbacks=[lambda body, message: (got.append(body), message.ack())]
        ) as consumer:
            sock = connection.connection.transport.sock
            sock.shutdown(2)
            sock.close()

            def drain_once(consumer: Any, timeout: float) -> None:
                try:
                    connection.drain_events(timeout=timeout)
                except TimeoutError:
                    pass

            drain = connection.ensure(consumer, drain_once, **RETRY)
            drain(consumer, timeout=0.1)
            connection.Producer().publish('x', exchange=queue.exchange, routing_key=queue.routing_key)
            drain_until(connection, lambda: got)
        queue(connection).delete()


def kombus_hub_polls_the_socket() -> None:
    """Deliveries that came during another call are handed out, although the socket has no more input."""
    with (
        kombu.Connection(URL, connect_timeout=CONNECT) as connection,
        kombu.Connection(URL, connect_timeout=CONNECT) as other,
    ):
        queue = durable()
        got: list[Any] = []
        hub = Hub()
        connection.register_with_event_loop(hub)
        callbacks = [lambda body, message: (got.append(body), message.ack())]
        with connection.Consumer(queue, callbacks=callbacks) as consumer:
            raw = connection.connection
            for number in range(5):
                other.Producer().publish(number, exchange=queue.exchange, routing_key=queue.routing_key)
                deadline = green.Deadline(60)
                while not inside.event_queue(raw).has_events and not deadline.passed:
                    consumer.channel.queue_declare(queue.name, passive=True)
                # No turn of our hub from here on but what drain_events gives it.
                for _ in range(2):  # the first may still be busy with the message before
                    if len(got) == number:
                        hub.run_once()
                assert got == list(range(number + 1)), got
        queue(connection).delete()
        hub.close()


def kombus_hub_hears_of_a_loss() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = durable()
        hub = Hub()
        with connection.Consumer(queue, callbacks=[print]):
            connection.register_with_event_loop(hub)
            kill_connections(connection)
            try:
                for _ in range(3):
                    hub.run_once()
            except connection.recoverable_connection_errors as error:
                assert 'closed by a test' in str(error), error
            else:
                raise AssertionError('the loop goes on polling nothing')
        hub.close()
        queue(connection).delete()


def heartbeats_are_off_by_default_where_nobody_has_patched() -> None:
    for arguments, expected in (({}, 60 if HOW else 0), ({'heartbeat': 7}, 7)):
        with gamqp.connect(URL.removeprefix('g'), **arguments) as connection:
            assert connection.heartbeat == expected, connection.heartbeat


def simple_queue() -> None:
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        queue = SimpleQueue(connection, name('simple'))
        for number in range(3):
            queue.put({'n': number})
        for number in range(3):
            message = queue.get(block=True, timeout=5)
            assert message.payload == {'n': number}
            message.ack()
        for how in ({'block': True, 'timeout': 0.1}, {'block': False}):
            try:
                queue.get(**how)
            except queue.Empty:
                pass
            else:
                raise AssertionError('more than was put')
        assert queue.qsize() == 0
        queue.queue.delete()
        queue.close()


class Worker(ConsumerMixin):
    connect_max_retries = 10

    def __init__(self, connection: kombu.Connection, queue: kombu.Queue) -> None:
        self.connection = connection
        self.queue = queue
        self.got: list[Any] = []

    def get_consumers(self, consumer: Any, channel: Any) -> Any:
        return [consumer([self.queue], callbacks=[self.take])]

    def take(self, body: Any, message: Any) -> None:
        self.got.append(body)
        message.ack()

    def wait(self, condition: Any) -> None:
        deadline = green.Deadline(60)
        while not condition():
            assert not deadline.passed, self.got
            backend.sleep(0.01)


def a_consumer_mixin_survives_the_broker() -> None:
    queue = durable()
    with (
        kombu.Connection(URL, connect_timeout=CONNECT) as connection,
        kombu.Connection(URL, connect_timeout=CONNECT) as other,
    ):
        worker = Worker(connection, queue)
        queue(other).declare()
        backend.spawn(worker.run, _tokens=0)
        for round_number in range(2):
            other.Producer().publish(
                round_number, exchange=queue.exchange, routing_key=queue.routing_key, retry=True, retry_policy=RETRY
            )
            worker.wait(lambda count=round_number + 1: len(worker.got) == count)
            if not round_number:
                kill_connections(other)
        worker.should_stop = True
        assert worker.got == [0, 1]
        queue(other).delete()


def an_abandoned_call_of_a_killed_greenlet() -> None:
    """What celery's time limits do: the channel stays usable, and the reply reaches nobody else."""
    with kombu.Connection(URL, connect_timeout=CONNECT) as connection:
        channel = connection.default_channel
        for _ in range(20):
            task = backend.spawn(channel.queue_declare, name('abandoned'), exclusive=True)
            backend.sleep(0)
            backend.kill(task)
            mine = name('mine')
            assert channel.queue_declare(mine, exclusive=True).queue == mine


SCENARIOS = (
    the_transport_is_on_gamqp,
    declare,
    publish_with_confirm,
    consume,
    consume_without_acks_and_cancel,
    fanout,
    time_to_live,
    priority,
    failover_between_two_urls,
    connection_pool_after_an_error,
    heartbeat_check,
    drain_events_times_out,
    ensure_after_the_broker_closed,
    a_blocked_drain_learns_that_the_broker_closed,
    a_loss_between_two_drains_is_raised_and_not_mended_in_silence,
    an_idle_producer_is_reconnected_in_silence,
    the_socket_is_closed_under_a_consumer,
    kombus_hub_polls_the_socket,
    kombus_hub_hears_of_a_loss,
    heartbeats_are_off_by_default_where_nobody_has_patched,
    simple_queue,
    a_consumer_mixin_survives_the_broker,
    an_abandoned_call_of_a_killed_greenlet,
)


if __name__ == '__main__':
    scenarios.main(SCENARIOS, sys.argv[4:], green)
