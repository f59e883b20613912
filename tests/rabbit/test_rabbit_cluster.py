"""Nodes of a cluster that die, stop, are drained and come back: what the clients of the same and of other nodes see."""

from __future__ import annotations

import time
from collections import Counter

import broker_tools
import greenlets
import pytest
from broker_tools import in_thread

import gamqp
from gamqp import exceptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_seconds,
    # A minute and more for each version, and what is asked here is what the nodes do.
    pytest.mark.skipif(greenlets.GREEN == 'eventlet', reason='once is enough'),
]

TOLERANCE = 60  # seconds by which elections may be late on a busy machine


def quorum_queue(channel, cluster, leader):
    """A durable quorum queue that a given node leads."""
    queue = broker_tools.shared_queue(
        channel, broker_tools.fresh_name(f'cluster.{time.time_ns()}'), arguments={'x-queue-type': 'quorum'}
    )
    in_thread(cluster.transfer, queue, leader)
    return queue


def test_who_leads_and_who_is_where(cluster):
    one, two, three = cluster.nodes
    with gamqp.connect(one.url()) as at_one, gamqp.connect(two.url()) as at_two, gamqp.connect(two.url()) as also:
        channel = at_one.channel()
        queue = quorum_queue(channel, cluster, three)
        assert in_thread(cluster.leader, queue) is three
        in_thread(cluster.transfer, queue, two)
        assert in_thread(cluster.leader, queue) is two
        assert in_thread(cluster.connections) == Counter({one: 1, two: 2, three: 0})
        channel.basic_consume(queue, 'first', callback=print)
        also.channel().basic_consume(queue, 'second', callback=print)
        found = in_thread(cluster.consumers, queue)
        assert {(each.tag, each.node) for each in found} == {('first', one), ('second', two)}
        at_two.channel().queue_delete(queue)
    assert cluster.others(one) == [two, three]


def test_a_drained_node_sends_its_clients_away_and_gives_up_its_queues(cluster):
    drained, other, _ = cluster.nodes
    with gamqp.connect(other.url()) as staying:
        channel = staying.channel()
        queue = quorum_queue(channel, cluster, drained)
        leaving = gamqp.connect(drained.url())
        waiting = greenlets.spawn(leaving.drain_events)
        in_thread(cluster.drain, drained)
        error = broker_tools.raised(waiting)
        assert isinstance(error, exceptions.ConnectionForced), error
        assert error.reply_code == 320 and 'maintenance' in str(error)
        with pytest.raises(OSError):
            gamqp.connect(drained.url(), connect_timeout=5)
        assert in_thread(cluster.leader, queue) is not drained
        channel.publish(b'meanwhile', routing_key=queue).wait()
        in_thread(cluster.revive, drained)
        with gamqp.connect(drained.url()) as back:
            assert bytes(back.channel().basic_get(queue, no_ack=True).body) == b'meanwhile'
        leaving.close()
        channel.queue_delete(queue)


def test_with_the_urls_of_all_nodes_a_drained_one_is_left_for_another(cluster):
    """Each node in turn, as in a rolling upgrade: one attempt finds another node, and a pool goes on."""
    urls = [node.url() for node in cluster.nodes]
    connection = gamqp.connect(urls)
    with gamqp.Pool(urls, connections=3, channels_per_connection=1, timeout=TOLERANCE) as pool:
        for _ in urls:
            (drained,) = [node for node in cluster.nodes if connection.host.endswith(f':{node.port}')]
            waiting = greenlets.spawn(connection.drain_events)
            in_thread(cluster.drain, drained)
            assert isinstance(broker_tools.raised(waiting), exceptions.ConnectionForced)
            connection.connect()
            assert not connection.host.endswith(f':{drained.port}')
            with connection.channel() as channel:
                queue = channel.queue_declare(exclusive=True).queue
                pool.publish(b'meanwhile', routing_key=queue, mandatory=True)
                assert bytes(channel.basic_get(queue, no_ack=True).body) == b'meanwhile'
            in_thread(cluster.revive, drained)
    connection.close()


def test_nodes_that_were_killed_stopped_and_suspended_are_all_there_again(cluster):
    killed, stopped, suspended = cluster.nodes
    with gamqp.connect(killed.url()) as connection:
        channel = connection.channel()
        queue = quorum_queue(channel, cluster, stopped)
        channel.publish(b'kept', routing_key=queue, delivery_mode=2).wait()
        in_thread(cluster.stop_app, stopped)
        in_thread(cluster.kill, killed)
        greenlets.wait_until(lambda: not connection.connected)
    with suspended.suspended():
        in_thread(cluster.heal, timeout=300)
    for node in cluster.nodes:
        with gamqp.connect(node.url()) as connection:
            channel = connection.channel()
            # The queue has a leader again some moments after its nodes are there.
            greenlets.wait_until(lambda channel=channel: broker_tools.ready(channel, queue) == 1)
    with gamqp.connect(killed.url()) as connection:
        connection.channel().queue_delete(queue)


