"""The end of a channel: by us, by the peer, crossing, and its reopening after an error."""

from __future__ import annotations

import contextlib

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions, green


def refuse(peer: ScriptedBroker, code: int = 404, text: str = "NOT_FOUND - no queue 'q'", channel: int = 1) -> None:
    peer.send('channel.close', channel, reply_code=code, reply_text=text, class_id=50, method_id=10)


# RabbitMQ cuts long texts, be it in the middle of a character.
CUT = 'PRECONDITION_FAILED - inequivalent arg for queue 漢'.encode()[:-1]


def test_a_text_that_is_cut_inside_a_character_is_an_error_like_any(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare', 1)
    peer.send('channel.close', 1, reply_code=406, reply_text=CUT, class_id=50, method_id=10)
    with pytest.raises(exceptions.PreconditionFailed, match='for queue \ufffd'):
        declaring.get()
    peer.reopen()
    assert client.connected
    waiting = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare', 1)
    peer.send('connection.close', reply_code=320, reply_text=CUT)
    with pytest.raises(exceptions.ConnectionForced, match='for queue \ufffd'):
        waiting.get()


def test_a_channel_that_is_dropped_amid_a_delivery_takes_no_other_with_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    said = frames('basic.deliver', 1, consumer_tag='tag', delivery_tag=1, body=bytes(10_000), limit=4096)
    peer.raw(said[:5000])
    greenlets.wait_until(lambda: inside.frame_is_unfinished(client))
    channel.collect()
    declaring = greenlets.spawn(other.queue_declare, 'q')
    peer.expect('queue.declare', 2)
    peer.raw(said[5000:] + frames('queue.declare-ok', 2, queue='q'))
    assert declaring.get().queue == 'q'


def test_the_waiting_caller_gets_code_text_and_method(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    waiting = greenlets.spawn(other.queue_declare, 'elsewhere')
    peer.expect('queue.declare', 2)
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare', 1)
    refuse(peer)
    with pytest.raises(exceptions.NotFound) as caught:
        declaring.get()
    assert caught.value.reply_code == 404
    assert caught.value.reply_text == "NOT_FOUND - no queue 'q'"
    assert caught.value.method_sig == (50, 10)
    assert str(caught.value) == "Queue.declare: (404) NOT_FOUND - no queue 'q'"
    peer.reopen()
    # The other channel has not noticed.
    assert not waiting.done
    peer.send('queue.declare-ok', 2, queue='elsewhere')
    assert waiting.get().queue == 'elsewhere'
    # And the error is not told a second time.
    asking = greenlets.spawn(channel.queue_purge, 'q')
    peer.expect('queue.purge')
    peer.send('queue.purge-ok', message_count=3)
    assert asking.get() == 3


def test_a_call_made_while_the_channel_is_being_reopened_stands_behind_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare')
    refuse(peer)
    with pytest.raises(exceptions.NotFound):
        declaring.get()
    again = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.expect('queue.declare')
    peer.send('channel.open-ok')
    peer.send('queue.declare-ok', queue='q')
    assert again.get().queue == 'q'
    assert channel.is_open


def test_all_callers_of_that_channel_are_told_each_by_an_exception_of_its_own(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    tasks = [greenlets.spawn(channel.queue_declare, f'q{number}') for number in range(3)]
    tasks.append(greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q'))
    for name in ('queue.declare',) * 3 + ('confirm.select', 'basic.publish'):
        peer.expect(name)
    refuse(peer, 406, 'PRECONDITION_FAILED')
    errors = []
    for task in tasks:
        with pytest.raises(exceptions.PreconditionFailed) as caught:
            task.get()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 4
    peer.reopen()


def test_an_error_nobody_waits_for_comes_out_of_the_next_call_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    channel.basic_publish(gamqp.Message(b'x'), 'nowhere', 'q')
    peer.expect('basic.publish')
    refuse(peer, text="NOT_FOUND - no exchange 'nowhere'")
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    with pytest.raises(exceptions.NotFound, match='nowhere'):
        channel.basic_publish(gamqp.Message(b'y'), '', 'q')
    channel.basic_publish(gamqp.Message(b'z'), '', 'q')
    assert peer.expect('basic.publish').body == b'z'
    with contextlib.suppress(TimeoutError):
        client.drain_events(timeout=0)  # it may find nothing to do, but not the same error


def test_an_error_nobody_waits_for_comes_out_of_drain_events_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    channel.basic_ack(77)
    peer.expect('basic.ack')
    refuse(peer, 406, 'PRECONDITION_FAILED - unknown delivery tag 77')
    peer.reopen()
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag 77'):
        client.drain_events(timeout=30)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.01)
    channel.basic_ack(1)
    peer.expect('basic.ack')


def test_after_an_error_the_channel_has_lost_its_consumers_and_confirm_mode(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=print))
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    consuming.get()
    peer.turn_confirms_on(channel)
    peer.send('basic.deliver', consumer_tag=tag, delivery_tag=1)
    refuse(peer, 406, 'PRECONDITION_FAILED')
    peer.reopen()
    with pytest.raises(exceptions.PreconditionFailed):
        client.drain_events(timeout=30)
    assert channel.callbacks == {}
    with pytest.raises(TimeoutError):  # the broker has requeued what was undelivered
        client.drain_events(timeout=0)
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    peer.send('basic.ack', delivery_tag=1)
    publishing.get()


def test_who_drains_learns_that_its_consumers_are_gone_though_the_error_was_anothers(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=print))
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    consuming.get()
    draining = greenlets.spawn(client.drain_events, 30)
    greenlets.wait_until(lambda: inside.event_queue(client).drainers_idle)
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), 'nowhere', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    refuse(peer, text="NOT_FOUND - no exchange 'nowhere'")
    peer.reopen()
    with pytest.raises(exceptions.NotFound, match='nowhere'):
        publishing.get()
    with pytest.raises(exceptions.NotFound, match='nowhere'):
        draining.get()
    with pytest.raises(TimeoutError):  # once
        client.drain_events(timeout=0)


