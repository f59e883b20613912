"""Callers that give up, and what becomes of the replies that come too late for them."""

from __future__ import annotations

from typing import Any

import greenlet
import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions


def give_up(task: greenlets.Task) -> None:
    task.kill()
    with pytest.raises(GreenletExit):
        task.get()


def passed_by(client: gamqp.Connection, peer: ScriptedBroker) -> None:
    """Return when the client has handled all that the peer has sent so far."""
    before = inside.heartbeats_read(client)
    peer.raw(b'\x08\x00\x00\x00\x00\x00\x00\xce')
    greenlets.wait_until(lambda: inside.heartbeats_read(client) > before)


def test_a_killed_callers_reply_does_not_reach_the_next(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    first = greenlets.spawn(channel.queue_declare, 'one')
    peer.expect('queue.declare')
    give_up(first)
    second = greenlets.spawn(channel.queue_declare, 'two')
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='one', message_count=1)
    peer.send('queue.declare-ok', queue='two', message_count=2)
    assert second.get() == ('two', 2, 0)


def test_a_timed_out_callers_reply_does_not_reach_the_next(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    client.rpc_timeout = 0.1
    with pytest.raises(TimeoutError, match=r'queue.declare: no reply within 0.1 s'):
        channel.queue_declare('one')
    client.rpc_timeout = 30
    second = greenlets.spawn(channel.queue_declare, 'two')
    peer.expect('queue.declare')
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='one')
    assert not second.done
    peer.send('queue.declare-ok', queue='two')
    assert second.get().queue == 'two'


def test_a_late_reply_of_another_kind_is_dropped_in_order(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    gone = [
        greenlets.spawn(channel.queue_purge, 'a'),
        greenlets.spawn(channel.tx_select),
        greenlets.spawn(channel.queue_purge, 'b'),
    ]
    for name in ('queue.purge', 'tx.select', 'queue.purge'):
        peer.expect(name)
    for task in gone:
        give_up(task)
    purging = greenlets.spawn(channel.queue_purge, 'c')
    peer.expect('queue.purge')
    peer.send('queue.purge-ok', message_count=1)
    peer.send('tx.select-ok')
    peer.send('queue.purge-ok', message_count=2)
    peer.send('queue.purge-ok', message_count=3)
    assert purging.get() == 3


def test_callers_of_one_channel_get_their_replies_in_order(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    tasks = [greenlets.spawn(channel.queue_declare, f'q{number}') for number in range(50)]
    names = [peer.expect('queue.declare').queue for _ in tasks]
    for number in (3, 17, 40, 49):
        tasks[number].kill()
    peer.raw(b''.join(frames('queue.declare-ok', queue=name) for name in names))
    for number, task in enumerate(tasks):
        if number not in (3, 17, 40, 49):
            assert task.get().queue == f'q{number}'


# -- a message that was fetched for nobody ------------------------------------------


def test_get_of_a_killed_caller_gives_the_message_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    getting = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    give_up(getting)
    peer.send('basic.get-ok', delivery_tag=5, body=b'orphan')
    rejected = peer.expect('basic.nack')
    assert (rejected.delivery_tag, rejected.requeue) == (5, True)
    peer.expect_nothing_more(client)


def test_get_of_a_caller_killed_between_reply_and_waking_gives_the_message_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)

    def purge_and_kill() -> None:
        other.queue_purge('q')
        # Both replies were in one packet: the message is in its caller's slot, the caller has not run.
        greenlets.backend.run_soon(greenlet.getcurrent().switch)
        getting.greenlet.throw(GreenletExit)

    killing = greenlets.spawn(purge_and_kill)
    peer.expect('queue.purge')
    getting = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.raw(frames('queue.purge-ok', 2) + frames('basic.get-ok', delivery_tag=6, body=b'orphan'))
    killing.get()
    with pytest.raises(GreenletExit):
        getting.get()
    rejected = peer.expect('basic.nack')
    assert (rejected.delivery_tag, rejected.requeue) == (6, True)
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('reply', ['get-empty', 'no_ack'])
def test_get_of_a_killed_caller_gives_nothing_back_where_there_is_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, reply: str
) -> None:
    getting = greenlets.spawn(channel.basic_get, 'q', reply == 'no_ack')
    peer.expect('basic.get')
    give_up(getting)
    if reply == 'no_ack':
        peer.send('basic.get-ok', delivery_tag=5)
    else:
        peer.send('basic.get-empty')
    passed_by(client, peer)
    peer.expect_nothing_more(client)


