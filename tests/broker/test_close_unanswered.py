"""Channel.close that gets no close-ok: the channel ends all the same, and its number can be used again."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames
from scripted_consumers import Work, messages, start, subscribed

import gamqp
from gamqp import exceptions

CLIENT = {'tune': (2, 131072, 0)}  # channel_max: as few as possible


def close_in_vain(peer: ScriptedBroker, channel: gamqp.Channel, how: str = 'timeout') -> None:
    number = channel.channel_id
    closing = greenlets.spawn(lambda: channel.close(timeout=0.05 if how == 'timeout' else 30))
    peer.expect('channel.close', number)
    if how == 'killed':
        closing.kill()
    with pytest.raises((TimeoutError, GreenletExit)):
        closing.get()
    assert not channel.is_open and channel.connection is None


@pytest.mark.parametrize('how', ['timeout', 'killed'])
def test_whoever_waits_on_the_channel_hears_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, how: str
) -> None:
    loop = start(peer, channel)
    consumer = subscribed(peer, channel, work)
    waiting = [greenlets.spawn(next, loop), greenlets.spawn(consumer.join, 20)]
    greenlets.backend.sleep(0)
    close_in_vain(peer, channel, how)
    for task in waiting:
        with pytest.raises(exceptions.RecoverableConnectionError, match='channel 1 is closed'):
            task.get()
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('answer', ['never', 'before', 'after'])
def test_its_number_can_be_used_again(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, answer: str
) -> None:
    """after: the old channel's last words come when the new one has been asked for."""
    loop = start(peer, channel)
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    close_in_vain(peer, channel)
    with pytest.raises(exceptions.RecoverableConnectionError):
        declaring.get()
    last_words = messages(loop.tag, [1]) + frames('queue.declare-ok', queue='q') + frames('channel.close-ok')
    if answer == 'before':
        peer.raw(last_words)
        greenlets.wait_until(lambda: not inside.closes_due(client))
    opening = greenlets.spawn(client.channel, 1)
    peer.expect('channel.open', 1)
    if answer == 'after':
        got = frames('basic.get-ok', delivery_tag=7, body=b'x')
        peer.raw(got + frames('channel.close', reply_code=404, reply_text='crossed') + last_words)
        peer.expect('channel.close-ok')
    peer.send('channel.open-ok')
    again = opening.get()
    assert not inside.closes_due(client)
    loop = start(peer, again, 1)
    assert next(loop).delivery_tag == 1
    peer.expect_nothing_more(client)
    closing = greenlets.spawn(again.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    closing.get()


def test_other_numbers_are_taken_first(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    opened: list[Any] = []
    for number in (1, 2, 1):
        opening = greenlets.spawn(client.channel)
        assert peer.expect('channel.open').channel == number
        peer.send('channel.open-ok', number)
        opened.append(opening.get())
        if len(opened) == 1:
            close_in_vain(peer, opened[0])
    with pytest.raises(exceptions.ResourceError):
        client.channel()


def test_the_answer_to_a_close_of_the_broker_that_crossed_ours_is_not_forgotten(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(lambda: channel.close(timeout=0.2))
    peer.expect('channel.close')
    peer.send('channel.close', reply_code=404, reply_text='crossed')
    with pytest.raises((TimeoutError, exceptions.NotFound)):
        closing.get()
    peer.expect('channel.close-ok')
    peer.expect_nothing_more(client)
