"""Groups: connections spread over the nodes of a cluster, consumers over the connections, and both moved on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import greenlets
import pytest

import gamqp
from gamqp import Recovery, exceptions, testing

QUICK = Recovery(first_delay=0, delay=0.1, max_delay=0.1)


@pytest.fixture
def cluster() -> Iterator[testing.Cluster]:
    with testing.Cluster(3) as cluster:
        yield cluster


@pytest.fixture
def group(cluster: testing.Cluster) -> Iterator[gamqp.Group]:
    with gamqp.Group(cluster.urls, connections=3, recover=QUICK) as group:
        yield group


def places(group: gamqp.Group) -> list[int]:
    """How many connections each node has, most first."""
    return sorted(Counter(connection.host for connection in group.connections).values(), reverse=True)


def declare(group: gamqp.Group, count: int) -> list[str]:
    arguments = {'x-queue-type': 'quorum'}
    with group.channel() as channel:
        return [
            channel.queue_declare(f'jobs.{number}', durable=True, auto_delete=False, arguments=arguments).queue
            for number in range(count)
        ]


def test_connections_and_consumers_are_spread(group: gamqp.Group) -> None:
    assert places(group) == [1, 1, 1]
    got: list[str] = []
    queues = declare(group, 9)
    consumers = [
        group.subscribe(queue, lambda message: got.append(message.delivery_info['routing_key'])) for queue in queues
    ]
    assert Counter(consumer.host for consumer in consumers) == {connection.host: 3 for connection in group.connections}
    for queue in queues:
        group.publish(queue, routing_key=queue).wait()
    greenlets.wait_until(lambda: sorted(got) == sorted(queues))
    stats = group.stats()
    assert len(stats) == 3 and all(one['connections'] == 1 and one['consumers'] == 3 for one in stats.values())
    assert sum(one['published'] for one in stats.values()) == 9
    assert [one['published'] for one in stats.values()] == [3, 3, 3]
    for consumer in consumers:
        consumer.cancel()
        consumer.join()
    assert group.consumer_count == 0 and consumers[0].host == '' and consumers[0].delivered == 1


def test_a_node_that_goes_takes_nothing_with_it(cluster: testing.Cluster, group: gamqp.Group) -> None:
    got: Counter[bytes] = Counter()
    queues = declare(group, 6)
    for queue in queues:
        group.subscribe(queue, lambda message: got.update([message.body]))
    cluster.nodes[0].kill()
    greenlets.wait_until(lambda: places(group) == [2, 1] and all(one.is_open for one in group.connections))
    receipts = [group.publish(b'%d' % number, routing_key=queues[number % 6]) for number in range(60)]
    for receipt in receipts:
        receipt.wait()
    greenlets.wait_until(lambda: len(got) == 60)


def test_publishes_leave_a_lost_connection_out(cluster: testing.Cluster, group: gamqp.Group) -> None:
    queue = declare(group, 1)[0]
    cluster.nodes[1].kill()
    greenlets.wait_until(lambda: 'recovering' in [one.state for one in group.connections] or places(group) == [2, 1])
    for _ in range(10):
        group.publish(b'x', routing_key=queue).wait()


def test_move_spreads_the_load_again(cluster: testing.Cluster, group: gamqp.Group) -> None:
    got: Counter[bytes] = Counter()
    queues = declare(group, 6)
    consumers = [group.subscribe(queue, lambda message: got.update([message.body])) for queue in queues]
    for node in cluster.nodes[:2]:
        node.drain()
    greenlets.wait_until(lambda: places(group) == [3] and all(one.is_open for one in group.connections))
    for node in cluster.nodes[:2]:
        node.start()
    sent = 0
    while places(group) != [1, 1, 1]:
        assert group.move(greenlets.PATIENCE) and sent < 60
        for queue in queues:
            group.publish(b'%d' % sent, routing_key=queue).wait()
            sent += 1
    greenlets.wait_until(lambda: len(got) == sent)
    assert group.consumer_count == 6
    assert {consumer.host for consumer in consumers} <= {connection.host for connection in group.connections}
    assert all(len(cluster.queue(queue).consumers) == 1 for queue in queues)
    assert sum(consumer.delivered for consumer in consumers) == sum(got.values()) == sent


def test_the_age_moves_connections_one_at_a_time(cluster: testing.Cluster) -> None:
    with gamqp.Group(cluster.urls, connections=3, recover=QUICK, max_age=0.1) as group:
        queues = declare(group, 3)
        for queue in queues:
            group.subscribe(queue, print)
        for node in cluster.nodes[:2]:
            node.drain()
        greenlets.wait_until(lambda: places(group) == [3])
        for node in cluster.nodes[:2]:
            node.start()
        greenlets.wait_until(lambda: places(group) == [1, 1, 1])
        settled = group.connections
        greenlets.sleep(0.3)
        assert group.connections == settled  # nothing is won by another move


@pytest.fixture
def single(cluster: testing.Cluster) -> Iterator[gamqp.Group]:
    """A group of one connection."""
    with gamqp.Group(cluster.urls, connections=1, recover=QUICK) as group:
        yield group


def test_a_move_waits_for_handlers(single: gamqp.Group) -> None:
    queue = declare(single, 1)[0]
    began: list[Any] = []
    gate: list[bool] = []
    consumer = single.subscribe(queue, lambda message: (began.append(message), greenlets.wait_until(lambda: gate)))
    single.publish(b'x', routing_key=queue).wait()
    greenlets.wait_until(lambda: began)
    before = consumer.host
    move = greenlets.spawn(single.move)
    greenlets.wait_until(lambda: consumer.host != before)
    assert not single.move()  # one at a time
    assert not move.done and consumer.in_flight == 1
    gate.append(True)
    assert move.get()
    assert consumer.acked == 1 and len(began) == 1 and not began[0].redelivered


def test_consumers_that_cannot_start_elsewhere_stay(cluster: testing.Cluster, single: gamqp.Group) -> None:
    consumers = [single.subscribe(queue, print) for queue in declare(single, 3)]
    before = single.connections
    cluster.refuse('basic.consume', 403, times=None)
    with pytest.raises(exceptions.AccessRefused):
        single.move()
    assert single.connections == before and single.consumer_count == 3
    assert {consumer.host for consumer in consumers} == {before[0].host}
    cluster.clear_faults()
    assert single.move()
    assert before[0].host not in {consumer.host for consumer in consumers}


def test_close_during_a_move(cluster: testing.Cluster, single: gamqp.Group) -> None:
    for queue in declare(single, 3):
        single.subscribe(queue, print)
    cluster.drop_reply('basic.consume', times=None)
    move = greenlets.spawn(single.move)
    greenlets.wait_until(lambda: len(single.connections) == 2)
    connections = single.connections
    single.close()
    with pytest.raises(exceptions.RecoverableConnectionError):
        move.get()
    assert all(connection.state == 'closed' for connection in connections) and single.connections == ()


@pytest.fixture
def leaving(single: gamqp.Group) -> Iterator[tuple[gamqp.Connection, greenlets.Task, list[bool]]]:
    """A connection that is moved away from and waits for its handler, the greenlet that moves it, the handler's end."""
    queue = declare(single, 1)[0]
    began: list[Any] = []
    gate: list[bool] = []
    single.subscribe(queue, lambda message: (began.append(message), greenlets.wait_until(lambda: gate)))
    single.publish(b'x', routing_key=queue).wait()
    greenlets.wait_until(lambda: began)
    old = single.connections[0]
    move = greenlets.spawn(single.move)
    greenlets.wait_until(lambda: len(single.connections) == 1 and single.connections[0] is not old)
    yield old, move, gate
    gate.append(True)


