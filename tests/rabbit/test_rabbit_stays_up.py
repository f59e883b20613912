"""Connections that do nothing, only publish, or are busy in a callback outlive many heartbeats."""

from __future__ import annotations

import time

import greenlets
import inside
import pytest
from proxy import Proxy

import gamqp

HEARTBEAT = 4  # so that a machine which stands still for some seconds does not look like a dead peer
# Either side gives up after two intervals of silence.
LONG_ENOUGH = 3.5 * HEARTBEAT


@pytest.mark.any_broker
@pytest.mark.slow
@pytest.mark.limit(90)
def test_idle_publishing_and_busy_connections_stay_up(rabbit):
    with Proxy(rabbit.node.port) as idle_proxy, Proxy(rabbit.node.port) as proxy:
        began = time.monotonic()
        idle = gamqp.connect(idle_proxy.url(rabbit), heartbeat=HEARTBEAT)
        publishing, busy, starved = (gamqp.connect(proxy.url(rabbit), heartbeat=HEARTBEAT) for _ in range(3))
        channel = busy.channel()
        queue = channel.queue_declare(exclusive=True).queue
        finished = []

        def slow(message):
            greenlets.sleep(LONG_ENOUGH)
            message.ack()
            finished.append(message)

        channel.basic_consume(queue, callback=slow)
        channel.basic_publish(gamqp.Message(b'x'), '', queue)
        worker = greenlets.spawn(busy.drain_events)
        # Reads nothing on purpose: far more is waiting for it than it may hold.
        starving(starved)
        publisher = publishing.channel()
        until = time.monotonic() + LONG_ENOUGH
        while time.monotonic() < until:
            publisher.basic_publish(gamqp.Message(b'x'), '', 'no such queue')
            greenlets.sleep(0.1)
        worker.get()
        assert finished
        for connection in (idle, publishing, busy, starved):
            assert connection.connected
        assert idle.channel().queue_declare(exclusive=True).queue
        # Alive by heartbeats alone, at half the interval each.
        seconds = time.monotonic() - began
        assert LONG_ENOUGH / HEARTBEAT <= idle_proxy.stream.heartbeats <= 2 * seconds / HEARTBEAT + 1
        for connection in (idle, publishing, busy, starved):
            connection.close()


def starving(connection):
    channel = connection.channel()
    inside.budget(connection).max_messages = 10
    queue = channel.queue_declare(exclusive=True).queue
    channel.basic_consume(queue, callback=lambda message: None, no_ack=True)
    for _ in range(1000):
        channel.basic_publish(gamqp.Message(bytes(20_000)), '', queue)
    greenlets.wait_until(lambda: not inside.reads(connection), what='the reader has stopped')