def test_the_end_of_the_leader_is_no_outage_for_clients_of_other_nodes(cluster):
    """Confirms take the time of an election, consumers go on, nothing is lost: without a line of the program."""
    leader, publishing_node, consuming_node = cluster.nodes
    with (
        gamqp.connect(publishing_node.url(), recover=True) as publishing,
        gamqp.connect(consuming_node.url(), recover=True) as consuming,
    ):
        channel = publishing.channel()
        queue = quorum_queue(channel, cluster, leader)
        got = Counter()
        consumer = consuming.channel().subscribe(queue, lambda message: got.update([broker_tools.number_of(message)]))
        receipts = []
        stop = []

        def publish():
            while not stop:
                receipt = channel.publish(b'%d' % len(receipts), routing_key=queue, delivery_mode=2)
                receipts.append(receipt)
                receipt.wait()  # within confirm_timeout, or it raises

        publisher = greenlets.spawn(publish)
        greenlets.wait_until(lambda: len(got) >= 20)
        before = len(receipts)
        started = time.monotonic()
        in_thread(cluster.kill, leader)
        greenlets.wait_until(lambda: len(receipts) > before + 50, what='publishing went on')
        took = time.monotonic() - started
        stop.append(True)
        publisher.get()
        greenlets.wait_until(lambda: len(got) == len(receipts), what='the consumer got all of them')
        assert took < TOLERANCE
        assert in_thread(cluster.leader, queue) is not leader
        assert publishing.connected and consuming.connected
        assert publishing.stats()['outages'] == consuming.stats()['outages'] == 0
        assert {receipt.state for receipt in receipts} == {'acked'}
        consumer.cancel()
        channel.queue_delete(queue)


def test_in_a_rolling_upgrade_a_group_goes_on(cluster):
    """Each node is drained, stopped and started: nothing that was confirmed is lost, and consumers end on all nodes."""
    outages, got, confirmed, lost, stop = [], Counter(), set(), [], []
    recover = gamqp.Recovery(first_delay=(0, 0.3), max_delay=1)
    with gamqp.Group(cluster.urls(), connections=6, max_age=4, recover=recover, on_recovered=outages.append) as group:
        queues = [broker_tools.fresh_name(f'cluster.{time.time_ns()}') for _ in range(5)]
        with group.channel() as channel:
            for queue in queues:
                broker_tools.shared_queue(channel, queue, arguments={'x-queue-type': 'quorum'})
        for number in range(30):
            group.subscribe(queues[number % 5], lambda message: got.update([bytes(message.body)]), prefetch=10)

        def publish(publisher):
            number = 0
            while not stop:
                number += 1
                body = b'%d.%d' % (publisher, number)
                try:
                    # A quorum queue may be without a leader for some seconds.
                    group.publish(body, routing_key=queues[number % 5], delivery_mode=2, timeout=TOLERANCE).wait(
                        TOLERANCE
                    )
                    confirmed.add(body)
                except (gamqp.Lost, exceptions.MessageNacked) as error:
                    lost.append(error)
                greenlets.sleep(0.02)

        publishers = [greenlets.spawn(publish, number) for number in range(5)]
        for node in cluster.nodes:
            before = len(confirmed)
            in_thread(cluster.upgrade, node)
            greenlets.wait_until(lambda before=before: len(confirmed) > before + 20, what='publishing goes on')

        def is_spread():
            places = group.stats().values()
            return len(places) == 3 and all(place['consumers'] for place in places) and group.consumer_count == 30

        greenlets.wait_until(is_spread, 2 * TOLERANCE, 'consumers on each of the three nodes')
        stop.append(True)
        for publisher in publishers:
            publisher.get()
        greenlets.wait_until(lambda: confirmed <= set(got), what='all that was confirmed has come')
        # Connections may still move, and one that does ends with its channels.
        greenlets.wait_until(lambda: {one.state for one in group.connections} == {'open'}, what='all are open')
        assert outages and all(report.skipped == [] and report.seconds < TOLERANCE for report in outages)
    with gamqp.connect(cluster.urls()) as connection:
        channel = connection.channel()
        for queue in queues:
            channel.queue_delete(queue)
