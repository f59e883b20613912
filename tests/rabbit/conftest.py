"""Fixtures of the tests that need a real broker, besides those every test has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import broker_tools
import pytest
from cluster import Cluster
from node import Node
from pool_tools import making
from proxy import Proxy

import gamqp


@pytest.fixture
def queue(channel: gamqp.Channel) -> str:
    """An empty exclusive queue of the ``channel`` fixture's connection; it stays when its last consumer goes."""
    return channel.queue_declare(exclusive=True, auto_delete=False).queue


@pytest.fixture(scope='module')
def node(rabbit: Any) -> Iterator[Node]:
    """A broker of the same version that this module has to itself, to stop and to starve."""
    with broker_tools.node_like(rabbit) as node:
        yield node


@pytest.fixture(scope='session')
def _cluster(rabbit: Any) -> Iterator[Cluster]:
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    with Cluster(rabbit.label, plugins=broker_tools.CLUSTER_PLUGINS) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """Three nodes of the same version that are one cluster, all there, whatever the test before has done to them.

    One for all the tests of the run that ask for it. It takes some 10 s to start and the processors of a small machine:
    such tests are marked ``slow`` and ``real_seconds``, so that they run one at a time and there is only one.
    """
    broker_tools.in_thread(_cluster.heal, timeout=300)
    return _cluster


@pytest.fixture
def proxy(rabbit: Any) -> Iterator[Proxy]:
    """A way to the broker that can be told to misbehave."""
    with Proxy(rabbit.node.port) as proxy:
        yield proxy


@pytest.fixture
def make(rabbit: Any, proxy: Proxy) -> Iterator[Any]:
    """Makes pools of connections by way of ``proxy``."""
    with making(rabbit, proxy) as make:
        yield make


@pytest.fixture
def requests(rabbit: Any, queue: str) -> Iterator[str]:
    """The queue of requests, of a connection that a test does not break."""
    yield queue


@pytest.fixture
def rpc(connection: gamqp.Connection) -> Iterator[gamqp.RPCClient]:
    with gamqp.RPCClient(connection, timeout=30) as rpc:
        yield rpc
