"""The end of a channel or a connection that has thousands of iterators: work between two turns of the hub, counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from meter import MOST, Meter
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions, green
from gamqp.consuming import iterator as inbox
from gamqp.green.yielding import in_turns

CHANNELS = 3
EACH = 900  # so that no channel alone is too many


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    meter, ended = Meter(), inbox.IteratorInbox.ended

    def counted(self: Any) -> None:
        if self.waiting is not None:
            meter.note()
        ended(self)

    monkeypatch.setattr(inbox.IteratorInbox, 'ended', counted)
    yield meter
    meter.running = False


def iterators(peer: ScriptedBroker, channel: Any, no_ack: bool = False, count: int = EACH) -> list[Any]:
    number = channel.channel_id
    tags = [f'{number}.{one}' for one in range(count)]
    tasks = [greenlets.spawn(lambda tag=tag: channel.consume('q', 0, consumer_tag=tag, no_ack=no_ack)) for tag in tags]
    for _ in tags:
        peer.expect('basic.consume', number)
    peer.raw(b''.join(frames('basic.consume-ok', number, consumer_tag=tag) for tag in tags))
    return [task.get() for task in tasks]


@pytest.mark.parametrize('no_ack', [True, False], ids=['no ack', 'ack'])
@pytest.mark.parametrize('how', ['cut', 'collect', 'closed by the broker', 'the reader is killed'])
def test_the_connection_ends(
    peer: ScriptedBroker, client: gamqp.Connection, meter: Meter, how: str, no_ack: bool
) -> None:
    channels = [peer.open_channel(client, number) for number in range(1, CHANNELS + 1)]
    loops = [loop for channel in channels for loop in iterators(peer, channel, no_ack)]
    waiting = [greenlets.spawn(next, loop) for loop in loops[: 2 * len(loops) // 3]]
    greenlets.wait_until(lambda: sum(inside.inbox(loop).waiting is not None for loop in loops) == len(waiting))
    if how == 'cut':
        peer.hang_up()
    elif how == 'collect':
        client.collect()
    elif how == 'the reader is killed':
        greenlets.backend.kill(inside.reader_greenlet(client))
    else:
        peer.send('connection.close', 0, reply_code=320, reply_text='gone')
        peer.expect('connection.close-ok', 0)
    greenlets.wait_until(lambda: not client.is_open)
    # At once, whoever is still to be woken: nothing looks alive.
    assert not any(channel.is_open for channel in channels)
    with pytest.raises(exceptions.RecoverableConnectionError):
        client.drain_events(timeout=30)
    for loop in loops[2 * len(loops) // 3 :]:
        with pytest.raises(exceptions.AMQPError):
            next(loop)
        loop.close()
        loop.close()
    for task in waiting:
        with pytest.raises(exceptions.AMQPError):
            task.get()
    assert (meter.sum, meter.most <= MOST) == (len(waiting), True)


def test_what_many_consumers_have_here_goes_in_turns(
    peer: ScriptedBroker, client: gamqp.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has little, and all together have too much for one step."""
    channel, meter = peer.open_channel(client), Meter()
    inside.note_returned_room(meter.note, monkeypatch)
    consumers, each = 60, 50
    loops = iterators(peer, channel, count=consumers)
    numbers = iter(range(1, consumers * each + 1))
    for loop in loops:
        peer.raw(
            b''.join(
                frames('basic.deliver', 1, consumer_tag=loop.tag, delivery_tag=next(numbers), body=b'x')
                for _ in range(each)
            )
        )
    budget = inside.budget(client)
    greenlets.wait_until(lambda: budget.messages == consumers * each)
    client.collect()
    assert meter.sum <= MOST
    greenlets.wait_until(lambda: not budget.messages)
    meter.running = False
    assert (meter.sum, meter.most <= MOST) == (consumers * each, True)


def test_it_is_connected_again_before_the_last_has_heard(
    peer: ScriptedBroker, client: gamqp.Connection, meter: Meter
) -> None:
    channels = [peer.open_channel(client, number) for number in range(1, CHANNELS + 1)]
    loops = [loop for channel in channels for loop in iterators(peer, channel)]
    waiting = [greenlets.spawn(next, loop) for loop in loops]
    greenlets.wait_until(lambda: all(inside.inbox(loop).waiting for loop in loops))
    client.collect()
    assert 0 < meter.sum <= MOST
    assert meter.most <= MOST
    peer.hang_up()
    opening = greenlets.spawn(client.connect)
    peer.handshake(tune=(10, 131072, 0))
    opening.get()
    for task in waiting:
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()
    assert meter.most <= MOST
    fresh = peer.open_channel(client, 1)
    (loop,) = iterators(peer, fresh, count=1)
    peer.send('basic.deliver', 1, consumer_tag='1.0', delivery_tag=1, body=b'x')
    assert next(loop).delivery_tag == 1
    inside.inbox(loop).connection.collect()


def test_a_forked_child_does_all_of_it_at_once() -> None:
    """It has the greenlets of its parent, and must not wake them in turns to come."""
    slots = [green.Slot(greenlets.backend) for _ in range(3 * MOST)]
    waiting = greenlets.spawn(slots[0].wait)
    greenlets.wait_until(lambda: slots[0].awaited)

    def settle() -> Iterator[None]:
        for slot in slots:
            slot.succeed()
            yield

    with green.waking_nobody():
        in_turns(greenlets.backend, settle())
    assert all(slot.done for slot in slots)
    greenlets.sleep(0)
    assert not waiting.done
    waiting.kill()
