"""Pulse: when to send a heartbeat, when the peer is dead, when to look again. The clock is an argument."""

from __future__ import annotations

import random

import pytest

from gamqp.state.heartbeat import HeartbeatClock


def test_sends_when_nothing_was_sent_for_half_the_interval() -> None:
    heartbeat_clock = HeartbeatClock(10, 100.0)
    assert not heartbeat_clock.must_send(104.9)
    assert heartbeat_clock.must_send(105.0)
    heartbeat_clock.sent_at = 104.0
    assert not heartbeat_clock.must_send(108.9)


def test_the_peer_is_dead_after_two_silent_intervals() -> None:
    heartbeat_clock = HeartbeatClock(10, 100.0)
    assert not heartbeat_clock.peer_is_dead(119.9)
    assert heartbeat_clock.peer_is_dead(120.0)
    heartbeat_clock.heard_at = 119.0
    assert not heartbeat_clock.peer_is_dead(120.0)
    assert heartbeat_clock.silence(121.5) == 2.5


def test_without_an_interval_nothing_is_ever_due() -> None:
    heartbeat_clock = HeartbeatClock(0, 0.0)
    assert not heartbeat_clock.must_send(1e9)
    assert not heartbeat_clock.peer_is_dead(1e9)


def test_looks_again_when_the_next_thing_may_be_due() -> None:
    heartbeat_clock = HeartbeatClock(10, 100.0)
    assert heartbeat_clock.next_look(100.0) == 5.0
    heartbeat_clock.sent_at = 118.0
    assert heartbeat_clock.next_look(118.0) == 2.0  # the peer counts as dead at 120
    assert heartbeat_clock.next_look(118.0, listening=False) == 5.0


def test_never_looks_again_at_once() -> None:
    """A look that comes a rounding error early would spin."""
    assert HeartbeatClock(10, 100.0).next_look(1000.0) == pytest.approx(0.1)


@pytest.mark.parametrize('seed', range(10))
def test_a_loop_that_obeys_beats_in_time_and_finds_a_dead_peer_in_time(seed: int) -> None:
    rng = random.Random(seed)
    interval = rng.choice([1, 5, 60])
    now = rng.uniform(0, 1e6)
    heartbeat_clock = HeartbeatClock(interval, now)
    falls_silent = now + rng.uniform(3, 20) * interval
    last_sent = now
    while not heartbeat_clock.peer_is_dead(now):
        if heartbeat_clock.must_send(now):
            assert now - last_sent < 0.75 * interval
            heartbeat_clock.sent_at = last_sent = now
        wake = now + heartbeat_clock.next_look(now) + rng.uniform(0, 0.01)
        while now < wake:
            now = min(wake, now + interval * 0.3)
            if now < falls_silent:
                heartbeat_clock.heard_at = now
    assert 2 * interval <= heartbeat_clock.silence(now) < 2.1 * interval
