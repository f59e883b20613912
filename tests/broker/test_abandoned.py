"""A connection that nobody holds any more: its socket and its greenlets go, with a warning."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp


@pytest.fixture(autouse=True)
def no_cycles_of_others() -> Any:
    gc.collect()


def open_unheld(peer: ScriptedBroker, **arguments: Any) -> gamqp.Connection:
    """As ``peer.open``, which would keep the connection."""
    connection = gamqp.Connection(peer.host, **arguments)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(tune=(10, 131072, 60))
    opening.get()
    return connection


def fill(peer: ScriptedBroker, connection: gamqp.Connection) -> None:
    """Give it a channel, a consumer and a message that nobody comes for."""
    channel = peer.open_channel(connection)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    peer.send('basic.deliver', consumer_tag='tag', delivery_tag=1)
    greenlets.wait_until(lambda: inside.waiting_events(connection))


def test_it_goes_with_a_resource_warning(peer: ScriptedBroker) -> None:
    connection = open_unheld(peer)
    gc.disable()  # nothing but this name holds it
    try:
        with pytest.warns(ResourceWarning, match='was never closed'):
            del connection
            peer.agree_to_close()
    finally:
        gc.enable()


def test_it_goes_although_it_has_channels_and_consumers(peer: ScriptedBroker) -> None:
    connection = open_unheld(peer)
    fill(peer, connection)
    gone = weakref.ref(connection)  # it and its channels hold each other
    with pytest.warns(ResourceWarning, match='was never closed'):
        del connection
        greenlets.wait_until(lambda: (gc.collect(), gone() is None)[1])
    peer.agree_to_close()


def test_a_closed_one_goes_without_a_warning_and_without_the_collector(peer: ScriptedBroker) -> None:
    connection = open_unheld(peer)
    channel = peer.open_channel(connection)
    closing = greenlets.spawn(connection.close)
    peer.agree_to_close()
    closing.get()
    gone = weakref.ref(connection), weakref.ref(channel)
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            del connection, channel, closing
            greenlets.wait_until(
                lambda: gone[0]() is None and gone[1]() is None, what='collected by reference count alone'
            )
    finally:
        gc.enable()


def test_one_that_never_connected_goes_silently() -> None:
    connection = gamqp.Connection('localhost:1')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        del connection
        gc.collect()


def test_one_that_the_peer_ended_goes_silently(peer: ScriptedBroker) -> None:
    connection = open_unheld(peer)
    peer.cut()
    with pytest.raises(gamqp.ConnectionError):
        connection.drain_events(timeout=30)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        del connection
        gc.collect()


def test_one_whose_connect_failed_goes_silently(peer: ScriptedBroker) -> None:
    connection = gamqp.Connection(peer.host, connect_timeout=0.05)
    opening = greenlets.spawn(connection.connect)
    peer.accept()
    with pytest.raises(TimeoutError):
        opening.get()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        del connection, opening
        gc.collect()
