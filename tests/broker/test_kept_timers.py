"""A timer goes on from one wait to the next, and each wait ends when its own time is up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from greenlets import backend
from script import ScriptedBroker

import gamqp
from gamqp import green
from gamqp.green.kept_timers import MOST

LONG = 60.0


@pytest.fixture
def batch() -> Iterator[green.Batch]:
    batch = green.Batch(backend)
    yield batch
    batch.timers.end()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each timer that is started."""
    seconds: list[float] = []
    call_later = backend.call_later

    def note(after: float, fn: Any) -> Any:
        seconds.append(after)
        return call_later(after, fn)

    monkeypatch.setattr(backend, 'call_later', note)
    return seconds


def slot_of(batch: green.Batch) -> green.Slot:
    slot = green.Slot(backend)
    slot.batch = batch
    return slot


def wait_shortly(batch: green.Batch, timeout: float) -> None:
    """A wait that ends before its time is up."""
    slot = slot_of(batch)
    backend.run_soon(slot.succeed)
    assert slot.wait(timeout)


def test_waits_that_follow_one_another_start_one_timer(batch: green.Batch, started: list[float]) -> None:
    for _ in range(100):
        wait_shortly(batch, LONG)
    assert started == [LONG]


@pytest.mark.parametrize(('before', 'own'), [(0.01, 0.03), (LONG, 0.01), (0.01, 0.01)])
def test_a_wait_ends_when_its_own_time_is_up(batch: green.Batch, before: float, own: float) -> None:
    wait_shortly(batch, before)  # whose timer the next one takes over
    begun = time.monotonic()
    assert not slot_of(batch).wait(own)
    assert time.monotonic() - begun >= own
    wait_shortly(batch, LONG)


def test_a_timer_that_fires_between_two_waits_ends_neither(batch: green.Batch, started: list[float]) -> None:
    wait_shortly(batch, 0.001)
    (timer,) = batch.timers.free
    greenlets.wait_until(lambda: timer.fires_at == float('inf'))
    wait_shortly(batch, LONG)
    assert started == [0.001, LONG]


def test_waits_at_the_same_time_have_each_a_timer(batch: green.Batch) -> None:
    last = slot_of(batch)
    tasks = [greenlets.spawn(slot_of(batch).wait, seconds) for seconds in (0.03, 0.01, 0.02)]
    waiting = greenlets.spawn(last.wait, LONG)
    assert [task.get() for task in tasks] == [False] * 3
    last.succeed()
    assert waiting.get() is True


def test_only_so_many_are_kept(batch: green.Batch) -> None:
    slots = [slot_of(batch) for _ in range(MOST + 10)]
    tasks = [greenlets.spawn(slot.wait, LONG) for slot in slots]
    greenlets.sleep()
    for slot in slots:
        slot.succeed()
    assert all(task.get() for task in tasks)
    assert len(batch.timers.free) == MOST


def test_a_greenlet_that_is_killed_while_it_waits_gives_its_timer_back(
    batch: green.Batch, started: list[float]
) -> None:
    task = greenlets.spawn(slot_of(batch).wait, LONG)
    greenlets.wait_until(lambda: started)
    backend.kill(task.greenlet)
    greenlets.wait_until(lambda: batch.timers.free)
    wait_shortly(batch, LONG)
    assert started == [LONG]


def test_a_wait_that_outlives_its_link_leaves_no_timer(batch: green.Batch) -> None:
    slot = slot_of(batch)
    waiting = greenlets.spawn(slot.wait, LONG)
    greenlets.sleep()
    batch.timers.end()
    slot.succeed()
    assert waiting.get() is True
    assert not batch.timers.free


def test_no_timer_runs_when_the_connection_has_ended(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """It would keep a program from ending that waits for its hub to have nothing left to do."""
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='q', message_count=0, consumer_count=0)
    declaring.get()
    timers = inside.link(client).batch.timers
    kept = list(timers.free)
    assert any(timer.fires_at < float('inf') for timer in kept)
    client.collect()
    assert all(timer.fires_at == float('inf') for timer in kept)
    assert not timers.free
