"""What a receipt takes in memory: a program may hold one for each of a million publishes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import greenlets
import pytest
from script import ScriptedBroker

import gamqp

COUNT = 2000


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def in_use() -> int:
    """Bytes, without what only waits for the garbage collector."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.skipif(greenlets.GREEN == 'eventlet', reason='behind other tests eventlet itself takes memory meanwhile')
def test_receipts_of_confirmed_publishes(peer: ScriptedBroker, confirming: gamqp.Channel, traced: None) -> None:
    confirming.outstanding_limit = 0
    receipts = [confirming.publish(b'x', '', 'q') for _ in range(10)]
    for _ in receipts:
        peer.expect('basic.publish')
    before = in_use()
    for _ in range(COUNT):
        receipts.append(confirming.publish(b'x', '', 'q'))
        peer.expect('basic.publish')
    pending = in_use()
    peer.send('basic.ack', delivery_tag=len(receipts), multiple=True)
    receipts[-1].wait()
    assert all(receipt.acked for receipt in receipts)
    settled = in_use()
    assert (pending - before) / COUNT < 200
    assert (settled - before) / COUNT < 200
