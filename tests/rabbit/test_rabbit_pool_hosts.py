"""Pool with several URLs: its connections are spread over the hosts, and go elsewhere when one is lost."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import greenlets
import pytest
from pool_tools import lease_once
from proxy import Proxy

import gamqp


@pytest.fixture
def fronts(rabbit: Any) -> Iterator[list[Proxy]]:
    """Three hosts, which are the same broker."""
    with Proxy(rabbit.node.port) as one, Proxy(rabbit.node.port) as two, Proxy(rabbit.node.port) as three:
        yield [one, two, three]


@contextlib.contextmanager
def all_leased(pool: gamqp.Pool) -> Iterator[list[gamqp.Connection]]:
    """Gives the connections of the pool, each of which has one channel."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(pool.channel()).connection for _ in range(pool.connections)]


def counted(connections: list[gamqp.Connection]) -> dict[str, int]:
    return collections.Counter(one.host for one in connections)


def test_connections_are_spread_and_replaced_where_there_are_fewest(make: Any, rabbit: Any, fronts: Any) -> None:
    urls = [front.url(rabbit) for front in fronts]
    pool = make(6, 1, url=urls)
    with all_leased(pool) as connections:
        assert sorted(counted(connections).values()) == [2, 2, 2]
        hosts = [connection.host for connection in connections]
    fronts[0].cut()
    greenlets.wait_until(lambda: sum(one.is_alive() for one in connections) == 4)
    with all_leased(pool) as connections:
        assert sorted(counted(connections).values()) == [2, 2, 2]
        assert sorted(one.host for one in connections) == sorted(hosts)


def test_a_host_that_is_away_leaves_its_connections_to_the_others(make: Any, rabbit: Any, fronts: Any) -> None:
    urls = [front.url(rabbit) for front in fronts]
    fronts[2].close()
    with all_leased(make(4, 1, url=urls)) as connections:
        assert sorted(counted(connections).values()) == [2, 2]


def test_in_a_given_order_all_go_to_the_first_that_works(make: Any, rabbit: Any, fronts: Any) -> None:
    urls = ';'.join(front.url(rabbit) for front in fronts)
    fronts[0].close()
    with all_leased(make(3, 1, url=urls, shuffle=False)) as connections:
        (host,) = counted(connections)
        assert host == f'127.0.0.1:{fronts[1].port}'


def test_a_callable_is_asked_for_each_connection(make: Any, rabbit: Any, fronts: Any) -> None:
    asked: list[int] = []

    def where() -> list[str]:
        asked.append(1)
        greenlets.sleep(0)
        return [front.url(rabbit) for front in fronts]

    pool = make(3, 1, url=where, heartbeat=20)
    with all_leased(pool) as connections:
        assert sorted(counted(connections).values()) == [1, 1, 1]
        assert {one.heartbeat for one in connections} == {20}
    assert len(asked) == 3
    assert 'where' in repr(pool)


def test_nothing_tells_the_passwords(make: Any, rabbit: Any, fronts: Any) -> None:
    urls = [front.url(rabbit).replace('guest:guest', f'guest:s3cret{number}') for number, front in enumerate(fronts)]
    pool = make(1, 1, url=urls)
    with pytest.raises(gamqp.AccessRefused) as caught:
        lease_once(pool, 5)
    told = repr(pool) + str(caught.value)
    assert 's3cret' not in told
    for front in fronts:
        assert f'127.0.0.1:{front.port}' in told
