"""Mistakes of use and of configuration whose errors say what to do."""

from __future__ import annotations

import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


def test_a_connection_that_was_never_opened_says_how_to_open_it() -> None:
    for call in (
        lambda: gamqp.Connection().channel(),
        lambda: gamqp.Connection().drain_events(0),
        lambda: gamqp.Connection().update_secret('x'),
        lambda: gamqp.RPCClient(gamqp.Connection()),
    ):
        with pytest.raises(exceptions.RecoverableConnectionError, match=r'call its connect\(\) first, or'):
            call()


def test_a_lease_without_with_says_how_to_use_it() -> None:
    pool = gamqp.Pool('amqp://127.0.0.1:1')
    with pytest.raises(AttributeError, match=r'with pool\.channel\(\) as channel: channel\.basic_publish'):
        pool.channel().basic_publish(gamqp.Message('x'))
    assert not hasattr(pool.channel(), 'queue_declare')


@pytest.mark.parametrize('user', ['guest', 'someone'])
def test_a_refused_login_names_user_and_host(peer: ScriptedBroker, user: str) -> None:
    connection = peer.client(userid=user, password='hunter2')
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune')
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED - Login was refused using mechanism PLAIN')
    with pytest.raises(exceptions.AccessRefused) as caught:
        opening.get()
    assert f"user '{user}' at {peer.host}" in str(caught.value)
    assert ('lets guest in from its own machine' in str(caught.value)) is (user == 'guest')
    assert 'hunter2' not in str(caught.value)


def test_a_virtual_host_without_a_name_says_where_it_comes_from(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(gamqp.connect, f'amqp://{peer.host}/')
    peer.handshake(until='open-ok')
    peer.send('connection.close', reply_code=530, reply_text='NOT_ALLOWED - vhost  not found')
    with pytest.raises(exceptions.NotAllowed, match=r"a '/' at the end of a URL means; .* or write %2F"):
        opening.get()


@pytest.mark.parametrize('interval', [0, 60])
@pytest.mark.parametrize('idle', [0, 100])
def test_a_close_after_a_long_silence_says_how_long_it_was_and_what_the_heartbeat_was(
    peer: ScriptedBroker, idle: int, interval: int
) -> None:
    client = peer.open((10, 131072, interval))
    waiting = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    inside.seem_idle(client, heard=idle, sent=idle)  # as a balancer sees it
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError) as caught:
        waiting.get()
    assert ('the last byte from the broker came 100 s before' in str(caught.value)) is bool(idle)
    if idle:
        assert ('heartbeats were every 60 s' if interval else 'heartbeats were off') in str(caught.value)
