"""Connection.drain where others end channels, publishes were lost, and nobody else is there to run the callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from flooding import LIMIT, deliveries, flood
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp import exceptions, green


def consume(peer: ScriptedBroker, channel: gamqp.Channel, callback: Callable[[Any], Any], count: int = 0) -> None:
    """A consumer without acks, and that many deliveries, which have arrived."""
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=callback))
    peer.raw(deliveries(range(1, count + 1), size=10))
    client = channel.connection
    greenlets.wait_until(lambda: inside.waiting_events(client) == count)


def agree_to_cancel(peer: ScriptedBroker) -> None:
    said = peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', said.channel, consumer_tag=said.consumer_tag)


def drain(peer: ScriptedBroker, client: gamqp.Connection, timeout: float | None = 20) -> Any:
    """What drain returns to this greenlet, with a peer that agrees to everything."""
    agreeing = greenlets.spawn(lambda: (agree_to_cancel(peer), peer.agree_to_close()))
    result = client.drain(timeout)
    agreeing.get()
    return result


def begun(client: gamqp.Connection) -> Any:
    """The greenlet of a drain that has begun."""
    draining = greenlets.spawn(client.drain, 20)
    greenlets.wait_until(lambda: inside.unfinished_handlers(client).draining)
    return draining


def publish(peer: ScriptedBroker, channel: gamqp.Channel, **arguments: Any) -> gamqp.Receipt:
    """The first publish that is to be confirmed."""
    receipt = channel.publish(b'x', routing_key='q', **arguments)
    peer.expect('confirm.select')
    peer.send('confirm.select-ok', channel.channel_id)
    peer.expect('basic.publish')
    return receipt


def refuse(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """Close the channel with an error, and let it be opened again."""
    peer.send('channel.close', channel.channel_id, reply_code=404, reply_text='no exchange', class_id=60, method_id=40)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.send('channel.open-ok', channel.channel_id)


# -- channels that end ----------------------------------------------------------------


def test_a_channel_that_another_greenlet_closes_meanwhile_does_no_harm(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    receipt = publish(peer, channel)
    draining = begun(client)
    closing = greenlets.spawn(other.close)
    peer.expect('channel.close', 2)
    peer.send('channel.close-ok', 2)
    closing.get()
    peer.send('basic.ack', delivery_tag=1)
    peer.agree_to_close()
    assert draining.get() is True
    assert receipt.acked


def test_the_channel_whose_confirms_are_awaited_may_be_closed(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    lost = publish(peer, channel)
    receipt = publish(peer, other)
    draining = begun(client)
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    closing.get()
    client.send_heartbeat()
    peer.expect_nothing_before_beat()  # it waits for the other one
    peer.send('basic.ack', 2, delivery_tag=1)
    peer.agree_to_close()
    assert draining.get() is True
    assert (lost.state, receipt.state) == ('lost', 'acked')


def test_a_channel_that_is_being_closed_does_no_harm(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    draining = greenlets.spawn(client.drain, 20)
    peer.agree_to_close()
    assert draining.get() is True
    with pytest.raises(exceptions.RecoverableConnectionError):
        closing.get()


def test_a_channel_that_is_closed_while_its_cancel_is_awaited_does_no_harm(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    other = peer.open_channel(client, 2)
    begin(peer, lambda: other.basic_consume('q', 'tag', callback=print))
    receipt = publish(peer, channel)
    draining = greenlets.spawn(client.drain, 20)
    peer.expect('basic.cancel', 2)
    closing = greenlets.spawn(other.close)
    peer.expect('channel.close', 2)
    peer.send('channel.close-ok', 2)  # and no cancel-ok
    closing.get()
    client.send_heartbeat()
    peer.expect_nothing_before_beat()  # it waits for the confirm
    peer.send('basic.ack', delivery_tag=1)
    peer.agree_to_close()
    assert draining.get() is True
    assert receipt.acked


def test_the_connection_that_ends_amid_confirms_is_told(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    publish(peer, channel)
    draining = begun(client)
    peer.send('connection.close', reply_code=320, reply_text='going down')
    with pytest.raises(exceptions.ConnectionForced, match='going down'):
        draining.get()


# -- confirms ---------------------------------------------------------------------------


def test_publishes_after_a_channel_error_are_waited_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    lost = publish(peer, channel, exchange='nope')
    refuse(peer, channel)
    with pytest.raises(exceptions.NotFound):
        lost.wait(30)
    receipt = publish(peer, channel)  # nobody has asked wait_for_confirms, so the error is still to be told there
    draining = begun(client)
    peer.expect_nothing_more(client)
    peer.send('basic.ack', delivery_tag=1)
    peer.agree_to_close()
    assert draining.get() is True
    assert receipt.acked


def test_a_channel_error_decides_what_is_waited_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    lost = publish(peer, channel)
    draining = begun(client)
    refuse(peer, channel)
    peer.agree_to_close()
    assert draining.get() is True
    assert lost.state == 'lost'


# -- who hands out what came without acks -----------------------------------------------------


def test_deliveries_are_handed_out_here_when_nobody_else_drains(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    me = greenlet.getcurrent()
    consume(peer, channel, lambda message: got.append((message.delivery_tag, greenlet.getcurrent() is me)), 5)
    client.drain_events(timeout=30)
    assert drain(peer, client, None) is True
    assert got == [(tag, True) for tag in range(1, 6)]


def test_deliveries_behind_a_notice_are_handed_out_and_the_notice_is_not_raised(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    other = peer.open_channel(client, 2)
    peer.send('channel.close', 2, reply_code=406, reply_text='no')
    peer.reopen(2)
    greenlets.wait_until(lambda: other.is_open)
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=True, callback=got.append))
    peer.raw(deliveries([1, 2], size=10))
    greenlets.wait_until(lambda: inside.waiting_events(client) == 3)
    assert drain(peer, client) is True
    assert [message.delivery_tag for message in got] == [1, 2]


@pytest.mark.usefixtures('no_file_is_left')
def test_deliveries_on_disk_are_handed_out(peer: ScriptedBroker) -> None:
    got: list[int] = []
    client = peer.open(max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)
    consume(peer, channel, lambda message: got.append(message.delivery_tag))
    flood(peer, client, deliveries(range(1, 10 * LIMIT + 1)))
    assert inside.overflow(client) is not None
    assert drain(peer, client) is True
    assert got == list(range(1, 10 * LIMIT + 1))


def test_deliveries_that_come_before_cancel_ok_are_handed_out(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    consume(peer, channel, got.append)
    draining = greenlets.spawn(client.drain, 20)
    peer.expect('basic.cancel')
    peer.raw(deliveries([1, 2, 3], size=10))
    peer.send('basic.cancel-ok', consumer_tag='tag')
    peer.agree_to_close()
    assert draining.get() is True
    assert len(got) == 3


def test_another_greenlet_in_drain_events_hands_them_out_all_alone(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Its callbacks may count on that they never run at the same time."""
    got: list[Any] = []
    hold = green.Event(greenlets.backend)

    def callback(message: Any) -> None:
        hold.wait()
        got.append(greenlet.getcurrent())

    def loop() -> None:
        with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
            while True:
                client.drain_events(timeout=30)

    consume(peer, channel, callback, 20)
    looping = greenlets.spawn(loop)
    greenlets.wait_until(lambda: inside.event_queue(client).handlers_running)
    draining = greenlets.spawn(client.drain, 20)
    agree_to_cancel(peer)
    greenlets.wait_until(lambda: len(inside.event_queue(client).finished))
    hold.set()
    peer.agree_to_close()
    assert draining.get() is True
    looping.get()
    assert got == 20 * [looping.greenlet]


