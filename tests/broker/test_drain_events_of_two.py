"""A greenlet in drain_events for two connections: what ends its wait, what a kill leaves. Gates: ``test_gates.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker
from scripted_consumers import begin, messages

import gamqp
from gamqp import exceptions
from gamqp.connection.drain_events_of_two import drain_all, drain_beside, has_consumers


class Consuming:
    """A connection to a peer of its own, with a consumer whose messages go to ``got``."""

    def __init__(self) -> None:
        self.peer = ScriptedBroker()
        self.connection = self.peer.open()
        self.got: list[Any] = []
        channel = self.peer.open_channel(self.connection)
        assert not has_consumers(self.connection)
        begin(self.peer, lambda: channel.basic_consume('q', 'tag', callback=self._take))
        assert has_consumers(self.connection)
        self.pause = 0.0

    def _take(self, message: gamqp.Message) -> None:
        self.got.append(message.body)
        greenlets.sleep(self.pause)

    def deliver(self, *tags: int) -> None:
        self.peer.raw(messages('tag', tags))

    @property
    def idle(self) -> int:
        """How many greenlets are in drain_events and in no callback."""
        return inside.event_queue(self.connection).drainers_idle


@pytest.fixture
def one() -> Iterator[Consuming]:
    consuming = Consuming()
    with consuming.peer:
        yield consuming


@pytest.fixture
def other() -> Iterator[Consuming]:
    consuming = Consuming()
    with consuming.peer:
        yield consuming


def waits_beside(one: Consuming, other: Consuming, timeout: float | None = None) -> greenlets.Task:
    task = greenlets.spawn(drain_beside, one.connection, other.connection, timeout)
    greenlets.wait_until(lambda: one.idle == other.idle == 1)
    return task


def test_a_wait_beside_another_connection_ends_with_an_event_of_either(one: Consuming, other: Consuming) -> None:
    task = waits_beside(one, other)
    one.deliver(1)
    task.get()
    assert (one.got, one.idle, other.idle) == ([b'1'], 0, 0)
    task = waits_beside(one, other)
    other.deliver(1)
    with pytest.raises(TimeoutError):
        task.get()
    assert (one.got, other.got, one.idle, other.idle) == ([b'1'], [], 0, 0)
    with pytest.raises(TimeoutError):
        drain_beside(one.connection, other.connection, None)
    other.connection.drain_events(0)
    assert other.got == [b'1']


def test_a_wait_beside_another_connection_ends_with_its_time(one: Consuming, other: Consuming) -> None:
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            drain_beside(one.connection, other.connection, timeout)
    with pytest.raises(ValueError, match='timeout'):
        drain_beside(one.connection, other.connection, -1)
    assert one.idle == other.idle == 0


def test_a_kill_in_a_wait_beside_another_connection_leaves_nothing(one: Consuming, other: Consuming) -> None:
    task = waits_beside(one, other)
    task.kill()
    with pytest.raises(GreenletExit):
        task.get()
    assert one.idle == other.idle == 0
    for consuming in (one, other):
        consuming.deliver(1)
        consuming.connection.drain_events(30)
        assert consuming.got == [b'1']


def test_a_loss_ends_the_wait_beside_another_connection(one: Consuming, other: Consuming) -> None:
    """The other's is left to who drains that one."""
    task = waits_beside(one, other)
    other.peer.hang_up()
    with pytest.raises(TimeoutError):
        task.get()
    with pytest.raises(exceptions.RecoverableConnectionError):
        other.connection.drain_events(30)
    beside = Consuming()
    with beside.peer:
        task = waits_beside(one, beside)
        one.peer.hang_up()
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()
        assert one.idle == beside.idle == 0


def test_all_that_has_arrived_is_handled_for_a_while(one: Consuming) -> None:
    one.deliver(*range(1, 21))
    greenlets.wait_until(lambda: inside.waiting_events(one.connection) == 20)
    drain_all(one.connection, 30, 0)
    assert len(one.got) == 1, 'as drain_events'
    one.pause = 0.02
    drain_all(one.connection, 30, 0.01)
    assert 2 <= len(one.got) <= 3, 'the time, which begins after the first, is over'
    one.pause = 0
    drain_all(one.connection, 30, 60)
    assert one.got == [b'%d' % tag for tag in range(1, 21)]
    with pytest.raises(TimeoutError):
        drain_all(one.connection, 0, 60)