@pytest.mark.parametrize('renews', [False, True])
def test_a_callback_under_way_does_not_keep_that_from_who_drains(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, renews: bool
) -> None:
    def consume() -> None:
        consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=lambda message: hold.wait()))
        tags.append(peer.expect('basic.consume').consumer_tag)
        peer.send('basic.consume-ok', consumer_tag=tags[-1])
        consuming.get()

    def drain() -> None:
        client.drain_events(timeout=30)
        client.drain_events(timeout=0)

    hold = green.Event(greenlets.backend)
    tags: list[str] = []
    consume()
    draining = greenlets.spawn(drain)
    peer.send('basic.deliver', consumer_tag=tags[0], delivery_tag=1)
    greenlets.wait_until(lambda: len(hold))
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare')
    refuse(peer)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):
        declaring.get()
    if renews:
        consume()
    hold.set()
    with pytest.raises(TimeoutError if renews else exceptions.NotFound):
        draining.get()


@pytest.mark.parametrize('joined', [False, True])
def test_handlers_that_nobody_joins_do_not_end_without_a_word(
    peer: ScriptedBroker, channel: gamqp.Channel, caplog: pytest.LogCaptureFixture, joined: bool
) -> None:
    subscribing = greenlets.spawn(channel.subscribe, 'q', print)
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    consumer = subscribing.get()
    if joined:
        joining = greenlets.spawn(consumer.join)
        greenlets.wait_until(lambda: not inside.inbox(consumer).is_unheard)
    declaring = greenlets.spawn(channel.queue_declare, 'missing', True)
    peer.expect('queue.declare')
    refuse(peer)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):
        declaring.get()
    if joined:
        with pytest.raises(exceptions.NotFound):
            joining.get()
    greenlets.wait_until(lambda: channel.is_open)
    greenlets.backend.sleep(0)
    assert ('closed by the broker' in caplog.text) is not joined


