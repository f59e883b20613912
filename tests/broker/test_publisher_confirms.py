"""The publisher confirms of one channel as an object: room, waiting for all, and why some are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest
from publishing import publish

import gamqp
from gamqp import exceptions, green
from gamqp.channel.basic_publish import ConfirmSlot
from gamqp.channel.waiting_for_confirms import ChannelConfirms
from gamqp.state.confirm_matching import Confirms
from gamqp.state.lifecycle import Reason


@pytest.fixture
def confirms(client: gamqp.Connection) -> ChannelConfirms:
    """In confirm mode, for channel 7 of an open connection."""
    confirms = ChannelConfirms(client, 7)
    confirms.begin()
    return confirms


def outstanding(confirms: ChannelConfirms, publishes: int = 0) -> Confirms:
    """What is outstanding, after so many publishes more."""
    assert confirms.outstanding is not None
    for _ in range(publishes):
        publish(confirms.outstanding)
    return confirms.outstanding


def counted(client: gamqp.Connection) -> tuple[int, int, int]:
    counts = client.stats()
    return counts['confirmed'], counts['nacked'], counts['lost']


def lost() -> Reason:
    return Reason(exceptions.RecoverableConnectionError('the channel has ended'))


def test_confirm_mode_is_off_at_first_and_begins_once(client: gamqp.Connection) -> None:
    confirms = ChannelConfirms(client, 7)
    assert confirms.outstanding is None
    assert not confirms.is_crowded(1)
    assert confirms.wait(5) is True
    confirms.begin()
    first = outstanding(confirms, publishes=1)
    confirms.begin()
    assert confirms.outstanding is first
    assert not first.selected
    confirms.selected()
    assert first.selected


def test_each_confirm_is_counted(client: gamqp.Connection, confirms: ChannelConfirms) -> None:
    outstanding(confirms, publishes=6)
    assert confirms.settle(1, False, True) == 1
    assert confirms.settle(2, False, False) == 1
    assert confirms.settle(2, False, True) == 0
    assert counted(client) == (1, 1, 0)
    assert confirms.settle(4, True, True) == 2
    assert confirms.settle(0, True, False) == 2
    assert counted(client) == (3, 3, 0)
    assert len(confirms) == 0


def test_a_publish_waits_for_room_and_the_next_confirm_gives_it(confirms: ChannelConfirms) -> None:
    outstanding(confirms, publishes=2)
    assert confirms.is_crowded(2)
    assert not confirms.is_crowded(3)
    waiting = greenlets.spawn(confirms.wait_for_room, 2, green.Deadline(60))
    greenlets.wait_until(lambda: inside.waits_for_room(confirms))
    confirms.settle(1, False, True)
    assert confirms.is_crowded(2)  # the place is reserved for the one that was woken
    waiting.get()
    assert not confirms.is_crowded(2)


def test_a_place_that_is_given_up_is_for_the_next(confirms: ChannelConfirms) -> None:
    outstanding(confirms, publishes=2)
    tasks = [greenlets.spawn(confirms.wait_for_room, 2, green.Deadline(60)) for _ in range(2)]
    greenlets.wait_until(lambda: inside.waits_for_room(confirms) == 2)
    confirms.settle(1, False, True)
    tasks[0].get()
    confirms.give_up_room(2)
    tasks[1].get()


def test_without_room_there_is_an_error_in_time(confirms: ChannelConfirms) -> None:
    outstanding(confirms, publishes=2)
    with pytest.raises(TimeoutError, match='2 publishes of channel 7 are without a confirm, and no room came within'):
        confirms.wait_for_room(2, green.Deadline(0.01))


@pytest.mark.parametrize(('verdicts', 'result'), [((True, True), True), ((True, False), False)])
def test_waiting_for_all(confirms: ChannelConfirms, verdicts: tuple[bool, bool], result: bool) -> None:
    outstanding(confirms, publishes=2)
    waiting = greenlets.spawn(confirms.wait, 60)
    greenlets.wait_until(lambda: confirms.has_barriers)
    for tag, ok in enumerate(verdicts, 1):
        confirms.settle(tag, False, ok)
    assert waiting.get() is result
    assert confirms.wait(60) is True  # it is reported once


def test_a_wait_that_times_out_leaves_the_bad_news_to_the_next(confirms: ChannelConfirms) -> None:
    outstanding(confirms, publishes=2)
    confirms.settle(1, False, False)
    with pytest.raises(TimeoutError, match='1 publishes are still without a confirm'):
        confirms.wait(0.01)
    assert not confirms.has_barriers
    confirms.settle(2, False, True)
    assert confirms.wait(60) is False


@pytest.mark.parametrize(
    ('before', 'is_lost'), [(lambda confirms: None, False), (lambda confirms: outstanding(confirms, 2), True)]
)
def test_the_next_wait_raises_why_publishes_were_lost(
    client: gamqp.Connection, confirms: ChannelConfirms, before: Callable[[ChannelConfirms], Any], is_lost: bool
) -> None:
    before(confirms)
    unheard: list[bool] = []
    confirms.end(lost(), lambda: unheard.append(True))
    greenlets.wait_until(lambda: unheard == [True])
    assert confirms.outstanding is None
    assert counted(client) == (0, 0, 2 * is_lost)
    assert not confirms.endings
    if is_lost:
        with pytest.raises(exceptions.RecoverableConnectionError, match='the channel has ended'):
            confirms.wait(60)
    assert confirms.wait(60) is True


def test_who_waits_hears_of_the_end(client: gamqp.Connection, confirms: ChannelConfirms) -> None:
    slot = ConfirmSlot(greenlets.backend)
    publish(outstanding(confirms), slot)
    publishing = greenlets.spawn(slot.wait, 60)
    crowded = greenlets.spawn(confirms.wait_for_room, 1, green.Deadline(60))
    waiting = greenlets.spawn(confirms.wait, 60)
    greenlets.wait_until(lambda: confirms.has_barriers and inside.waits_for_room(confirms) and slot.awaited)
    assert confirms.has_waiters
    unheard: list[bool] = []
    confirms.end(lost(), lambda: unheard.append(True))
    crowded.get()
    publishing.get()
    for result in (slot.result, waiting.get):
        with pytest.raises(exceptions.RecoverableConnectionError, match='the channel has ended'):
            result()
    assert not unheard
    confirms.begin()
    assert confirms.wait(60) is True  # the one that waited has got the reason
