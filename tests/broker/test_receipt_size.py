"""What a receipt takes in memory: a program may hold one for each of a million publishes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

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


def test_receipts_of_confirmed_publishes(peer: ScriptedBroker, confirming: gamqp.Channel, traced: None) -> None:
    confirming.outstanding_limit = 0
    receipts = [confirming.publish(b'x', '', 'q') for _ in range(10)]
    for _ in receipts:
        peer.expect('basic.publish')
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(COUNT):
        receipts.append(confirming.publish(b'x', '', 'q'))
        peer.expect('basic.publish')
    pending, _ = tracemalloc.get_traced_memory()
    peer.send('basic.ack', delivery_tag=len(receipts), multiple=True)
    receipts[-1].wait()
    assert all(receipt.acked for receipt in receipts)
    gc.collect()
    settled, _ = tracemalloc.get_traced_memory()
    assert (pending - before) / COUNT < 200
    assert (settled - before) / COUNT < 200
