"""A new secret for a living connection: what goes over the wire, and a broker that refuses it."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from named_methods import octets
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


@pytest.mark.parametrize('secret', ['n3w t0ken', b'n3w t0ken'])
def test_the_secret_goes_to_the_broker_and_its_answer_is_awaited(
    peer: ScriptedBroker, client: gamqp.Connection, secret: Any
) -> None:
    renewing = greenlets.spawn(client.update_secret, secret, 'expired soon')
    said = peer.expect('connection.update-secret', 0)  # 10, 70
    assert (octets(said.new_secret), said.reason) == (b'n3w t0ken', 'expired soon')
    greenlets.sleep(0)
    assert not renewing.done
    peer.send('connection.update-secret-ok')  # 10, 71
    assert renewing.get() is None
    assert client.connected


def test_a_refusal_ends_the_connection_for_everybody_and_does_not_tell_the_secret(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    draining = greenlets.spawn(client.drain_events)
    renewing = greenlets.spawn(client.update_secret, 'n3w t0ken', 'expired')
    peer.expect('connection.update-secret')
    peer.send(
        'connection.close',
        reply_code=530,
        reply_text='NOT_ALLOWED - New secret was refused by one of the backends',
        class_id=10,
        method_id=70,
    )
    peer.expect('connection.close-ok')
    for task in (renewing, draining):
        with pytest.raises(exceptions.NotAllowed, match='New secret was refused') as caught:
            task.get()
        assert caught.value.reply_code == 530
        assert caught.value.method_name == 'Connection.update_secret'
        assert 'n3w' not in str(caught.value) + repr(caught.value)
    with pytest.raises(exceptions.NotAllowed):
        channel.basic_ack(1)
    assert not client.connected


def test_a_secret_that_cannot_be_encoded_is_not_quoted(client: gamqp.Connection) -> None:
    with pytest.raises(ValueError, match='UTF-8') as caught:
        client.update_secret('n3w\udcff')
    assert not isinstance(caught.value, UnicodeError)  # which would hold it
    assert caught.value.__suppress_context__
    assert 'n3w' not in str(caught.value)
    assert client.connected


def test_a_broker_that_does_not_know_it_ends_the_connection(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    renewing = greenlets.spawn(client.update_secret, 'x')
    peer.expect('connection.update-secret')
    peer.send('connection.close', reply_code=540, reply_text='NOT_IMPLEMENTED', class_id=10, method_id=70)
    with pytest.raises(exceptions.AMQPNotImplementedError):
        renewing.get()


def test_the_next_connect_asks_the_provider_not_the_last_secret(peer: ScriptedBroker) -> None:
    """update_secret counts for the connection it was called on."""
    tokens = iter(['first', 'second'])
    connection = peer.open(password=lambda: next(tokens))
    assert octets(peer.start_ok.response) == b'\0guest\0first'
    renewing = greenlets.spawn(connection.update_secret, 'between')
    peer.expect('connection.update-secret')
    peer.send('connection.update-secret-ok')
    renewing.get()
    peer.hang_up()
    greenlets.wait_until(lambda: not connection.connected)
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    opening.get()
    assert octets(peer.start_ok.response) == b'\0guest\0second'
