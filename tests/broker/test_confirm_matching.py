"""Publisher confirms: each publish gets the verdict on itself, whatever the order, and nobody else's."""

from __future__ import annotations

import random
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions


def publish(channel: gamqp.Channel, body: bytes = b'', **arguments: Any) -> greenlets.Task:
    return greenlets.spawn(lambda: channel.basic_publish_confirm(gamqp.Message(body), '', 'q', **arguments))


def publish_some(peer: ScriptedBroker, channel: gamqp.Channel, count: int) -> list[greenlets.Task]:
    """Tasks by delivery tag; the one at 0 is of no publish."""
    tasks = [publish(channel, b'%d' % number) for number in range(1, count + 1)]
    for number in range(1, count + 1):
        assert peer.expect('basic.publish').body == b'%d' % number
    return [greenlets.spawn(int), *tasks]


def settled(tasks: list[greenlets.Task]) -> set[int]:
    return {tag for tag, task in enumerate(tasks) if tag and task.done}


def test_the_first_confirmed_publish_turns_confirm_mode_on_in_front_of_itself(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    channel.basic_publish(gamqp.Message(b'unconfirmed'), '', 'q')
    first, second = publish(channel, b'1'), publish(channel, b'2')
    assert peer.expect('basic.publish').body == b'unconfirmed'
    peer.expect('confirm.select')
    assert peer.expect('basic.publish').body == b'1'
    assert peer.expect('basic.publish').body == b'2'
    peer.send('confirm.select-ok')
    peer.send('basic.ack', delivery_tag=2)
    second.get()
    assert not first.done
    peer.send('basic.ack', delivery_tag=1)
    first.get()


def test_acks_out_of_order_one_by_one(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    tasks = publish_some(peer, confirming, 5)
    done: set[int] = set()
    for tag in (4, 1, 5, 3, 2):
        peer.send('basic.ack', delivery_tag=tag)
        tasks[tag].get()
        done.add(tag)
        assert settled(tasks) == done


def test_multiple_settles_all_up_to_its_tag(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    tasks = publish_some(peer, confirming, 6)
    peer.send('basic.ack', delivery_tag=5)
    peer.send('basic.ack', delivery_tag=3, multiple=True)
    for tag in (1, 2, 3, 5):
        tasks[tag].get()
    assert settled(tasks) == {1, 2, 3, 5}
    peer.send('basic.ack', delivery_tag=0, multiple=True)  # everything outstanding
    tasks[4].get()
    tasks[6].get()


def test_a_nack_is_message_nacked_for_that_publish_alone(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    tasks = publish_some(peer, confirming, 4)
    peer.send('basic.nack', delivery_tag=2)
    with pytest.raises(exceptions.MessageNacked):
        tasks[2].get()
    assert settled(tasks) == {2}
    peer.send('basic.nack', delivery_tag=3, multiple=True)
    for tag in (1, 3):
        with pytest.raises(exceptions.MessageNacked):
            tasks[tag].get()
    peer.send('basic.ack', delivery_tag=4)
    tasks[4].get()
    assert confirming.is_open
    assert client.connected


def test_repeated_tags_do_no_harm(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    tasks = publish_some(peer, confirming, 2)
    for tag, multiple in ((0, False), (2, False), (2, False)):
        peer.send('basic.ack', delivery_tag=tag, multiple=multiple)
    tasks[2].get()
    assert not tasks[1].done
    peer.send('basic.nack', delivery_tag=2)
    peer.send('basic.ack', delivery_tag=1)
    tasks[1].get()


def test_acks_that_come_late_confirm_nobody_else(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    """Publishes 2 to 4 time out, their acks come while 5 waits."""
    first = publish(confirming, b'1')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=1)
    first.get()
    for number in (2, 3, 4):
        with pytest.raises(TimeoutError, match=r'no confirm within 0.05 s'):
            confirming.basic_publish_confirm(gamqp.Message(b'%d' % number), '', 'q', confirm_timeout=0.05)
        peer.expect('basic.publish')
    fifth = publish(confirming, b'5')
    peer.expect('basic.publish')
    sixth = publish(confirming, b'6')
    peer.expect('basic.publish')
    peer.raw(b''.join(frames('basic.ack', delivery_tag=tag) for tag in (2, 3, 4, 6)))
    sixth.get()
    assert not fifth.done
    peer.send('basic.nack', delivery_tag=5)
    with pytest.raises(exceptions.MessageNacked):
        fifth.get()


def test_a_killed_publisher_keeps_its_number(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    tasks = publish_some(peer, confirming, 3)
    tasks[2].kill()
    peer.send('basic.ack', delivery_tag=2)
    peer.send('basic.ack', delivery_tag=3)
    tasks[3].get()
    assert not tasks[1].done
    peer.send('basic.nack', delivery_tag=1)
    with pytest.raises(exceptions.MessageNacked):
        tasks[1].get()


def test_plain_publishes_on_a_confirm_channel_are_counted_too(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    confirming.basic_publish(gamqp.Message(b'nobody waits'), '', 'q')
    peer.expect('basic.publish')
    second = publish(confirming, b'2')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=1)
    peer.send('basic.nack', delivery_tag=2)
    with pytest.raises(exceptions.MessageNacked):
        second.get()


def test_a_publish_that_cannot_be_encoded_takes_no_number(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    with pytest.raises(exceptions.EncodeError):
        confirming.basic_publish_confirm(gamqp.Message(b'x'), '', 'k' * 300)
    first = publish(confirming, b'1')
    peer.expect('basic.publish')
    peer.send('basic.ack', delivery_tag=1)
    first.get()


def test_confirm_publish_of_the_connection_makes_basic_publish_wait(peer: ScriptedBroker) -> None:
    client = peer.open(confirm_publish=True, confirm_timeout=5)
    channel = peer.open_channel(client)
    publishing = greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    assert not publishing.done
    peer.send('basic.ack', delivery_tag=1)
    publishing.get()


@pytest.mark.parametrize('seed', range(5))
def test_two_hundred_greenlets_on_one_channel(peer: ScriptedBroker, confirming: gamqp.Channel, seed: int) -> None:
    rng = random.Random(seed)
    tasks = publish_some(peer, confirming, 200)
    outstanding = set(range(1, 201))
    verdicts: dict[int, bool] = {}
    said = b''
    while outstanding:
        tag = rng.choice(sorted(outstanding))
        multiple = rng.random() < 0.1
        ok = rng.random() < 0.8
        said += frames('basic.ack' if ok else 'basic.nack', delivery_tag=tag, multiple=multiple)
        for spoken_of in [one for one in outstanding if one == tag or (multiple and one < tag)]:
            outstanding.remove(spoken_of)
            verdicts[spoken_of] = ok
        if rng.random() < 0.3:
            peer.raw(said)
            said = b''
    peer.raw(said)
    for tag, ok in verdicts.items():
        if ok:
            tasks[tag].get()
        else:
            with pytest.raises(exceptions.MessageNacked):
                tasks[tag].get()


def test_handlers_of_acks_run_in_drain_events(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    told: list[Any] = []
    confirming.events['basic_ack'].add(lambda *args: told.append(('ack', *args)))
    confirming.events['basic_nack'].add(lambda *args: told.append(('nack', *args)))
    for _ in range(2):
        confirming.basic_publish(gamqp.Message(b'x'), '', 'q')
        peer.expect('basic.publish')
    peer.raw(frames('basic.ack', delivery_tag=1, multiple=True) + frames('basic.nack', delivery_tag=2))
    client.drain_events(timeout=30)
    greenlets.wait_until(lambda: told or inside.waiting_events(client))
    if len(told) < 2:
        client.drain_events(timeout=30)
    assert told == [('ack', 1, True), ('nack', 2, False)]
