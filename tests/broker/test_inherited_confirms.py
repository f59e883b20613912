"""A channel whose confirm mode an earlier user has turned on: what the next one sees of it, and how it is ended."""

from __future__ import annotations

from typing import Any

import greenlet
import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions
from gamqp.channel import reuse

MESSAGE = gamqp.Message(b'x')


@pytest.fixture
def inherited(peer: ScriptedBroker, confirming: gamqp.Channel) -> gamqp.Channel:
    """Three were published before, and confirmed."""
    for _ in range(3):
        confirming.basic_publish(MESSAGE, '', 'q')
        peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=3, multiple=True)
    greenlets.wait_until(lambda: not confirming.unconfirmed)
    reuse.begin_use(confirming, False)
    return confirming


def publish(peer: ScriptedBroker, channel: gamqp.Channel, mandatory: bool = False) -> gamqp.Receipt:
    receipt = channel.publish(b'x', 'ex', 'q', mandatory=mandatory)
    peer.expect('basic.publish')  # without another confirm.select
    return receipt


def test_confirms_of_plain_publishes_are_nobodys(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel
) -> None:
    heard: list[int] = []
    inherited.events['basic_ack'].add(lambda tag, multiple: heard.append(tag))
    for _ in range(2):
        inherited.basic_publish(MESSAGE, '', 'q')
        peer.expect('basic.publish')
    assert (inherited.unconfirmed, inherited.wait_for_confirms(0)) == (0, True)
    peer.raw(frames('basic.ack', delivery_tag=4) + frames('basic.nack', delivery_tag=0, multiple=True))
    peer.send('connection.blocked', reason='a full stop')
    greenlets.wait_until(lambda: client.is_blocked)
    assert client.is_open and not heard
    assert inherited.wait_for_confirms(0) is True
    peer.send('connection.unblocked')
    stats = client.stats()
    assert (stats['published'], stats['confirmed'], stats['nacked']) == (5, 3, 0)


@pytest.mark.parametrize('multiple', [False, True])
def test_receipts_go_by_the_numbers_of_their_user(
    peer: ScriptedBroker, inherited: gamqp.Channel, multiple: bool
) -> None:
    """The broker is still to confirm a plain publish before them, which has number 4."""
    heard: list[int] = []
    inherited.events['basic_ack'].add(lambda tag, multiple: heard.append(tag))
    inherited.basic_publish(MESSAGE, '', 'q')
    peer.expect('basic.publish')
    receipts = [publish(peer, inherited, mandatory=True) for _ in range(3)]
    assert [receipt.delivery_tag for receipt in receipts] == [1, 2, 3]
    peer.raw(frames('basic.nack', delivery_tag=4) + frames('basic.ack', delivery_tag=6, multiple=multiple))
    receipts[1].wait(30)
    assert receipts[0].state == ('acked' if multiple else 'pending')
    assert receipts[2].state == 'pending'
    peer.send('basic.nack', delivery_tag=0, multiple=True)
    with pytest.raises(exceptions.MessageNacked):
        receipts[2].wait(30)
    inherited.connection.drain_events(timeout=30)
    assert heard == [2]


@pytest.mark.parametrize('asked', [False, True])
def test_a_confirm_of_what_was_never_published_breaks_the_protocol(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel, asked: bool
) -> None:
    if asked:
        publish(peer, inherited)
    peer.send('basic.ack', delivery_tag=4 + asked)
    assert peer.expect('connection.close').reply_code == 505