def test_get_returns_its_message_or_none(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    getting = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-ok', delivery_tag=1, redelivered=True, message_count=7, body=b'x', properties={'type': 't'})
    message = getting.get()
    assert (message.body, message.properties, message.redelivered) == (b'x', {'type': 't'}, True)
    assert message.delivery_info['message_count'] == 7
    message.ack()
    assert peer.expect('basic.ack').delivery_tag == 1
    getting = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-empty')
    assert getting.get() is None


# -- a consumer that nobody knows of -------------------------------------------------


def test_consume_of_a_killed_caller_is_cancelled_and_its_deliveries_given_back(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=got.append))
    tag = peer.expect('basic.consume').consumer_tag
    give_up(consuming)
    peer.send('basic.consume-ok', consumer_tag=tag)
    peer.send('basic.deliver', consumer_tag=tag, delivery_tag=1)
    assert peer.expect('basic.cancel').consumer_tag == tag
    peer.send('basic.deliver', consumer_tag=tag, delivery_tag=2)
    for number in (1, 2):
        rejected = peer.expect('basic.nack')
        assert (rejected.delivery_tag, rejected.requeue) == (number, True)
    peer.send('basic.cancel-ok', consumer_tag=tag)
    greenlets.wait_until(lambda: tag not in channel.callbacks)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    assert got == []
    peer.expect_nothing_more(client)


def test_consume_that_times_out_is_cancelled_when_consume_ok_comes(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    client.rpc_timeout = 0.05
    with pytest.raises(TimeoutError):
        channel.basic_consume('q', callback=print)
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    assert peer.expect('basic.cancel').consumer_tag == tag


def test_consume_of_a_killed_caller_whose_queue_does_not_exist_leaves_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=print))
    peer.expect('basic.consume')
    give_up(consuming)
    peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND', class_id=60, method_id=20)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):  # nobody else was told
        client.drain_events(timeout=30)
    assert channel.callbacks == {}


def test_a_call_may_follow_the_consume_that_was_given_up(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """The cancel that takes the consumer back stands in the line of replies, too."""
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=print))
    tag = peer.expect('basic.consume').consumer_tag
    give_up(consuming)
    purging = greenlets.spawn(channel.queue_purge, 'q')
    peer.expect('queue.purge')
    peer.send('basic.consume-ok', consumer_tag=tag)
    peer.expect('basic.cancel')
    peer.send('queue.purge-ok', message_count=4)
    peer.send('basic.cancel-ok', consumer_tag=tag)
    assert purging.get() == 4
    greenlets.wait_until(lambda: tag not in channel.callbacks)
    again = greenlets.spawn(lambda: channel.basic_consume('q', tag, callback=print))
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', consumer_tag=tag)
    assert again.get() == tag


# -- a channel that nobody holds -----------------------------------------------------


def test_channel_of_a_killed_caller_is_closed_and_its_number_used_again(
    peer: ScriptedBroker, client: gamqp.Connection
) -> None:
    opening = greenlets.spawn(client.channel)
    peer.expect('channel.open', 1)
    give_up(opening)
    peer.send('channel.open-ok', 1)
    peer.expect('channel.close', 1)
    assert 1 in client.channels  # not free before close-ok
    peer.send('channel.close-ok', 1)
    greenlets.wait_until(lambda: 1 not in client.channels)
    assert peer.open_channel(client, 1).is_open


def test_numbers_of_channels_that_were_given_up_do_not_run_out(peer: ScriptedBroker) -> None:
    client = peer.open((3, 131072, 0))
    for _ in range(10):
        opening = greenlets.spawn(client.channel)
        number = peer.expect('channel.open').channel
        give_up(opening)
        peer.send('channel.open-ok', number)
        peer.expect('channel.close', number)
        peer.send('channel.close-ok', number)
        passed_by(client, peer)
    assert client.channels == {}


def test_a_channel_that_was_given_up_is_not_handed_to_the_next_caller(
    peer: ScriptedBroker, client: gamqp.Connection
) -> None:
    opening = greenlets.spawn(client.channel, 5)
    peer.expect('channel.open', 5)
    give_up(opening)
    with pytest.raises(exceptions.ConnectionError):
        client.channel(5)


# -- cancel ---------------------------------------------------------------------------


def test_a_killed_cancel_still_cancels(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    begin(peer, lambda: channel.basic_consume('q', 'mine', callback=print))
    cancelling = greenlets.spawn(channel.basic_cancel, 'mine')
    peer.expect('basic.cancel')
    give_up(cancelling)
    peer.send('basic.cancel-ok', consumer_tag='mine')
    greenlets.wait_until(lambda: 'mine' not in channel.callbacks)
    peer.expect_nothing_more(client)


def test_a_commit_whose_caller_is_killed_closes_its_channel(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """Whether it took place is unknown; and RabbitMQ takes nothing but a close behind a pending commit."""
    committing = greenlets.spawn(channel.tx_commit)
    peer.expect('tx.commit')
    give_up(committing)
    peer.expect('channel.close')
    peer.send('tx.commit-ok')
    peer.send('channel.close-ok')
    with pytest.raises(gamqp.RecoverableConnectionError):
        channel.tx_select()
    greenlets.wait_until(lambda: channel.connection is None)
