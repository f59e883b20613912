"""Heartbeats: sent without the program's help, and a silent peer is found, also while a write is stuck.

The times are real. Lower bounds are asserted; upper ones only stop a test that would never end.
"""

from __future__ import annotations

import time
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp import exceptions

GENEROUS = greenlets.PATIENCE  # seconds for what is due after 2 to 3
BEAT = b'\x08\x00\x00\x00\x00\x00\x00\xce'


def keep_content(peer: ScriptedBroker) -> None:
    """For a moment; the client says nothing but heartbeats."""
    peer.raw(BEAT)
    greenlets.sleep(0.1)
    client_says = peer.take_what_came()
    assert client_says == [], client_says


@pytest.mark.real_seconds
def test_an_idle_client_sends_them(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    began = time.monotonic()
    deadline = gamqp.green.Deadline(GENEROUS)
    while peer.decoder.heartbeats < 4 and not deadline.passed:
        keep_content(peer)
    assert 4 <= peer.decoder.heartbeats <= 2 * (time.monotonic() - began) + 1  # one each half second
    assert client.connected


def test_none_are_sent_when_they_are_off(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1), heartbeat=0)
    began = time.monotonic()
    while time.monotonic() - began < 1.2:
        keep_content(peer)
    assert peer.decoder.heartbeats == 0
    assert client.connected


def test_a_silent_peer_is_found_after_two_intervals(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    began = time.monotonic()
    with pytest.raises(exceptions.ConnectionForced, match=r'nothing heard from the broker for \d+\.\d s'):
        client.drain_events(timeout=GENEROUS)
    assert time.monotonic() - began >= 1.9
    assert not client.connected


def test_nobody_needs_to_wait_for_it_to_be_found(peer: ScriptedBroker) -> None:
    client = peer.open((10, 131072, 1))
    greenlets.wait_until(lambda: not client.connected, GENEROUS)
    with pytest.raises(exceptions.ConnectionForced):
        client.channel()


def test_a_silent_peer_is_found_while_a_publish_is_stuck() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open((10, 131072, 1))
        channel = peer.open_channel(client)
        began = time.monotonic()
        channel.basic_publish(gamqp.Message(bytes(50_000_000)), '', 'q')
        stuck = greenlets.spawn(channel.basic_publish, gamqp.Message(b'behind it'), '', 'q')
        with pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
            stuck.get(GENEROUS)
        assert time.monotonic() - began >= 1.9


@pytest.mark.parametrize('traffic', [pytest.param('deliveries', marks=pytest.mark.slow), 'half a frame'])
def test_any_traffic_of_the_peer_counts(peer: ScriptedBroker, channel_of_a_quick_beat: Any, traffic: str) -> None:
    client = channel_of_a_quick_beat.connection
    began = time.monotonic()
    big = b'\x03\x00\x01\x00\x00\x40\x00' + bytes(0x4000) + b'\xce'
    head = _head_of_a_body(0x4000)
    if traffic == 'half a frame':
        peer.raw(head)
    while time.monotonic() - began < 3.2:
        if traffic == 'half a frame':
            peer.raw(big[:100])
            big = big[100:]
        else:
            peer.send('basic.deliver', consumer_tag='tag', delivery_tag=1)
        greenlets.sleep(0.2)
    assert client.connected


@pytest.fixture
def channel_of_a_quick_beat(peer: ScriptedBroker) -> gamqp.Channel:
    client = peer.open((10, 131072, 1))
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=print))
    return channel


def _head_of_a_body(size: int) -> bytes:
    from script import frames

    whole = frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=bytes(size))
    return whole[: len(whole) - size - 8]


@pytest.mark.real_seconds
def test_any_traffic_of_ours_counts(peer: ScriptedBroker, channel_of_a_quick_beat: gamqp.Channel) -> None:
    began = acked = time.monotonic()
    pauses = 0  # of ours, where the machine lets nothing run: then one heartbeat is due
    while time.monotonic() - began < 2.2:
        peer.raw(BEAT)
        channel_of_a_quick_beat.basic_ack(1)
        before, acked = acked, time.monotonic()
        pauses += acked - before >= 0.5
        greenlets.sleep(0.1)
    channel_of_a_quick_beat.basic_ack(1)
    pauses += time.monotonic() - acked >= 0.5
    peer.take_what_came()
    assert peer.decoder.heartbeats <= pauses


def test_a_hub_that_was_held_reads_before_it_judges(peer: ScriptedBroker) -> None:
    """Data that waits in the kernel proves that the peer lives."""
    client = peer.open((10, 131072, 1))
    peer.raw(BEAT)
    time.sleep(2.5)  # not cooperative: nothing of this process runs
    greenlets.sleep(0.05)
    assert client.connected


def test_send_heartbeat_sends_one_now(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.expect_nothing_more(client)