def test_what_has_no_confirm_yet_is_not_taken_from_its_user(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    """An earlier user who still publishes, although his lease has ended."""
    receipt = publish(peer, confirming)
    reuse.begin_use(confirming, False)
    peer.send('basic.ack', delivery_tag=1)
    receipt.wait(30)


def test_a_later_user_may_have_confirms_again(peer: ScriptedBroker, inherited: gamqp.Channel) -> None:
    inherited.basic_publish(MESSAGE, '', 'q')
    peer.expect('basic.publish')
    reuse.begin_use(inherited, True)
    inherited.basic_publish(MESSAGE, '', 'q')
    peer.expect('basic.publish')
    assert inherited.unconfirmed == 1
    peer.raw(frames('basic.nack', delivery_tag=4) + frames('basic.ack', delivery_tag=5))
    greenlets.wait_until(lambda: not inherited.unconfirmed)
    assert inherited.wait_for_confirms() is True


def test_a_large_multiple_ends_with_its_own_user(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """The last step of settling exactly 1000 may come when the next user has the channel."""
    channel.outstanding_limit = 0
    receipts = [channel.publish(b'x') for _ in range(1000)]
    peer.expect('confirm.select')
    for _ in receipts:
        peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    peer.send('basic.ack', delivery_tag=1000, multiple=True)
    while channel.unconfirmed:
        greenlets.sleep(0)
    reuse.begin_use(channel, True)
    receipt = publish(peer, channel)
    greenlets.sleep(0.01)
    assert (receipt.delivery_tag, receipt.state) == (1, 'pending')
    peer.send('basic.ack', delivery_tag=1001)
    receipt.wait(30)


# -- transactions --------------------------------------------------------------------------------------------


def select(peer: ScriptedBroker, channel: gamqp.Channel, until: str = '') -> Any:
    """tx_select, up to before the peer sends *until*."""
    selecting = greenlets.spawn(channel.tx_select)
    for asked, answer, arguments in (
        ('channel.flow', 'channel.flow-ok', {'active': True}),
        ('channel.close', 'channel.close-ok', {}),
        ('channel.open', 'channel.open-ok', {}),
        ('tx.select', 'tx.select-ok', {}),
    ):
        peer.expect(asked)
        if answer == until:
            break
        peer.send(answer, 1, **arguments)
    return selecting


def test_a_transaction_has_the_channel_opened_again_first(peer: ScriptedBroker, inherited: gamqp.Channel) -> None:
    handler = print
    inherited.events['basic_return'].add(handler)
    select(peer, inherited).get()
    assert inherited.is_open and inherited.events['basic_return'] == {handler}
    inherited.basic_publish(MESSAGE, '', 'q')
    peer.expect('basic.publish')
    closing = greenlets.spawn(inherited.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok', 1)
    closing.get()


@pytest.mark.parametrize('until', ['channel.close-ok', 'channel.open-ok'])
@pytest.mark.parametrize('how', ['killed', 'timeout'])
def test_one_that_is_given_up_amid_that_leaves_no_channel_behind(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel, until: str, how: str
) -> None:
    if how == 'timeout':
        client.rpc_timeout = 0.3
    selecting = select(peer, inherited, until)
    if how == 'killed':
        selecting.kill()
    with pytest.raises((GreenletExit, TimeoutError)):
        selecting.get()
    if until == 'channel.close-ok':
        assert not inherited.is_open
        peer.send('channel.close-ok', 1)
    else:
        peer.send('channel.open-ok', 1)
        peer.expect('channel.close')
        peer.send('channel.close-ok', 1)
    greenlets.wait_until(lambda: 1 not in client.channels)
    again = peer.open_channel(client, 1)
    again.basic_publish(MESSAGE, '', 'q')
    peer.expect('basic.publish')


def test_one_that_is_killed_between_close_ok_and_waking_leaves_no_channel_behind(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)

    def purge_and_kill() -> None:
        other.queue_purge('q')
        # Both replies were in one packet: channel.open has gone out, and its caller has not run.
        greenlets.backend.run_soon(greenlet.getcurrent().switch)
        selecting.greenlet.throw(GreenletExit)

    killing = greenlets.spawn(purge_and_kill)
    peer.expect('queue.purge')
    selecting = select(peer, inherited, 'channel.close-ok')
    peer.raw(frames('queue.purge-ok', 2) + frames('channel.close-ok', 1))
    killing.get()
    with pytest.raises(GreenletExit):
        selecting.get()
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    peer.expect('channel.close')
    peer.send('channel.close-ok', 1)
    greenlets.wait_until(lambda: 1 not in client.channels)


def test_deliveries_are_numbered_anew(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel, got: list[Any]
) -> None:
    """What was settled on the channel as it was before says nothing of them."""
    tag = begin(peer, lambda: inherited.basic_consume('q', callback=got.append), deliver=3)
    greenlets.wait_until(lambda: inherited.unsettled == 3)
    inherited.basic_ack(3, multiple=True)
    peer.expect('basic.ack')
    cancelling = greenlets.spawn(inherited.basic_cancel, tag)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag=tag)
    cancelling.get()
    select(peer, inherited).get()
    tag = begin(peer, lambda: inherited.basic_consume('q', callback=got.append), deliver=1)
    client.drain_events(timeout=30)
    assert [message.delivery_tag for message in got] == [1]
    got[0].ack()
    assert peer.expect('basic.ack').delivery_tag == 1


@pytest.mark.parametrize('of_channel', [False, True])
def test_a_prefetch_is_asked_for_again(peer: ScriptedBroker, inherited: gamqp.Channel, of_channel: bool) -> None:
    limiting = greenlets.spawn(inherited.basic_qos, 0, 5, of_channel)
    peer.expect('basic.qos')
    peer.send('basic.qos-ok', 1)
    limiting.get()
    selecting = select(peer, inherited, 'channel.open-ok')
    peer.send('channel.open-ok', 1)
    said = peer.expect('basic.qos')
    assert (said.prefetch_count, getattr(said, 'global')) == (5, of_channel)
    peer.send('basic.qos-ok', 1)
    peer.expect('tx.select')
    peer.send('tx.select-ok', 1)
    selecting.get()


def test_a_pause_that_the_broker_has_asked_for_ends(peer: ScriptedBroker, inherited: gamqp.Channel) -> None:
    peer.send('channel.flow', 1, active=False)
    peer.expect('channel.flow-ok')
    select(peer, inherited).get()
    assert inherited.active


def test_a_close_of_the_broker_that_crosses_ours(peer: ScriptedBroker, inherited: gamqp.Channel) -> None:
    selecting = greenlets.spawn(inherited.tx_select)
    peer.expect('channel.flow')
    peer.send('channel.flow-ok', 1, active=True)
    peer.expect('channel.close')
    peer.send('channel.close', 1, reply_code=404, reply_text='gone', class_id=0, method_id=0)
    peer.send('channel.close-ok', 1)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    peer.expect('tx.select')
    peer.send('tx.select-ok', 1)
    selecting.get()
    assert inherited.is_open


@pytest.mark.parametrize('until', ['channel.flow-ok', 'channel.close-ok', 'channel.open-ok', 'tx.select-ok'])
def test_the_end_of_the_connection_amid_that_is_raised(
    peer: ScriptedBroker, client: gamqp.Connection, inherited: gamqp.Channel, until: str
) -> None:
    selecting = select(peer, inherited, until)
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError, match='the broker closed the socket'):
        selecting.get()
    assert not client.channels


def test_what_was_sent_before_is_refused_first(peer: ScriptedBroker, inherited: gamqp.Channel) -> None:
    selecting = greenlets.spawn(inherited.tx_select)
    peer.expect('channel.flow')
    peer.send('channel.close', 1, reply_code=404, reply_text='NOT_FOUND', class_id=60, method_id=40)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    with pytest.raises(exceptions.NotFound):
        selecting.get()
    selecting = greenlets.spawn(inherited.tx_select)  # the new channel is not in confirm mode
    peer.expect('tx.select')
    peer.send('tx.select-ok', 1)
    selecting.get()