def test_a_move_that_is_killed_leaves_no_connection(single: gamqp.Group, leaving: Any) -> None:
    old, move, gate = leaving
    move.kill()
    greenlets.wait_until(lambda: old.state == 'closed')
    gate.append(True)
    assert [one.state for one in single.connections] == ['open'] and single.move()


def test_a_move_that_is_killed_leaves_no_consumer_in_two_places(cluster: testing.Cluster, single: gamqp.Group) -> None:
    """Also where an exclusive one keeps the old connection."""
    slow, other, own = declare(single, 3)
    began: list[Any] = []
    gate: list[bool] = []
    got: list[bytes] = []
    consumers = [
        single.subscribe(slow, lambda message: (began.append(message), greenlets.wait_until(lambda: gate))),
        single.subscribe(other, lambda message: got.append(message.body)),
        single.subscribe(own, print, exclusive=True),
    ]
    single.publish(b'x', routing_key=slow).wait()
    greenlets.wait_until(lambda: began)
    old = single.connections[0]
    move = greenlets.spawn(single.move)
    greenlets.wait_until(lambda: consumers[1].host != old.host)
    assert len(cluster.queue(other).consumers) == 2
    move.kill()
    cluster.wait_until(lambda: len(cluster.queue(slow).consumers) == len(cluster.queue(other).consumers) == 1)
    assert old.state == 'open' and consumers[2].host == old.host and consumers[0].in_flight == 1
    gate.append(True)
    greenlets.wait_until(lambda: consumers[0].acked == 1)
    single.publish(b'y', routing_key=other).wait()
    greenlets.wait_until(lambda: got == [b'y'])


