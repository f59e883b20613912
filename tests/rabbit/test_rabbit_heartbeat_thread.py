"""A callback that computes for longer than the broker is patient: with the heartbeat thread, and without."""

from __future__ import annotations

import logging

import greenlets
import pytest
from hub_blocking import burn_until
from proxy import Proxy

import gamqp
from gamqp import exceptions

# Seconds. The broker gives up after two to three of them; a busy machine may let the thread wait for long, too.
INTERVAL = 2


@pytest.mark.any_broker
def test_the_broker_keeps_the_connection_with_the_thread_and_not_without(rabbit, caplog):
    """The hub is held until the broker has hung up on one of two."""
    caplog.set_level(logging.WARNING, 'gamqp')
    with Proxy(rabbit.node.port) as given_up, Proxy(rabbit.node.port) as proxy:
        bare = gamqp.connect(given_up.url(rabbit), heartbeat=INTERVAL)
        beating = gamqp.connect(proxy.url(rabbit), heartbeat=INTERVAL, heartbeat_thread=True)
        channel = beating.channel()
        queue = channel.queue_declare(exclusive=True).queue

        def crunch(message):
            assert burn_until(lambda: given_up.down.ended and proxy.stream.heartbeats >= 4)
            message.ack()

        channel.basic_consume(queue, callback=crunch)
        channel.basic_publish(gamqp.Message(b'x'), '', queue)
        beating.drain_events(timeout=greenlets.PATIENCE)
        # The broker hung up: that, and no accusation of ours, is what the program hears.
        greenlets.wait_until(lambda: not bare.connected)
        with pytest.raises(exceptions.AMQPError) as caught:
            bare.channel()
        assert 'heartbeats missed' not in str(caught.value)
        assert beating.connected
        assert not proxy.down.ended
        assert channel.queue_declare(queue, passive=True).message_count == 0
        beating.close()
        told = [record.getMessage() for record in caplog.records if record.name == 'gamqp.hub']
        assert any('the hub was blocked for' in one and 'called by crunch (' in one for one in told), told


@pytest.mark.any_broker
@pytest.mark.slow
def test_a_large_publish_reaches_the_broker_while_the_hub_is_held(rabbit):
    """Half a message in the kernel is no heartbeat for long: the thread sends the rest, and then beats."""
    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit), heartbeat=INTERVAL, heartbeat_thread=True)
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        body = bytes(range(256)) * 65536  # 16 MiB
        channel.basic_publish(gamqp.Message(body), '', queue)
        assert connection.stats()['send_queue_bytes'] > 0
        # For longer than the broker would have waited for a heartbeat.
        assert burn_until(lambda: proxy.stream.published and proxy.stream.heartbeats >= 4)
        assert proxy.stream.published == [(1, queue, len(body))]
        assert connection.connected
        channel.basic_publish(gamqp.Message(b'behind it'), '', queue)
        greenlets.wait_until(lambda: channel.queue_declare(queue, passive=True).message_count == 2)
        assert channel.basic_get(queue, no_ack=True).body == body
        assert channel.basic_get(queue, no_ack=True).body == b'behind it'
        connection.close()