def test_an_error_while_reopening_is_told_too(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    channel.basic_ack(1)
    peer.expect('basic.ack')
    refuse(peer, 406, 'first')
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.send('channel.close', reply_code=405, reply_text='second')
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    with pytest.raises(exceptions.ChannelError):
        channel.basic_ack(2)


def test_an_unknown_code_is_a_channel_error_with_that_code(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    refuse(peer, 777, 'odd')
    with pytest.raises(exceptions.ChannelError, match='odd') as caught:
        declaring.get()
    assert caught.value.reply_code == 777
    peer.reopen()


def test_close_waits_for_the_peer_and_frees_the_number(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    assert channel.is_closing
    with pytest.raises(exceptions.RecoverableConnectionError):
        channel.basic_ack(1)
    peer.send('channel.close-ok')
    closing.get()
    assert not channel.is_open
    channel.close()
    with pytest.raises(exceptions.RecoverableConnectionError, match='channel 1 is closed'):
        channel.queue_declare('q')
    again = peer.open_channel(client, 1)
    assert again is not channel


def test_channel_closes_that_cross_end_the_channel_and_a_stray_close_ok_does_no_harm(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    refuse(peer)
    peer.send('channel.close-ok')
    try:
        closing.get()
    except exceptions.RecoverableConnectionError:
        pytest.fail('close() must not raise when the peer closes as well')
    peer.expect('channel.close-ok')
    peer.expect_nothing_more(client)
    other = peer.open_channel(client, 2)
    assert other.is_open
    assert client.connected


def test_after_crossing_closes_the_number_is_not_free_until_ours_is_answered(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Else the close-ok would meet the next channel of that number."""
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    refuse(peer)
    opening = greenlets.spawn(client.channel)
    peer.expect('channel.open', 2)
    assert not closing.done
    assert client.channels[1] is channel
    # RabbitMQ answers our close late, and never if it has our close-ok first.
    peer.send('channel.close-ok', 1)
    peer.send('channel.open-ok', 2)
    closing.get()
    peer.expect('channel.close-ok', 1)
    assert opening.get().is_open
    assert peer.open_channel(client, 1).is_open


def test_callers_are_told_the_error_when_closes_cross(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare')
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    refuse(peer)
    peer.send('channel.close-ok')
    with pytest.raises(exceptions.NotFound):
        declaring.get()
    closing.get()


def test_frames_for_a_channel_that_is_gone_are_dropped(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    closing.get()
    peer.send('basic.deliver', consumer_tag='t', delivery_tag=9, body=b'late')
    peer.send('basic.ack', delivery_tag=3)
    peer.send('channel.close', 9, reply_code=504, reply_text='never heard of it')
    peer.expect('channel.close-ok', 9)
    peer.expect_nothing_more(client)
    assert client.connected


def test_no_callback_runs_any_more_once_close_was_called(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[object] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    peer.send('basic.deliver', consumer_tag='tag', delivery_tag=1)
    greenlets.wait_until(lambda: inside.waiting_events(client))
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('basic.deliver', consumer_tag='tag', delivery_tag=2)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.05)
    peer.send('channel.close-ok')
    closing.get()
    peer.expect_nothing_more(client)  # nor is anything rejected: the broker requeues what is unacked
    assert got == []


def test_a_killed_close_leaves_no_channel_behind(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    closing.kill()
    with pytest.raises(GreenletExit):
        closing.get()
    peer.send('channel.close-ok')
    greenlets.wait_until(lambda: not channel.is_closing)
    assert 1 not in client.channels


def test_replies_that_come_during_our_close_do_not_disturb_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('queue.declare-ok', queue='q')
    peer.send('channel.close-ok')
    assert declaring.get().queue == 'q'
    closing.get()


def test_callers_are_told_when_their_channel_is_closed_by_another_greenlet(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """RabbitMQ ignores all but close after a channel.close, so their replies never come."""
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('queue.declare-ok', queue='q')
    peer.send('confirm.select-ok')
    peer.send('channel.close-ok')
    closing.get()
    declaring.get()
    with pytest.raises(exceptions.RecoverableConnectionError, match='channel 1 is closed'):
        publishing.get()


def test_flow_is_answered_and_noted(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.send('channel.flow', active=False)
    assert peer.expect('channel.flow-ok').active is False
    assert not channel.active
    peer.send('channel.flow', active=True)
    assert peer.expect('channel.flow-ok').active is True
    assert channel.active


def test_a_closed_channel_cannot_be_opened_again(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    channel.open()  # open already
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    with pytest.raises(exceptions.RecoverableConnectionError, match='channel 1 is closing'):
        channel.open()
    peer.send('channel.close-ok')
    closing.get()
    with pytest.raises(exceptions.RecoverableConnectionError, match='channel 1 is closed'):
        channel.open()


def warnings_after(peer: ScriptedBroker, client: gamqp.Connection, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged until now; it is told by greenlets that began before this call."""
    peer.expect_nothing_more(client)
    greenlets.sleep(0)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize('call', ['reply', 'confirm', 'receipt', 'iterator', 'consumer'])
def test_an_error_that_its_caller_gets_is_no_warning(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    asking = {
        'reply': lambda: channel.queue_declare('q', True),
        'confirm': lambda: channel.basic_publish_confirm(gamqp.Message('x'), 'no such exchange'),
        'receipt': lambda: channel.publish('x', 'no such exchange').wait(),
        'iterator': lambda: next(iter(channel.consume('q'))),
        'consumer': lambda: channel.subscribe('q', print).join(),
    }
    waiting = greenlets.spawn(asking[call])
    if call in ('confirm', 'receipt'):
        peer.expect('confirm.select', 1)
        peer.expect('basic.publish', 1)
    elif call in ('iterator', 'consumer'):
        peer.expect('basic.qos', 1)
        peer.send('basic.qos-ok', 1)
        consume = peer.expect('basic.consume', 1)
        peer.send('basic.consume-ok', 1, consumer_tag=consume.consumer_tag)
        greenlets.wait_until(lambda: inside.consumer_is_waited_for(channel), what='it waits')
    else:
        peer.expect('queue.declare', 1)
    refuse(peer)
    with pytest.raises(exceptions.NotFound):
        waiting.get()
    peer.reopen()
    assert warnings_after(peer, client, caplog) == []


def test_an_error_that_nobody_waits_for_is_a_warning(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    channel.basic_publish(gamqp.Message('x'), 'no such exchange')
    peer.expect('basic.publish', 1)
    refuse(peer)
    peer.reopen()
    (text,) = warnings_after(peer, client, caplog)
    assert 'channel 1 was closed by the broker and is reopened: ' in text
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare('q')


def test_a_receipt_that_nobody_is_waiting_for_does_not_keep_the_error_out_of_the_log(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = channel.publish('x', 'no such exchange')
    peer.expect('confirm.select', 1)
    peer.expect('basic.publish', 1)
    refuse(peer)
    peer.reopen()
    assert len(warnings_after(peer, client, caplog)) == 1
    with pytest.raises(exceptions.NotFound):
        receipt.wait()
    asking = greenlets.spawn(channel.queue_declare, 'q', True)  # it is told once, by the receipt
    peer.expect('queue.declare', 1)
    peer.send('queue.declare-ok', 1, queue='q')
    asking.get()
