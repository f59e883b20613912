"""A consumer that gets nothing more, because nobody settles what it has, is told once in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import Work, begin, messages, start, started, subscribed

import gamqp


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    caplog.set_level(logging.WARNING, 'gamqp.connection')
    return caplog


def said(log: Any) -> list[str]:
    greenlets.sleep(0)
    return [text for text in (record.getMessage() for record in log.records) if 'nobody has settled' in text]


def look(client: Any, later: float = 31) -> None:
    """As the timer does, so many seconds from now."""
    inside.look_for_unacked(client, time.monotonic() + later)


def calling_back(peer: ScriptedBroker, channel: gamqp.Channel, tag: str, prefetch: int, a_global: bool = False) -> None:
    asking = greenlets.spawn(channel.basic_qos, 0, prefetch, a_global)
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    asking.get()
    begin(peer, lambda: channel.basic_consume('q', tag, callback=lambda message: None))


def arrived(peer: ScriptedBroker, channel: gamqp.Channel, tag: str, tags: Any) -> None:
    peer.raw(messages(tag, tags))
    greenlets.wait_until(lambda: all(tag in inside.unacked(channel) for tag in tags))


def test_an_iterator_whose_messages_nobody_settles(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any
) -> None:
    deliveries = start(peer, channel, 3, prefetch=3)
    next(deliveries)
    look(client, 29)
    assert said(log) == []
    look(client)
    [text] = said(log)
    assert repr(deliveries.tag) in text
    assert "queue 'q'" in text
    assert 'prefetch of 3 is used up by 3' in text
    assert '30 s' in text
    look(client, 3000)
    assert len(said(log)) == 1


def test_a_callback_consumer(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any) -> None:
    calling_back(peer, channel, 'tag', 2)
    arrived(peer, channel, 'tag', [1, 2])
    look(client)
    [text] = said(log)
    assert "'tag'" in text and 'prefetch of 2 is used up by 2' in text


def test_the_limit_of_a_channel(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any
) -> None:
    calling_back(peer, channel, 'tag', 2, True)
    arrived(peer, channel, 'tag', [1])
    look(client)
    assert said(log) == []
    arrived(peer, channel, 'tag', [2])
    look(client)
    look(client, 3000)
    [text] = said(log)
    assert "'tag'" in text and 'its channel, 2, is used up by 2' in text


def test_one_that_has_room_is_left_alone(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any
) -> None:
    """The broker has no more for it, or no limit."""
    deliveries = start(peer, channel, 2, prefetch=3)
    unlimited = started(peer, lambda: channel.consume('q', prefetch=0))
    arrived(peer, channel, unlimited.tag, range(10, 20))
    look(client)
    assert said(log) == []
    assert deliveries.delivered == 2


def test_one_that_is_slow_is_left_alone(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any
) -> None:
    """Each message waits for long, but now and then one is settled."""
    deliveries = start(peer, channel, 3, prefetch=3)
    known = inside.unacked(channel)
    for tag in (1, 2):
        known[tag] = (deliveries.tag, known[tag][1] - 100)
    look(client, 5)
    assert said(log) == []
    known[3] = (deliveries.tag, known[3][1] - 100)
    look(client, 5)
    assert len(said(log)) == 1


def test_each_consumer_of_a_channel_is_looked_at(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, log: Any
) -> None:
    stuck = start(peer, channel, prefetch=2)
    busy = started(peer, lambda: channel.consume('q', prefetch=2))
    arrived(peer, channel, stuck.tag, [1, 2])
    arrived(peer, channel, busy.tag, [3, 4])
    known = inside.unacked(channel)
    for tag in (1, 2, 3):
        known[tag] = (known[tag][0], known[tag][1] - 100)
    look(client, 5)
    [text] = said(log)
    assert repr(stuck.tag) in text


def test_handlers_take_their_time(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, work: Work, log: Any
) -> None:
    work.hold(1)
    subscribed(peer, channel, work, 2, prefetch=2)
    assert not inside.looks_for_unacked(client)
    deliveries = start(peer, channel)
    look(client)
    assert said(log) == []
    assert deliveries.delivered == 0
    work.go(1)
    greenlets.wait_until(lambda: not work.running)


def test_a_consumer_without_acks_is_not_looked_at(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    deliveries = start(peer, channel, 2, no_ack=True)
    assert not inside.looks_for_unacked(client)
    assert deliveries.delivered == 2


@pytest.mark.parametrize('seconds', [None, 0])
def test_off(peer: ScriptedBroker, seconds: Any) -> None:
    client = peer.open(unsettled_warning=seconds)
    deliveries = start(peer, peer.open_channel(client))
    assert not inside.looks_for_unacked(client)
    assert deliveries.delivered == 0


def test_by_itself_and_until_the_connection_ends(peer: ScriptedBroker, log: Any) -> None:
    client = peer.open(unsettled_warning=0.05)
    channel = peer.open_channel(client)
    deliveries = start(peer, channel, 2, prefetch=2)
    greenlets.wait_until(lambda: said(log))
    timer = inside.timer_of_unacked(client)
    client.collect()
    assert timer() is None
    assert not inside.looks_for_unacked(client)
    assert deliveries.delivered == 2