def test_a_greenlet_that_leaves_drain_events_leaves_the_rest_to_drain(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    hold = green.Event(greenlets.backend)

    def callback(message: Any) -> None:
        if message.delivery_tag == 1:
            hold.wait()
        got.append(greenlet.getcurrent())

    consume(peer, channel, callback, 3)
    once = greenlets.spawn(client.drain_events)
    greenlets.wait_until(lambda: inside.event_queue(client).handlers_running)
    draining = greenlets.spawn(client.drain, 20)
    agree_to_cancel(peer)
    greenlets.wait_until(lambda: len(inside.event_queue(client).finished))
    hold.set()
    peer.agree_to_close()
    assert draining.get() is True
    once.get()
    assert got == [once.greenlet, draining.greenlet, draining.greenlet]


def test_the_callback_that_drains_gets_the_rest_inside_of_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[int] = []
    outcome: list[Any] = []

    def callback(message: Any) -> None:
        got.append(message.delivery_tag)
        if message.delivery_tag == 1:
            outcome.append(drain(peer, client))

    consume(peer, channel, callback, 4)
    client.drain_events(timeout=30)
    assert outcome == [True]
    assert got == [1, 2, 3, 4]


def test_a_callback_inside_a_callback_can_drain(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    outcome: list[Any] = []

    def callback(message: Any) -> None:
        if message.delivery_tag == 1:
            client.drain_events(timeout=30)
        else:
            outcome.append(drain(peer, client))

    consume(peer, channel, callback, 2)
    client.drain_events(timeout=30)
    assert outcome == [True]


def test_a_callback_that_drain_calls_can_drain(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []

    def callback(message: Any) -> None:
        got.append(message.delivery_tag if message.delivery_tag > 1 else client.drain(20))

    consume(peer, channel, callback, 2)
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        drain(peer, client)  # it has closed the connection under the outer one
    assert got == [2, True]
    assert not inside.unfinished_handlers(client).in_drain


def test_an_event_handler_that_runs_is_waited_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    hold = green.Event(greenlets.backend)
    returned: list[Any] = []
    channel.events['basic_return'].add(lambda *args: (hold.wait(), returned.append(args)))
    once = greenlets.spawn(client.drain_events)
    peer.send('basic.return', reply_code=312, reply_text='NO_ROUTE', body=b'b')
    greenlets.wait_until(lambda: len(hold))
    draining = begun(client)
    peer.expect_nothing_more(client)
    hold.set()
    peer.agree_to_close()
    assert draining.get() is True
    once.get()
    assert returned


def test_what_a_callback_raises_comes_out_and_a_second_drain_goes_on(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[int] = []

    def callback(message: Any) -> None:
        got.append(message.delivery_tag)
        if message.delivery_tag == 2:
            raise ZeroDivisionError

    consume(peer, channel, callback, 4)
    agreeing = greenlets.spawn(agree_to_cancel, peer)
    with pytest.raises(ZeroDivisionError):
        client.drain(20)
    agreeing.get()
    assert client.connected
    assert got == [1, 2]
    agreeing = greenlets.spawn(peer.agree_to_close)
    assert client.drain(20) is True
    agreeing.get()
    assert got == [1, 2, 3, 4]


def test_the_deadline_is_looked_at_between_callbacks(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []

    def callback(message: Any) -> None:
        got.append(message)
        greenlets.sleep(0.5)

    consume(peer, channel, callback, 200)
    assert drain(peer, client, 0.25) is False
    assert len(got) < 5
    assert not client.connected
