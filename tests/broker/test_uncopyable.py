"""Connections, channels and the like exist once: a copy is the same, and its end is nobody's end."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker

import gamqp


def parts(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> dict[str, Any]:
    """One of each kind, as a program may hold it."""
    deliveries = greenlets.spawn(lambda: channel.consume('q', no_ack=True))
    peer.send('basic.consume-ok', consumer_tag=peer.expect('basic.consume').consumer_tag)
    consumer = greenlets.spawn(lambda: channel.subscribe('q', print, no_ack=True))
    peer.send('basic.consume-ok', consumer_tag=peer.expect('basic.consume').consumer_tag)
    receipt = greenlets.spawn(lambda: channel.publish(b'x', routing_key='q'))
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    peer.expect('basic.publish')
    pool = gamqp.Pool(f'amqp://{peer.host}')
    things = (client, channel, deliveries.get(), consumer.get(), receipt.get(), pool, pool.channel())
    return {type(one).__name__: one for one in things}


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy])
def test_a_copy_is_the_thing_itself(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, copied: Any
) -> None:
    things = parts(peer, client, channel)
    assert set(things) == {'Connection', 'Channel', 'Deliveries', 'Consumer', 'Receipt', 'Pool', 'Lease'}
    for name, one in things.items():
        again = copied(one)
        assert again is one, name
        del again
        gc.collect()
    assert client.connected and channel.is_open and len(channel.callbacks) == 2
    peer.expect_nothing_more(client)
    for name, one in things.items():
        with pytest.raises(TypeError, match=f'a {name} cannot be pickled'):
            pickle.dumps(one)


def test_a_connection_that_is_not_open() -> None:
    connection = gamqp.Connection()
    assert copy.copy(connection) is connection
