"""A peer that does not read: publishers wait, nothing is torn apart, and limits hold."""

from __future__ import annotations

import time
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker

import gamqp
from gamqp import exceptions
from gamqp.io.writer import HIGH_WATER

PEER = {'buffer': 64 * 1024}
MEGABYTE = 1024 * 1024


def fill(channel: gamqp.Channel) -> int:
    """Publish until a publisher has to wait, since the kernel takes nothing more. Returns how many of a megabyte."""
    writer = inside.writer(channel.connection)
    count, queued, looks = 0, -1, 0
    while looks < 6:  # on a busy machine the kernel may take some more a while later
        while writer.queued < HIGH_WATER:
            channel.basic_publish(gamqp.Message(bytes([count]) * MEGABYTE), '', 'q')
            count += 1
            greenlets.sleep(0)
        looks = looks + 1 if writer.queued == queued else 0
        queued = writer.queued
        greenlets.sleep(0.05)
    return count


def test_publishers_wait_and_everything_arrives_whole_and_in_order(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    count = fill(channel)
    # What the kernel has taken is its own affair.
    assert channel.connection.stats()['send_queue_bytes'] < HIGH_WATER + 2 * MEGABYTE
    tasks = [
        greenlets.spawn(channel.basic_publish, gamqp.Message(bytes([100 + number]) * 300_000), '', 'q')
        for number in range(20)
    ]
    greenlets.sleep(0)
    greenlets.sleep(0)
    assert not any(task.done for task in tasks)
    for number in range(count):
        assert peer.expect('basic.publish').body == bytes([number]) * MEGABYTE
    for number in range(20):
        assert peer.expect('basic.publish').body == bytes([100 + number]) * 300_000
    for task in tasks:
        task.get()


def test_publishers_of_several_channels_all_get_through(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channels = [peer.open_channel(client, number) for number in range(1, 6)]

    def publish_many(channel: gamqp.Channel) -> None:
        for number in range(20):
            channel.basic_publish(gamqp.Message(bytes([number]) * 200_000), '', 'q')

    tasks = [greenlets.spawn(publish_many, channel) for channel in channels]
    seen: dict[int, int] = dict.fromkeys(range(1, 6), 0)
    for _ in range(100):
        event = peer.expect('basic.publish')
        assert event.body == bytes([seen[event.channel]]) * 200_000
        seen[event.channel] += 1
    for task in tasks:
        task.get()


@pytest.mark.parametrize('how', ['kill', 'throw'])
def test_a_publisher_killed_in_the_middle_of_six_megabytes_leaves_whole_frames(
    peer: ScriptedBroker, channel: gamqp.Channel, how: str
) -> None:
    publishing = greenlets.spawn(lambda: channel.basic_publish(gamqp.Message(b'a' * 6_000_000), '', 'q', timeout=30))
    greenlets.wait_until(lambda: channel.connection.stats()['send_queue_bytes'])
    assert not publishing.done
    if how == 'kill':
        publishing.kill()
    else:
        greenlets.backend.run_soon(publishing.greenlet.throw, TimeoutError('of somebody else'))
    with pytest.raises((GreenletExit, TimeoutError)):
        publishing.get()
    later = greenlets.spawn(channel.queue_declare, 'q')
    assert peer.expect('basic.publish').body == b'a' * 6_000_000
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', queue='q')
    assert later.get().queue == 'q'


def test_a_publisher_killed_while_it_waits_for_room_has_sent_nothing(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    count = fill(channel)
    waiting = greenlets.spawn(channel.basic_publish, gamqp.Message(b'never'), '', 'q')
    heir = greenlets.spawn(channel.basic_publish, gamqp.Message(b'after it'), '', 'q')
    greenlets.sleep(0)
    waiting.kill()
    for number in range(count):
        assert peer.expect('basic.publish').body == bytes([number]) * MEGABYTE
    assert peer.expect('basic.publish').body == b'after it'
    heir.get()


def test_timeout_of_a_publish_closes_the_connection_before_it_raises(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    """A part of the message may be out, so the stream is unusable."""
    client = channel.connection
    seen: list[bool] = []

    def publish() -> None:
        try:
            channel.basic_publish(gamqp.Message(bytes(30_000_000)), '', 'q', timeout=0.1)
        finally:
            seen.append(client.connected)

    with pytest.raises(exceptions.RecoverableConnectionError, match=r'not sent within 0.1 s'):
        greenlets.spawn(publish).get()
    assert seen == [False]
    with pytest.raises(exceptions.RecoverableConnectionError):
        client.channel()


def test_a_publisher_that_waits_for_room_gives_up_in_time_and_has_sent_nothing(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    fill(channel)
    with pytest.raises(TimeoutError, match='send queue was full'):
        channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=0.05)
    assert channel.connection.connected


def test_a_publish_with_a_timeout_returns_when_all_is_sent(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    publishing = greenlets.spawn(lambda: channel.basic_publish(gamqp.Message(b'a' * 8_000_000), '', 'q', timeout=30))
    assert peer.expect('basic.publish').body == b'a' * 8_000_000
    publishing.get()
    assert channel.connection.stats()['send_queue_bytes'] == 0


def test_write_timeout_finds_a_peer_that_takes_nothing() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(write_timeout=0.3)
        channel = peer.open_channel(client)
        began = time.monotonic()
        channel.basic_publish(gamqp.Message(bytes(30_000_000)), '', 'q')
        with pytest.raises(exceptions.RecoverableConnectionError, match='write timeout'):
            client.drain_events(timeout=30)
        assert time.monotonic() - began >= 0.29


def test_write_timeout_spares_a_peer_that_is_only_slow() -> None:
    with ScriptedBroker(buffer=64 * 1024) as peer:
        client = peer.open(write_timeout=1)
        channel = peer.open_channel(client)
        channel.basic_publish(gamqp.Message(bytes(30_000_000)), '', 'q')
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            peer.read_some(400_000)
            greenlets.sleep(0.1)
        assert client.connected
        assert client.stats()['send_queue_bytes']


def test_flush_waits_until_the_kernel_has_everything(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    client = channel.connection
    channel.basic_publish(gamqp.Message(b'a' * 6_000_000), '', 'q')
    with pytest.raises(TimeoutError, match='bytes are still queued'):
        client.flush(timeout=0.05)
    flushing = greenlets.spawn(client.flush)
    peer.expect('basic.publish')
    flushing.get()
    assert client.stats()['send_queue_bytes'] == 0


def test_all_who_wait_learn_of_the_end(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    client = channel.connection
    fill(channel)
    tasks = [
        greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q'),
        greenlets.spawn(lambda: channel.basic_publish(gamqp.Message(b'x'), '', 'q', timeout=10)),
        greenlets.spawn(client.flush),
    ]
    greenlets.sleep(0)
    peer.send('connection.close', reply_code=320, reply_text='enough')
    for task in tasks:
        with pytest.raises(exceptions.ConnectionForced, match='enough'):
            task.get()


def test_small_publishes_of_one_pass_leave_together_and_in_order(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    for number in range(3000):
        channel.basic_publish(gamqp.Message(b'%d' % number), '', 'q')
    for number in range(3000):
        assert peer.expect('basic.publish').body == b'%d' % number


def test_a_single_publish_is_sent_at_once_without_a_switch(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    channel.basic_publish(gamqp.Message(b'now'), '', 'q')
    assert channel.connection.stats()['send_queue_bytes'] == 0


def test_a_reset_while_data_is_queued_is_told(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    client: Any = channel.connection
    channel.basic_publish(gamqp.Message(bytes(20_000_000)), '', 'q')
    draining = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    peer.cut(reset=True)
    with pytest.raises(exceptions.RecoverableConnectionError, match=r'connection lost|closed the socket'):
        draining.get()
