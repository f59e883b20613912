"""Several brokers as one: what one node knows the others know; nodes go and come back."""

from __future__ import annotations

from collections.abc import Iterator

import kombu
import pytest
from conversations import BrokerTalker

from gamqp import testing

QUORUM = {'x-queue-type': 'quorum'}


@pytest.fixture
def cluster() -> Iterator[testing.Cluster]:
    with testing.Cluster(3) as cluster:
        yield cluster


def talker(cluster: testing.Cluster, node: int) -> BrokerTalker:
    talk = BrokerTalker(cluster, '', cluster.nodes[node].url)
    talk.open(1)
    return talk


def test_nodes_share_everything(cluster: testing.Cluster) -> None:
    one, two = talker(cluster, 0), talker(cluster, 1)
    one.ask('queue.declare', queue='q', durable=True)
    two.ask('basic.consume', queue='q', consumer_tag='c')
    one.publish('', 'q', b'x')
    one.settle()
    assert [name for _, name, _ in two.settle()] == ['basic.deliver']
    assert cluster.leader('q') is cluster.nodes[0]
    assert len(cluster.connections) == 2 and len(set(cluster.urls)) == 3


def test_a_quorum_queue_survives_its_leader(cluster: testing.Cluster) -> None:
    one, two = talker(cluster, 0), talker(cluster, 1)
    one.ask('queue.declare', queue='q', durable=True, arguments=QUORUM)
    one.publish('', 'q', b'kept')
    one.settle()
    one.ask('basic.get', queue='q')
    cluster.nodes[0].kill()
    assert one.read(5) == [(0, 'the end', {})]
    assert cluster.leader('q') is cluster.nodes[1]
    (got,) = two.ask('basic.get', queue='q')
    assert got[2]['body'] == b'kept' and got[2]['redelivered']
    with pytest.raises(OSError):
        talker(cluster, 0)


def test_a_classic_queue_is_out_of_reach_until_its_node_is_back(cluster: testing.Cluster) -> None:
    one, two = talker(cluster, 0), talker(cluster, 1)
    one.ask('queue.declare', queue='q', durable=True)
    one.publish('', 'q', b'kept', delivery_mode=2)
    one.publish('', 'q', b'lost')
    one.settle()
    two.ask('basic.qos', prefetch_count=1)
    two.ask('basic.consume', queue='q', consumer_tag='c')
    two.ask('basic.nack', delivery_tag=1, requeue=True)
    cluster.nodes[0].kill()
    assert 'basic.cancel' in [name for _, name, _ in two.settle()]
    refused = two.ask('queue.declare', queue='q', durable=True, passive=True)
    assert refused[0][2]['reply_code'] == 404 and 'is down or inaccessible' in refused[0][2]['reply_text']
    two.publish('', 'q', b'nowhere', mandatory=True)
    assert two.settle()[0][1] == 'basic.return'
    cluster.nodes[0].start()
    assert two.ask('queue.declare', queue='q', durable=True, passive=True)[0][1] == 'queue.declare-ok'
    assert [message.body for message in cluster.queue('q').messages] == [b'kept']


def test_stop_and_drain_say_why(cluster: testing.Cluster) -> None:
    one, two = talker(cluster, 0), talker(cluster, 1)
    one.ask('queue.declare', queue='q', durable=True, arguments=QUORUM)
    cluster.nodes[0].drain()
    assert 'maintenance mode' in one.settle()[0][2]['reply_text']
    assert cluster.leader('q') is cluster.nodes[1] and cluster.nodes[0].running
    cluster.nodes[1].stop()
    assert "with reason 'shutdown'" in two.settle()[0][2]['reply_text']
    cluster.nodes[0].start()
    assert talker(cluster, 0).ask('queue.declare', queue='q', passive=True)[0][1] == 'queue.declare-ok'


def test_kombu_goes_to_the_next_node(cluster: testing.Cluster) -> None:
    cluster.nodes[0].kill()
    with kombu.Connection(cluster.urls) as connection:
        connection.ensure_connection(max_retries=5, interval_start=0)
        kombu.Queue('q', durable=True, queue_arguments=QUORUM)(connection.channel()).declare()
        assert cluster.leader('q') is cluster.nodes[1]


def test_a_port_stays_the_same(cluster: testing.Cluster) -> None:
    port = cluster.nodes[2].port
    cluster.nodes[2].kill()
    cluster.nodes[2].start()
    cluster.nodes[2].start()
    assert cluster.nodes[2].port == port
    talker(cluster, 2)
