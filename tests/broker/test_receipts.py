"""Channel.publish and its Receipt: what goes on the wire, who waits, and that each publish hears of itself alone."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions
from gamqp.wire.spec import Basic


def test_the_first_publish_turns_confirm_mode_on_in_front_of_itself(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    receipt = channel.publish(b'body', 'ex', 'key', mandatory=True, delivery_mode=2, headers={'a': 1})
    assert (receipt.delivery_tag, receipt.exchange, receipt.routing_key) == (1, 'ex', 'key')
    assert (receipt.state, receipt.done, receipt.acked, receipt.error) == ('pending', False, False, None)
    peer.expect('confirm.select')
    sent = peer.expect('basic.publish')
    assert (sent.exchange, sent.routing_key, sent.mandatory, sent.body) == ('ex', 'key', True, b'body')
    assert sent.properties == {'delivery_mode': 2, 'application_headers': {'a': 1}}
    assert channel.publish(b'2').delivery_tag == 2
    assert peer.expect('basic.publish').body == b'2'
    peer.send('confirm.select-ok')
    peer.send('basic.ack', delivery_tag=1)
    receipt.wait()
    assert (receipt.state, receipt.done, receipt.acked, receipt.error) == ('acked', True, True, None)
    receipt.wait()


def test_a_message_and_properties_go_together(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    message = gamqp.Message('grüße', priority=1, message_id='of the message')
    channel.publish(message, routing_key='q', priority=5)
    peer.expect('confirm.select')
    sent = peer.expect('basic.publish')
    assert sent.body == 'grüße'.encode()
    assert sent.properties == {'priority': 5, 'message_id': 'of the message', 'content_encoding': 'utf-8'}
    assert message.properties == {'priority': 1, 'message_id': 'of the message'}


@pytest.mark.parametrize('message', [None, 7, ['x'], {'x': 1}])
def test_what_is_no_message_is_refused(peer: ScriptedBroker, channel: gamqp.Channel, message: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match=type(message).__name__):
        channel.publish(message, routing_key='q')


@pytest.mark.parametrize('arguments', [{'delivery_mod': 2}, {'routing_key': 'k' * 300}, {'expiration': 5}])
def test_what_cannot_be_encoded_takes_no_number(
    peer: ScriptedBroker, channel: gamqp.Channel, arguments: dict[str, Any]
) -> None:
    with pytest.raises(exceptions.EncodeError):
        channel.publish(b'x', **arguments)
    assert channel.publish(b'y').delivery_tag == 1
    peer.expect('confirm.select')
    assert peer.expect('basic.publish').body == b'y'


def test_each_verdict_reaches_its_own_receipt(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.turn_confirms_on(channel)
    receipts = [channel.publish(b'%d' % number, 'ex', 'k', mandatory=True) for number in range(4)]
    back = frames('basic.return', reply_code=312, reply_text='NO_ROUTE', exchange='ex', routing_key='k', body=b'2')
    peer.raw(
        frames('basic.nack', delivery_tag=2)
        + back
        + frames('basic.ack', delivery_tag=3)
        + frames('basic.ack', delivery_tag=1)
    )
    receipts[0].wait(30)
    with pytest.raises(exceptions.MessageNacked, match="'ex', 'k'"):
        receipts[1].wait(30)
    with pytest.raises(exceptions.Returned, match='NO_ROUTE') as caught:
        receipts[2].wait(30)
    assert caught.value.returned.body == b'2'
    assert [receipt.state for receipt in receipts] == ['acked', 'nacked', 'returned', 'pending']
    assert receipts[2].error is not receipts[2].error  # a new one each time, or tracebacks would pile up
    with pytest.raises(TimeoutError):
        receipts[3].wait(0.01)
    assert receipts[3].state == 'pending'
    with pytest.raises(TimeoutError):  # nobody else is told of the return
        channel.connection.drain_events(timeout=0)
    assert channel.returned_messages.empty()


def test_many_wait_for_one_receipt_and_one_that_is_killed_disturbs_nobody(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    peer.turn_confirms_on(channel)
    receipt = channel.publish(b'x')
    tasks = [greenlets.spawn(receipt.wait) for _ in range(5)]
    greenlets.sleep(0)
    tasks[2].kill()
    with pytest.raises(GreenletExit):
        tasks[2].get()
    peer.send('basic.ack', delivery_tag=1)
    for number, task in enumerate(tasks):
        if number != 2:
            task.get()


@pytest.mark.parametrize('how', ['channel error', 'connection closed by the broker', 'cut', 'close', 'channel close'])
def test_the_end_reaches_every_receipt(peer: ScriptedBroker, channel: gamqp.Channel, how: str) -> None:
    peer.turn_confirms_on(channel)
    receipts = [channel.publish(b'x', routing_key='q', mandatory=True) for _ in range(3)]
    waiting = greenlets.spawn(receipts[0].wait)
    for _ in receipts:
        peer.expect('basic.publish')
    connection, closing = channel.connection, None
    expected: type[BaseException] = exceptions.RecoverableConnectionError
    if how == 'channel error':
        peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND - no exchange')
        expected = exceptions.NotFound
    elif how == 'connection closed by the broker':
        peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED')
        expected = exceptions.ConnectionForced
    elif how == 'cut':
        peer.cut()
    elif how == 'close':
        closing = greenlets.spawn(connection.close)
        peer.expect('connection.close')
        peer.send('connection.close-ok')
    else:
        closing = greenlets.spawn(channel.close)
        peer.expect('channel.close')
        peer.send('channel.close-ok')
    with pytest.raises(expected):
        waiting.get()
    for receipt in receipts:
        assert receipt.state == 'lost'
        with pytest.raises(expected):
            receipt.wait(30)
    if closing is not None:
        closing.get()


def test_after_a_channel_error_numbers_begin_anew(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.turn_confirms_on(channel)
    lost = channel.publish(b'x', 'no such')
    peer.expect('basic.publish')
    peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND')
    with pytest.raises(exceptions.NotFound):
        lost.wait(30)
    receipt = channel.publish(b'y')
    assert receipt.delivery_tag == 1
    peer.reopen()
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    assert peer.expect('basic.publish').body == b'y'
    peer.send('basic.ack', delivery_tag=1)
    receipt.wait(30)
    assert lost.state == 'lost'


# -- the limit -----------------------------------------------------------------------------------------------


def limited(peer: ScriptedBroker, channel: gamqp.Channel, limit: int) -> None:
    peer.turn_confirms_on(channel)
    channel.outstanding_limit = limit


@pytest.mark.parametrize('seed', range(5))
def test_the_limit_is_never_exceeded_and_everybody_gets_through(
    peer: ScriptedBroker, channel: gamqp.Channel, seed: int
) -> None:
    rng = random.Random(seed)
    limited(peer, channel, 5)
    tasks = [greenlets.spawn(channel.publish, b'%d' % number) for number in range(100)]
    sent, settled = 0, 0
    while settled < 100:
        came = greenlets.wait_until(peer.take_what_came) if sent == settled else peer.take_what_came()
        assert all(event.name == 'basic.publish' for event in came)
        sent += len(came)
        assert sent - settled <= 5
        step = rng.randint(1, sent - settled)
        settled += step
        peer.send(rng.choice(['basic.ack', 'basic.nack']), delivery_tag=settled, multiple=True)
    assert sorted(task.get().delivery_tag for task in tasks) == list(range(1, 101))


def test_who_waits_for_room_is_not_overtaken_for_ever(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """Two publish again as soon as they have their confirm; the third has waited longer than both."""
    limited(peer, channel, 2)
    going = [greenlets.spawn(publish_again_and_again, channel, 20) for _ in range(2)]
    peer.expect('basic.publish'), peer.expect('basic.publish')
    third = greenlets.spawn(channel.publish, b'third')
    greenlets.sleep(0)
    bodies = []
    for tag in range(1, 42):
        peer.send('basic.ack', delivery_tag=tag)
        if tag < 40:
            bodies.append(peer.expect('basic.publish').body)
    for task in [*going, third]:
        task.get()
    assert b'third' in bodies[:3]


def publish_again_and_again(channel: gamqp.Channel, times: int) -> None:
    for _ in range(times):
        channel.publish(b'again').wait(30)


def test_room_that_its_owner_cannot_use_goes_to_the_next(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    limited(peer, channel, 1)
    first = channel.publish(b'first')
    bad = greenlets.spawn(channel.publish, b'x', '', 'k' * 300)
    killed = greenlets.spawn(channel.publish, b'killed')
    third = greenlets.spawn(channel.publish, b'third')
    greenlets.sleep(0)
    assert peer.expect('basic.publish').body == b'first'
    killed.kill()
    peer.send('basic.ack', delivery_tag=1)
    assert peer.expect('basic.publish').body == b'third'
    assert first.acked
    assert third.get().delivery_tag == 2
    with pytest.raises(exceptions.EncodeError):
        bad.get()
    with pytest.raises(GreenletExit):
        killed.get()


def test_no_room_in_time_is_a_timeout_and_sends_nothing(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    limited(peer, channel, 2)
    channel.publish(b'1'), channel.publish(b'2')
    with pytest.raises(TimeoutError, match='2 publishes of channel 1 are without a confirm'):
        channel.publish(b'3', timeout=0.01)
    peer.expect('basic.publish'), peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=2, multiple=True)
    greenlets.wait_until(lambda: channel.publish(b'4', timeout=0.5))
    assert peer.expect('basic.publish').body == b'4'


def test_who_waits_for_room_goes_on_when_the_channel_was_closed_and_reopened(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    limited(peer, channel, 1)
    first = channel.publish(b'first')
    second = greenlets.spawn(channel.publish, b'second')
    peer.expect('basic.publish')
    peer.send('channel.close', reply_code=406, reply_text='PRECONDITION_FAILED')
    with pytest.raises(exceptions.PreconditionFailed):
        first.wait(30)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.expect('confirm.select')
    assert peer.expect('basic.publish').body == b'second'
    assert second.get().delivery_tag == 1


@pytest.mark.parametrize('end', ['cut', 'close'])
def test_who_waits_for_room_hears_of_the_end(peer: ScriptedBroker, channel: gamqp.Channel, end: str) -> None:
    limited(peer, channel, 1)
    channel.publish(b'first')
    waiting = [greenlets.spawn(channel.publish, b'second') for _ in range(3)]
    peer.expect('basic.publish')
    if end == 'cut':
        peer.cut()
    else:
        channel.connection.collect()
    for task in waiting:
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()


def test_zero_is_no_limit(peer: ScriptedBroker) -> None:
    channel = peer.open_channel(peer.open(outstanding_limit=0))
    receipts = [channel.publish(b'x') for _ in range(3000)]
    assert receipts[-1].delivery_tag == 3000
    assert not receipts[0].done


# -- wait_for_confirms ---------------------------------------------------------------------------------------


def test_nothing_published_is_all_confirmed(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    assert channel.wait_for_confirms() is True
    peer.turn_confirms_on(channel)
    assert channel.wait_for_confirms() is True


def test_all_confirms_are_waited_for(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.turn_confirms_on(channel)
    channel.basic_publish(gamqp.Message(b'1'))
    channel.publish(b'2')
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    channel.publish(b'3')  # too late for that wait
    peer.send('basic.ack', delivery_tag=2)
    greenlets.wait_until(lambda: channel.unconfirmed == 2)
    assert not waiting.done
    peer.send('basic.ack', delivery_tag=1)
    assert waiting.get() is True
    with pytest.raises(TimeoutError, match='1 publishes'):
        channel.wait_for_confirms(timeout=0.01)
    assert not inside.waits_for_confirms(channel)


def test_what_was_refused_before_the_wait_is_told_once(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.turn_confirms_on(channel)
    receipts = [channel.publish(b'x') for _ in range(3)]
    peer.send('basic.nack', delivery_tag=1)
    peer.send('basic.ack', delivery_tag=2)
    greenlets.wait_until(lambda: receipts[1].done)
    waiting = greenlets.spawn(channel.wait_for_confirms)
    peer.send('basic.ack', delivery_tag=3)
    assert waiting.get() is False
    assert channel.wait_for_confirms() is True


def test_a_refusal_that_an_interrupted_wait_did_not_tell_is_told_by_the_next(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    peer.turn_confirms_on(channel)
    receipt = channel.publish(b'x')
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.wait_until(lambda: inside.waits_for_confirms(channel))
    waiting.kill()  # runs in the next pass of the hub, where the nack would wake it, too
    inside.method_arrives(channel, Basic.Nack, 1, False, False)
    with pytest.raises(GreenletExit):
        waiting.get()
    assert receipt.state == 'nacked'
    assert channel.wait_for_confirms() is False
    assert channel.wait_for_confirms() is True


def test_publishes_that_were_lost_are_never_all_confirmed(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """Published, not looked at, the channel closed and reopened meanwhile: True would be a lie."""
    peer.turn_confirms_on(channel)
    channel.publish(b'x', 'no such exchange')
    peer.expect('basic.publish')
    peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND')
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    with pytest.raises(exceptions.NotFound):
        channel.wait_for_confirms()
    assert channel.wait_for_confirms() is True


def test_a_wait_hears_why_the_channel_ended_and_says_it_once(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    peer.turn_confirms_on(channel)
    channel.publish(b'x', 'no such exchange')
    waiting = greenlets.spawn(channel.wait_for_confirms)
    peer.expect('basic.publish')
    peer.send('channel.close', reply_code=404, reply_text='NOT_FOUND')
    with pytest.raises(exceptions.NotFound):
        waiting.get()
    assert channel.wait_for_confirms() is True


def test_the_outcome_of_one_that_came_back_stays_when_the_connection_ends_before_its_ack(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    confirming.events['basic_return'].add(print)
    receipt = confirming.publish(b'x', 'ex', 'k', mandatory=True)
    peer.expect('basic.publish')
    peer.send('basic.return', reply_code=312, reply_text='NO_ROUTE', exchange='ex', routing_key='k', body=b'x')
    greenlets.wait_until(lambda: receipt.done)
    assert receipt.state == 'returned'
    client.collect()
    greenlets.sleep(0)
    assert receipt.state == 'returned'
    with pytest.raises(exceptions.Returned):
        receipt.wait()


# -- in the middle of something --------------------------------------------------------------------------------


def amid_the_next_send(act: Callable[[], Any]) -> None:
    """Run *act* once, inside the next send, as a signal handler or a finalizer may."""

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == 'call' and frame.f_code.co_name == '_push':
            sys.setprofile(None)
            act()

    sys.setprofile(note)


def test_a_publish_amid_another_ones_send_gets_the_next_number(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    inner: list[gamqp.Receipt] = []
    amid_the_next_send(lambda: inner.append(confirming.publish(b'inner', 'ex', 'k', mandatory=True)))
    outer = confirming.publish(b'outer', 'ex', 'k', mandatory=True)
    assert (outer.delivery_tag, inner[0].delivery_tag) == (1, 2)
    assert [peer.expect('basic.publish').body for _ in range(2)] == [b'outer', b'inner']
    peer.send('basic.nack', delivery_tag=1, multiple=True)
    greenlets.wait_until(lambda: outer.done)
    assert (outer.state, inner[0].state) == ('nacked', 'pending')
    peer.send('basic.ack', delivery_tag=2)
    inner[0].wait()
    assert confirming.unconfirmed == 0


def test_a_channel_that_ends_amid_a_send_leaves_no_receipt_without_an_outcome(
    peer: ScriptedBroker, confirming: gamqp.Channel
) -> None:
    amid_the_next_send(confirming.collect)
    receipt = confirming.publish(b'x')
    assert receipt.state == 'lost'
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        receipt.wait()


def test_a_look_at_a_receipt_costs_the_same_with_many_channels(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    """When the connection ends, most of them get their reason in later turns of the hub, or when they are looked at."""
    channels = [peer.open_channel(client, number) for number in range(1, 61)]
    receipts = [channel.publish(b'x', '', 'q') for channel in channels for _ in range(50)]
    looks = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal looks
        looks += event == 'call' and frame.f_code.co_filename.endswith('confirms_at_end.py')

    client.collect()
    sys.setprofile(note)
    try:
        assert all(receipt.done for receipt in receipts)
    finally:
        sys.setprofile(None)
    assert 0 < looks <= 5 * len(receipts)
    assert {receipt.state for receipt in receipts} == {'lost'}