def test_close_ends_the_connection_that_is_moved_away_from(single: gamqp.Group, leaving: Any) -> None:
    old, move, gate = leaving
    single.close()
    assert old.state == 'closed'
    gate.append(True)
    assert move.get()


def test_drain_waits_for_the_connection_that_is_moved_away_from(single: gamqp.Group, leaving: Any) -> None:
    old, move, gate = leaving
    draining = greenlets.spawn(single.drain)
    greenlets.wait_until(lambda: not single.connections)
    assert old.state == 'open' and not draining.done
    gate.append(True)
    assert draining.get() and old.state == 'closed'
    assert move.get()


def test_more_channels_and_connections_are_opened_at_the_limits(cluster: testing.Cluster) -> None:
    with gamqp.Group(cluster.urls, connections=2, recover=QUICK, consumers_per_channel=2, channel_max=3) as group:
        queue = declare(group, 1)[0]
        for _ in range(12):
            group.subscribe(queue, print)
        assert len(group.connections) == 3 and group.consumer_count == 12


def test_drain_finishes_what_was_begun(cluster: testing.Cluster) -> None:
    group = gamqp.Group(cluster.urls, connections=3, recover=QUICK)
    queues = declare(group, 3)
    done: list[bytes] = []

    def work(message: gamqp.Message) -> None:
        greenlets.sleep(0.05)
        done.append(message.body)

    for queue in queues:
        group.subscribe(queue, work)
        group.publish(queue, routing_key=queue).wait()
    greenlets.wait_until(lambda: sum(one['delivered'] for one in group.stats().values()) == 3)
    assert group.drain(greenlets.PATIENCE)
    assert sorted(done) == sorted(queues)
    group.close()
    for call in (lambda: group.publish(b'x'), group.channel, lambda: group.subscribe('q', print), group.move):
        with pytest.raises(exceptions.RecoverableConnectionError, match='the group is closed'):
            call()


def test_bad_arguments() -> None:
    for arguments, error in (
        ({'connections': 0}, ValueError),
        ({'max_age': -1}, ValueError),
        ({'consumers_per_channel': 'many'}, TypeError),
        ({'recover': False}, ValueError),
        ({'port': 5}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(arguments))):
            gamqp.Group('amqp://localhost', **arguments)
