"""basic_publish_confirm runs the event handlers that concern its own message, itself, and no others."""

from __future__ import annotations

from typing import Any

import greenlet
import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

NO_ROUTE = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': 'ex', 'routing_key': 'k'}


class Odd(Exception):
    """What the handlers here raise."""


def publish(channel: gamqp.Channel, body: bytes) -> greenlets.Task:
    return greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(body), 'ex', 'k', True)


def test_a_handler_that_raises_strikes_its_own_publisher_only(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    bodies: list[bytes] = []

    def handler(error: BaseException, exchange: str, key: str, message: Any) -> None:
        bodies.append(message.body)
        raise Odd(message.body)

    confirming.events['basic_return'].add(handler)
    tasks = [publish(confirming, b'%02d' % number) for number in range(20)]
    sent = [peer.expect('basic.publish').body for _ in tasks]
    back = sent[1::2]
    peer.raw(
        b''.join(frames('basic.return', body=body, **NO_ROUTE) for body in back)
        + frames('basic.ack', delivery_tag=20, multiple=True)
    )
    for body, task in zip(sent, tasks, strict=True):
        if body in back:
            with pytest.raises(Odd) as caught:
                task.get()
            assert caught.value.args == (body,)
        else:
            task.get()
    assert sorted(bodies) == sorted(back)
    with pytest.raises(TimeoutError):  # and nothing is left for others
        client.drain_events(timeout=0)


def test_a_handler_runs_in_the_greenlet_of_its_publisher(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    called: list[tuple[Any, bytes]] = []
    confirming.events['basic_return'].add(
        lambda error, exchange, key, message: called.append((greenlet.getcurrent(), message.body))
    )
    confirming.events['basic_ack'].add(lambda tag, multiple: called.append((greenlet.getcurrent(), b'%d' % tag)))
    publishers: list[Any] = []

    def publish_one(body: bytes) -> None:
        publishers.append(greenlet.getcurrent())
        confirming.basic_publish_confirm(gamqp.Message(body), 'ex', 'k', True)

    tasks = [greenlets.spawn(publish_one, body) for body in (b'a', b'b', b'c')]
    for _ in tasks:
        peer.expect('basic.publish')
    peer.raw(
        frames('basic.return', body=b'c', **NO_ROUTE)
        + frames('basic.ack', delivery_tag=3)
        + frames('basic.return', body=b'a', **NO_ROUTE)
        + frames('basic.ack', delivery_tag=2, multiple=True)
    )
    for task in tasks:
        task.get()
    first, second, third = publishers
    assert sorted(called, key=lambda one: one[1]) == [(second, b'2'), (third, b'3'), (first, b'a'), (third, b'c')]


def test_what_comes_for_a_publisher_that_has_gone_is_for_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    """One is killed between its return and its ack, one before both."""
    bodies: list[bytes] = []
    confirming.events['basic_return'].add(lambda error, exchange, key, message: bodies.append(message.body))
    first, second = publish(confirming, b'1'), publish(confirming, b'2')
    for _ in range(2):
        peer.expect('basic.publish')
    peer.send('basic.return', body=b'1', **NO_ROUTE)
    greenlets.wait_until(lambda: client.stats()['returned'] == 1)
    first.kill()
    second.kill()
    peer.raw(frames('basic.return', body=b'2', **NO_ROUTE) + frames('basic.ack', delivery_tag=2, multiple=True))
    while len(bodies) < 2:
        client.drain_events(timeout=30)
    assert bodies == [b'1', b'2']


def test_a_publisher_runs_nothing_of_publishes_that_nobody_waits_for(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    def handler(*args: Any) -> None:
        raise Odd

    confirming.events['basic_return'].add(handler)
    confirming.events['basic_nack'].add(handler)
    receipt = confirming.publish(b'1', 'ex', 'k', mandatory=True)
    confirming.basic_publish(gamqp.Message(b'2'), 'ex', 'k', mandatory=True)
    third = publish(confirming, b'3')
    for _ in range(3):
        peer.expect('basic.publish')
    peer.raw(
        frames('basic.return', body=b'1', **NO_ROUTE)
        + frames('basic.return', body=b'2', **NO_ROUTE)
        + frames('basic.nack', delivery_tag=2, multiple=True)
        + frames('basic.ack', delivery_tag=3)
    )
    third.get()
    with pytest.raises(exceptions.Returned):
        receipt.wait()
    for _ in range(3):
        with pytest.raises(Odd):
            client.drain_events(timeout=30)


@pytest.mark.parametrize('name', ['basic.ack', 'basic.nack'])
@pytest.mark.parametrize('multiple', [False, True], ids=['one', 'multiple'])
def test_a_confirm_of_what_was_never_published_breaks_the_protocol(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, name: str, multiple: bool
) -> None:
    confirming.basic_publish(gamqp.Message(b'1'), 'ex', 'k')
    peer.expect('basic.publish')
    peer.send(name, delivery_tag=2, multiple=multiple)
    said = peer.expect('connection.close')
    assert said.reply_code == 505
    assert 'confirm of publish 2 on channel 1, where 1 were published' in said.reply_text
    with pytest.raises(exceptions.UnexpectedFrame, match='confirm of publish 2'):
        confirming.basic_publish(gamqp.Message(b'2'), 'ex', 'k')


def test_a_confirm_on_a_channel_without_confirms_breaks_the_protocol(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    peer.send('basic.ack', delivery_tag=1)
    assert 'confirms are off' in peer.expect('connection.close').reply_text


def test_confirms_that_are_repeated_without_end_make_no_events(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    tags: list[int] = []
    confirming.events['basic_ack'].add(lambda tag, multiple: tags.append(tag))
    confirming.basic_publish(gamqp.Message(b'1'), 'ex', 'k')
    peer.expect('basic.publish')
    peer.raw(frames('basic.ack', delivery_tag=1) * 5000 + frames('basic.ack', delivery_tag=0, multiple=True) * 5000)
    peer.send('connection.blocked', reason='a full stop')
    greenlets.wait_until(lambda: client.is_blocked)
    assert len(inside.handler_calls(confirming).pending.calls or ()) == 1
    client.drain_events(timeout=30)
    assert tags == [1]


def test_a_handler_of_a_multiple_runs_when_all_is_settled_whoever_has_waited_for_that(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    """The publishes of a large one are settled in turns of the hub, and the greenlet that waits for those is killed."""
    seen: list[tuple[int, int]] = []
    confirming.events['basic_ack'].add(lambda tag, multiple: seen.append((tag, confirming.unconfirmed)))
    many = 30_000
    publishing = greenlets.spawn(
        lambda: [confirming.basic_publish(gamqp.Message(b'x'), 'ex', 'k') for _ in range(many)]
    )
    for _ in range(many):
        peer.expect('basic.publish')
    publishing.get()
    draining = greenlets.spawn(client.drain_events)
    peer.send('basic.ack', delivery_tag=many, multiple=True)
    while not inside.handler_calls(confirming).running:
        greenlets.sleep(0)
    assert confirming.unconfirmed and not seen
    draining.kill()
    with pytest.raises(greenlet.GreenletExit):
        draining.get()
    assert confirming.unconfirmed and not seen
    client.drain_events(timeout=30)
    assert seen == [(many, 0)]
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
