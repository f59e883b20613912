"""Pulse: when to send a heartbeat, when the peer is dead, when to look again. The clock is an argument."""

from __future__ import annotations

import random

import pytest

from gamqp.state.pulse import Pulse


def test_sends_when_nothing_was_sent_for_half_the_interval() -> None:
    pulse = Pulse(10, 100.0)
    assert not pulse.must_send(104.9)
    assert pulse.must_send(105.0)
    pulse.sent_at = 104.0
    assert not pulse.must_send(108.9)


def test_the_peer_is_dead_after_two_silent_intervals() -> None:
    pulse = Pulse(10, 100.0)
    assert not pulse.peer_is_dead(119.9)
    assert pulse.peer_is_dead(120.0)
    pulse.heard_at = 119.0
    assert not pulse.peer_is_dead(120.0)
    assert pulse.silence(121.5) == 2.5


def test_without_an_interval_nothing_is_ever_due() -> None:
    pulse = Pulse(0, 0.0)
    assert not pulse.must_send(1e9)
    assert not pulse.peer_is_dead(1e9)


def test_looks_again_when_the_next_thing_may_be_due() -> None:
    pulse = Pulse(10, 100.0)
    assert pulse.next_look(100.0) == 5.0
    pulse.sent_at = 118.0
    assert pulse.next_look(118.0) == 2.0  # the peer counts as dead at 120
    assert pulse.next_look(118.0, listening=False) == 5.0


def test_never_looks_again_at_once() -> None:
    """A look that comes a rounding error early would spin."""
    assert Pulse(10, 100.0).next_look(1000.0) == pytest.approx(0.1)


@pytest.mark.parametrize('seed', range(10))
def test_a_loop_that_obeys_beats_in_time_and_finds_a_dead_peer_in_time(seed: int) -> None:
    rng = random.Random(seed)
    interval = rng.choice([1, 5, 60])
    now = rng.uniform(0, 1e6)
    pulse = Pulse(interval, now)
    falls_silent = now + rng.uniform(3, 20) * interval
    last_sent = now
    while not pulse.peer_is_dead(now):
        if pulse.must_send(now):
            assert now - last_sent < 0.75 * interval
            pulse.sent_at = last_sent = now
        wake = now + pulse.next_look(now) + rng.uniform(0, 0.01)
        while now < wake:
            now = min(wake, now + interval * 0.3)
            if now < falls_silent:
                pulse.heard_at = now
    assert 2 * interval <= pulse.silence(now) < 2.1 * interval
