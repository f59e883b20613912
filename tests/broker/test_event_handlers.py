"""Who runs the event handlers when several greenlets come for them, and what becomes of what is left."""

from __future__ import annotations

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions, green


@pytest.fixture
def channel(peer: ScriptedBroker, client: gamqp.Connection) -> gamqp.Channel:
    """One with confirms, and with publishes that await some."""
    channel = peer.open_channel(client)
    peer.turn_confirms_on(channel)
    for _ in range(3):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q')
        peer.expect('basic.publish')
    return channel


def publish(peer: ScriptedBroker, channel: gamqp.Channel, count: int) -> None:
    for _ in range(count):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q', mandatory=True)
    for _ in range(count):
        peer.expect('basic.publish')


def drain(client: gamqp.Connection, timeout: float = 0.3) -> None:
    """As programs do, until nothing comes."""
    with pytest.raises(TimeoutError):
        while True:
            client.drain_events(timeout=timeout)


@pytest.mark.limit(20)
def test_a_second_drainer_waits_while_a_handler_runs(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """It has nothing to do there; it must let others run, and look at its deadline."""
    seen: list[int] = []
    hold = green.Event(greenlets.backend)

    def handler(tag: int, multiple: bool) -> None:
        hold.wait()
        seen.append(tag)

    channel.events['basic_ack'].add(handler)
    first = greenlets.spawn(drain, client)
    peer.send('basic.ack', delivery_tag=1)
    greenlets.wait_until(lambda: len(hold))
    second = greenlets.spawn(drain, client)
    peer.send('basic.ack', delivery_tag=2)
    second.get()
    assert seen == []
    hold.set()
    first.get()
    assert seen == [1, 2]


@pytest.mark.limit(20)
def test_drain_events_inside_a_handler_keeps_its_deadline(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    seen: list[int] = []

    def handler(tag: int, multiple: bool) -> None:
        seen.append(tag)
        if tag == 1:
            peer.send('basic.ack', delivery_tag=2)
            drain(client)
            assert seen == [1]  # handlers of a channel do not nest

    channel.events['basic_ack'].add(handler)
    peer.send('basic.ack', delivery_tag=1)
    drain(client)
    assert seen == [1, 2]


def test_what_a_failed_handler_leaves_is_run_though_another_drainer_was_sent_away(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    seen: list[int] = []
    hold = green.Event(greenlets.backend)

    def handler(tag: int, multiple: bool) -> None:
        seen.append(tag)
        if tag == 1:
            hold.wait()
            raise ZeroDivisionError

    channel.events['basic_ack'].add(handler)
    first = greenlets.spawn(client.drain_events, 5)
    peer.send('basic.ack', delivery_tag=1)
    greenlets.wait_until(lambda: len(hold))
    peer.send('basic.ack', delivery_tag=2)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.3)
    hold.set()
    with pytest.raises(ZeroDivisionError):
        first.get()
    client.drain_events(timeout=30)
    assert seen == [1, 2]


def test_a_channel_error_is_told_though_a_handler_has_failed(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    def fail(tag: int, multiple: bool) -> None:
        raise ZeroDivisionError

    channel.events['basic_ack'].add(fail)
    peer.send('basic.ack', delivery_tag=3, multiple=True)
    peer.send('channel.close', reply_code=406, reply_text='no more')
    peer.reopen()
    greenlets.wait_until(lambda: channel.is_open)
    with pytest.raises(ZeroDivisionError):
        client.drain_events(timeout=30)
    with pytest.raises(exceptions.PreconditionFailed, match='no more'):
        client.drain_events(timeout=30)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_drain_events_ends_in_time_though_there_is_always_something_that_a_publisher_takes(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Its confirm wakes the publisher first, which calls the handlers; then the next one is here already."""
    last = 1000
    tags: list[int] = []

    def handler(tag: int, multiple: bool) -> None:
        tags.append(tag)
        if tag < last:
            peer.send('basic.ack', delivery_tag=tag + 1)  # for the publish that follows before this is read

    def publish() -> None:
        while len(tags) < last - 3:
            channel.basic_publish_confirm(gamqp.Message(b'x'), '', 'q')

    channel.events['basic_ack'].add(handler)
    # Or a publish reads what has arrived, its own confirm, before it goes.
    inside.flow_control(client).look_at = float('inf')
    publishing = greenlets.spawn(publish)
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=4)
    drain(client, 0)
    assert len(tags) < last // 2
    publishing.get()
    assert tags == list(range(4, last + 1))


def test_what_concerns_others_does_not_wait_for_a_publisher_whose_handler_fails(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    seen: list[int] = []
    hold = green.Event(greenlets.backend)

    def handler(tag: int, multiple: bool) -> None:
        seen.append(tag)
        if tag == 4:
            hold.wait()
            raise ZeroDivisionError

    channel.events['basic_ack'].add(handler)
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=4)
    greenlets.wait_until(lambda: len(hold))
    peer.send('basic.ack', delivery_tag=1)
    drain(client)
    assert seen == [4, 1]
    hold.set()
    with pytest.raises(ZeroDivisionError):
        publishing.get()
    drain(client, 0)
    assert seen == [4, 1]


def test_what_a_failed_handler_leaves_of_a_publishers_message_is_run_by_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    called: list[str] = []

    def first(tag: int, multiple: bool) -> None:
        called.append('first')
        raise ZeroDivisionError

    def second(tag: int, multiple: bool) -> None:
        called.append('second')
        raise ZeroDivisionError

    channel.events['basic_ack'] |= {first, second}
    publishing = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=4)
    with pytest.raises(ZeroDivisionError):
        publishing.get()
    assert len(called) == 1
    with pytest.raises(ZeroDivisionError):
        client.drain_events(timeout=30)
    assert sorted(called) == ['first', 'second']


@pytest.mark.parametrize('event', ['basic_ack', 'basic_nack'])
def test_a_handler_gets_every_confirm_however_late_the_program_comes(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, event: str
) -> None:
    tags: list[int] = []
    channel.events[event].add(lambda tag, multiple: tags.append(tag))
    publish(peer, channel, 2497)
    peer.raw(b''.join(frames(event.replace('_', '.'), delivery_tag=tag) for tag in range(1, 2501)))
    drain(client)
    assert tags == list(range(1, 2501))


def test_a_handler_gets_every_returned_message_however_late_the_program_comes(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    bodies: list[bytes] = []
    channel.events['basic_return'].add(lambda error, exchange, key, message: bodies.append(message.body))
    publish(peer, channel, 2500)
    publish(peer, channel, 2500)
    said = [frames('basic.return', reply_code=312, reply_text='NO_ROUTE', body=b'%d' % n) for n in range(2500)]
    peer.raw(b''.join(said))
    drain(client)
    assert bodies == [b'%d' % n for n in range(2500)]


def test_returns_that_nobody_comes_for_are_told_of_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    publish(peer, channel, 1100)
    publish(peer, channel, 1100)
    said = [frames('basic.return', reply_code=312, reply_text='NO_ROUTE', body=b'%d' % n) for n in range(1100)]
    peer.raw(b''.join(said))
    greenlets.wait_until(lambda: 'messages came back' in caplog.text)
    greenlets.wait_until(lambda: client.stats()['returned'] == 1100)
    assert caplog.text.count('messages came back') == 1
    with pytest.raises(exceptions.AMQPError, match='NO_ROUTE'):
        client.drain_events(timeout=30)
