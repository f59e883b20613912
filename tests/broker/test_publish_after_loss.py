"""A publish of a program that lets the hub have no turn: it must not go to a peer that has hung up, and say so."""

from __future__ import annotations

import socket
import time
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions

ENDS = ('FIN', 'RST', 'last words')


def compute(seconds: float = 0.05) -> None:
    """What keeps the hub from its turn."""
    time.sleep(seconds)


def end(peer: ScriptedBroker, how: str) -> None:
    if how == 'last words':
        peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    peer.cut(reset=how == 'RST')


def is_known_as(how: str, error: BaseException) -> bool:
    if how == 'last words':
        return isinstance(error, exceptions.ConnectionForced) and 'by operator' in str(error)
    return isinstance(error, exceptions.RecoverableConnectionError)


@pytest.mark.parametrize('how', ENDS)
def test_a_publish_after_computing_raises_when_the_peer_has_hung_up(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, how: str
) -> None:
    channel.basic_publish(gamqp.Message(b'before'), '', 'q')
    peer.expect('basic.publish')
    end(peer, how)
    compute()
    for _ in range(2):
        with pytest.raises(exceptions.RecoverableConnectionError) as info:
            channel.basic_publish(gamqp.Message(b'after'), '', 'q')
        assert is_known_as(how, info.value)
    assert not client.connected


@pytest.mark.parametrize('how', ENDS)
def test_a_publish_with_a_receipt_raises_too(peer: ScriptedBroker, channel: gamqp.Channel, how: str) -> None:
    receipt = channel.publish(b'before', routing_key='q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    end(peer, how)
    compute()
    with pytest.raises(exceptions.RecoverableConnectionError) as info:
        channel.publish(b'after', routing_key='q')
    assert is_known_as(how, info.value)
    with pytest.raises(exceptions.RecoverableConnectionError):
        receipt.wait()


def test_the_second_publish_of_a_pass_of_the_hub_looks_too(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    greenlets.sleep(0)
    channel.basic_publish(gamqp.Message(b'first'), '', 'q')
    peer.cut()
    compute()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed the socket'):
        channel.basic_publish(gamqp.Message(b'second'), '', 'q')


@pytest.mark.parametrize('way', ['basic_publish', 'publish'])
def test_a_publish_that_the_system_refuses_raises(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, way: str
) -> None:
    channel.confirm_select(nowait=True)
    peer.expect('confirm.select')
    greenlets.sleep(0.01)
    before = client.stats()
    inside.flow_control(client).look_at = float('inf')  # no look before: it is the send that fails
    inside.transport(client).socket.shutdown(socket.SHUT_WR)
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    arguments: dict[str, Any] = {'routing_key': 'q'}
    with pytest.raises(exceptions.ConnectionForced, match='by operator'):
        getattr(channel, way)(gamqp.Message(b'x'), **arguments)
    assert client.stats()['published'] == before['published'], 'counted although it was refused'
    assert not client.connected


def test_a_publish_after_a_refused_write_raises_without_last_words(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Input that goes on hides the end from the reader; the write has failed all the same."""
    greenlets.sleep(0.01)
    inside.flow_control(client).look_at = float('inf')
    peer.send('connection.blocked', reason='')
    inside.transport(client).socket.shutdown(socket.SHUT_WR)
    compute()
    with pytest.raises(exceptions.RecoverableConnectionError, match='connection lost'):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q')


def test_a_kill_while_a_publish_looks_leaves_it_done_or_undone(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    steps: list[str] = []

    def program() -> None:
        compute()
        peer.send('connection.unblocked')
        steps.append('publishes')
        channel.basic_publish(gamqp.Message(b'x'), '', 'q')
        steps.append('has published')

    task = greenlets.spawn(program)
    greenlets.wait_until(lambda: steps, what='the program to look')
    assert steps == ['publishes'], 'it has not let others run'
    task.kill()
    greenlets.wait_until(lambda: task.done)
    if len(steps) > 1:  # it was ready to go on before the kill came
        peer.expect('basic.publish')
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('how', ENDS)
def test_an_end_right_after_the_last_write_is_known_after_a_few_turns_of_the_hub(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, how: str
) -> None:
    """It is here when the peer's call returns, so nothing but the hub's own order may delay it."""
    for number in range(10):
        channel.basic_ack(number + 1)
    end(peer, how)
    for _ in range(5):
        greenlets.sleep(0.000001)  # long enough to make a hub ask for sockets
    assert not channel.is_open
    with pytest.raises(exceptions.ConnectionError) as caught:
        channel.basic_ack(11)
    assert is_known_as(how, caught.value)


WAYS = {
    'publish': lambda channel: channel.publish(b'x', '', 'q'),
    'publish, mandatory': lambda channel: channel.publish(b'x', '', 'q', mandatory=True),
    'basic_publish': lambda channel: channel.basic_publish(gamqp.Message(b'x'), '', 'q'),
    'basic_publish, mandatory': lambda channel: channel.basic_publish(gamqp.Message(b'x'), '', 'q', mandatory=True),
    'basic_publish, timeout': lambda channel: channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=30),
    'basic_publish_confirm': lambda channel: channel.basic_publish_confirm(gamqp.Message(b'x'), '', 'q'),
}


@pytest.mark.parametrize('unread', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_a_publish_that_is_refused_is_counted_neither_as_published_nor_as_lost(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, way: str, unread: bool
) -> None:
    """unread: something of the peer is here that the reader reads before the connection ends."""
    receipts = [confirming.publish(b'before', '', 'q') for _ in range(2)]
    for _ in receipts:
        peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=1)
    receipts[0].wait()
    inside.flow_control(client).look_at = float('inf')  # no look before: it is the send that fails
    inside.transport(client).socket.shutdown(socket.SHUT_WR)
    if unread:
        peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    tasks = [greenlets.spawn(WAYS[way], confirming) for _ in range(3)]  # the first finds out, all are refused
    for task in tasks:
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()
    assert receipts[1].state == 'lost'
    stats = client.stats()
    assert (stats['published'], stats['confirmed'], stats['lost'], stats['unconfirmed']) == (2, 1, 1, 0)


@pytest.mark.parametrize('call', ['flush', 'basic_publish'])
def test_what_waits_until_all_is_sent_does_not_take_a_refused_write_for_that(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, call: str
) -> None:
    """The writer has failed, and the connection goes on until the reader has read what came before that."""
    inside.flow_control(client).look_at = float('inf')
    writer = inside.writer(client)
    while writer.queued < 1_000_000:
        channel.basic_publish(gamqp.Message(bytes(200_000)), '', 'q')
        greenlets.sleep(0.001)
    if call == 'flush':
        waiting = greenlets.spawn(client.flush)
    else:
        waiting = greenlets.spawn(lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=60))
    greenlets.sleep(0.01)
    assert not waiting.done
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    inside.transport(client).socket.shutdown(socket.SHUT_WR)
    writer.flush()
    with pytest.raises(exceptions.ConnectionForced):
        waiting.get()
