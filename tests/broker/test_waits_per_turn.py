"""Thousands of greenlets that wait for replies and confirms: how many hear between two turns of the hub, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from meter import MOST, Meter
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions, green
from gamqp.green.waiting import Slot

CLIENT = {'outstanding_limit': 0}
MANY = 2500
LOST = exceptions.RecoverableConnectionError


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    """Counts greenlets that are woken, but for this one and those of the library."""
    meter = Meter()

    def note(slot: Slot) -> None:
        if slot.awaited and not slot.done and inside.waiter(slot) in meter.watched:
            meter.note()

    inside.note_settled_slots(note, monkeypatch)
    yield meter
    meter.running = False


def waiting(meter: Meter, calls: list[Callable[[], Any]]) -> list[greenlets.Task]:
    """A greenlet for each of these calls, when all of them wait."""
    before = set(meter.watched)
    tasks = [greenlets.spawn(call) for call in calls]
    meter.watched.update(task.greenlet for task in tasks)
    greenlets.sleep(0)
    greenlets.sleep(0)
    assert len(meter.watched) == len(before) + len(calls)
    return tasks


def errors(tasks: list[greenlets.Task]) -> list[type[BaseException] | None]:
    found: list[type[BaseException] | None] = []
    for task in tasks:
        try:
            task.get()
            found.append(None)
        except BaseException as exc:
            found.append(type(exc))
    return found


def calls(channel: Any, receipts: list[Any]) -> dict[str, list[Callable[[], Any]]]:
    message = gamqp.Message(b'x')
    return {
        'replies': [lambda: channel.queue_declare('q', passive=True)] * MANY,
        'cancels': [lambda tag=str(number): channel.basic_cancel(tag) for number in range(MANY)],
        'confirms': [lambda: channel.basic_publish_confirm(message, '', 'q', confirm_timeout=60)] * MANY,
        'receipts': [receipt.wait for receipt in receipts],
        'one receipt': [receipts[0].wait] * MANY,
        'barriers': [lambda: channel.wait_for_confirms(60)] * MANY,
    }


@pytest.mark.parametrize('how', ['cut', 'collect', 'channel closed by the broker', 'another greenlet is killed'])
@pytest.mark.parametrize('what', ['replies', 'cancels', 'confirms', 'receipts', 'one receipt', 'barriers'])
def test_the_end_is_told_in_turns(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter, what: str, how: str
) -> None:
    receipts = [channel.publish(b'x', routing_key='q') for _ in range(MANY)]
    tasks = waiting(meter, calls(channel, receipts)[what])
    if how == 'cut':
        peer.hang_up()
    elif how == 'collect':
        client.collect()
    elif how == 'another greenlet is killed':
        greenlets.backend.kill(inside.reader_greenlet(client))
    else:
        peer.raw(frames('channel.close', 1, reply_code=404, reply_text='gone', class_id=0, method_id=0))
    meter.wait_for_first()
    assert meter.sum < MANY
    # At once, for whoever looks.
    assert {receipt.state for receipt in receipts} == {'lost'}
    assert channel.unconfirmed == 0
    kind = exceptions.NotFound if how.startswith('channel') else LOST
    assert set(errors(tasks)) == {kind}
    assert meter.sum == MANY or what == 'receipts'  # of which a look at their state tells some before their turn
    assert meter.most <= MOST or what == 'receipts'
    greenlets.wait_until(lambda: not inside.unheard_ends(channel))
    assert client.stats()['lost'] == client.stats()['published']


def test_the_end_of_receipts_is_told_in_turns(client: gamqp.Connection, channel: gamqp.Channel, meter: Meter) -> None:
    receipts = [channel.publish(b'x', routing_key='q') for _ in range(MANY)]
    tasks = waiting(meter, [receipt.wait for receipt in receipts])
    client.collect()
    assert set(errors(tasks)) == {LOST}
    assert (meter.sum, meter.most <= MOST) == (MANY, True)


def test_who_gives_up_or_is_killed_between_two_turns(
    client: gamqp.Connection, channel: gamqp.Channel, meter: Meter
) -> None:
    tasks = waiting(meter, [lambda: channel.queue_declare('q', passive=True)] * MANY)
    killed, rest = tasks[-1], tasks[:-1]
    client.collect()
    assert meter.sum <= MOST
    killed.kill()
    client.collect()
    closing = greenlets.spawn(client.close)
    closing.get()
    assert set(errors(rest)) == {LOST}
    assert meter.most <= MOST
    (end,) = errors([killed])
    assert end is not None and issubclass(end, greenlet.GreenletExit)


def test_the_greenlet_that_closes_is_killed_amid_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter
) -> None:
    tasks = waiting(meter, [lambda: channel.queue_purge('q')] * MANY)
    closing, again = greenlets.spawn(client.close), greenlets.spawn(client.close)
    for _ in range(MANY):
        peer.expect('queue.purge')
    peer.expect('connection.close')
    peer.send('connection.close-ok', 0)
    meter.wait_for_first()
    assert meter.sum < MANY
    closing.kill()
    again.get()
    assert set(errors(tasks)) == {LOST}
    assert (meter.sum, meter.most <= MOST) == (MANY, True)


def test_a_reopened_channel_works_before_the_last_has_heard(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter
) -> None:
    tasks = waiting(meter, [lambda: channel.queue_purge('q')] * MANY)
    for _ in range(MANY):
        peer.expect('queue.purge')
    peer.send('channel.close', 1, reply_code=404, reply_text='gone', class_id=0, method_id=0)
    meter.wait_for_first()
    assert meter.sum < MANY
    receipt = channel.publish(b'new', routing_key='q')
    fresh = greenlets.spawn(channel.queue_purge, 'r')
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.expect('queue.purge')
    peer.send('channel.open-ok', 1)
    peer.send('confirm.select-ok', 1)
    peer.send('basic.ack', 1, delivery_tag=1)
    peer.send('queue.purge-ok', 1, message_count=7)
    assert fresh.get() == 7
    receipt.wait(5)
    assert set(errors(tasks)) == {exceptions.NotFound}
    assert meter.most <= MOST


@pytest.mark.parametrize('how', ['channel closed by the broker', 'closed', 'cut'])
def test_pending_calls_of_an_rpc_client(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter, how: str
) -> None:
    rpc = gamqp.RPCClient(channel, timeout=60)
    tasks = waiting(meter, [lambda: rpc.call(b'x', 'q')] * MANY)
    assert rpc.pending == MANY
    if how == 'closed':
        closing = greenlets.spawn(rpc.close)
        greenlets.sleep(0)
    elif how == 'cut':
        client.collect()
    else:
        peer.raw(frames('channel.close', 1, reply_code=404, reply_text='gone', class_id=0, method_id=0))
        meter.wait_for_first()
    assert rpc.pending == 0
    if how.startswith('channel'):
        again = greenlets.spawn(rpc.call, b'new', 'q')
        greenlets.wait_until(lambda: rpc.pending == 1)
        kind: type[BaseException] = exceptions.NotFound
    else:
        kind = LOST
    assert set(errors(tasks)) == {kind}
    assert (meter.sum, meter.most <= MOST) == (MANY, True)
    if how.startswith('channel'):
        assert rpc.pending == 1
    client.collect()
    if how.startswith('channel'):
        assert errors([again]) == [LOST]
    elif how == 'closed':
        errors([closing])


def test_who_finds_that_nothing_is_read_any_more_tells_the_others(peer: ScriptedBroker, meter: Meter) -> None:
    """It hears it in its own turn, as everybody."""
    client = peer.open(read_timeout=0.5)
    channel = peer.open_channel(client)
    tasks = waiting(meter, [lambda: channel.queue_purge('q')] * MANY)
    assert set(errors(tasks)) == {LOST}
    assert meter.sum < MANY  # the one that has found it waits no more
    assert meter.most <= MOST


def test_callbacks_are_shown_as_they_are(client: gamqp.Connection, channel: gamqp.Channel) -> None:
    callbacks, on_cancels = channel.callbacks, channel.cancel_callbacks
    channel.basic_consume('q', 'one', nowait=True, callback=print, on_cancel=repr)
    assert callbacks == {'one': print}
    assert on_cancels == {'one': repr}


def test_a_gate_wakes_those_who_wait_now(meter: Meter) -> None:
    gate, late = green.Gate(greenlets.backend), []
    tasks = waiting(meter, [lambda: gate.wait(60)] * MANY)
    gate.wake_all()
    assert (meter.sum, len(gate)) == (MOST, 0)
    tasks[-1].kill()
    newcomer = greenlets.spawn(lambda: late.append(gate.wait(60)))
    assert [task.get() for task in tasks[:-1]] == [True] * (MANY - 1)
    assert (len(gate), late, gate.woken) == (1, [], 0)
    gate.wake_all()
    newcomer.get()
    assert (late, meter.most <= MOST) == ([True], True)


# -- confirms ------------------------------------------------------------------------------------------------


def acks(*confirms: tuple[str, int, bool]) -> bytes:
    return b''.join(frames(f'basic.{name}', 1, delivery_tag=tag, multiple=many) for name, tag, many in confirms)


def test_a_multiple_settles_in_turns_and_in_order(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter
) -> None:
    seen: list[Any] = []
    receipts = [channel.publish(b'x', routing_key='q') for _ in range(3 * MANY)]
    channel.events['basic_ack'].add(lambda tag, multiple: seen.append((tag, multiple, states(receipts[:tag]))))
    tasks = waiting(meter, [receipt.wait for receipt in receipts])
    last = 3 * MANY
    peer.raw(acks(('ack', MANY, True), ('nack', 2 * MANY, True), ('ack', last, False), ('ack', last - 1, True)))
    meter.wait_for_first()
    assert meter.sum < MANY
    client.drain_events(timeout=10)
    found = errors(tasks)
    assert found[:MANY] == [None] * MANY
    assert found[MANY : 2 * MANY] == [exceptions.MessageNacked] * MANY
    assert found[2 * MANY :] == [None] * MANY
    assert meter.most <= MOST + 1
    stats = client.stats()
    assert (stats['confirmed'], stats['nacked'], stats['unconfirmed'], stats['lost']) == (2 * MANY, MANY, 0, 0)
    # Whoever is told of a confirm finds all settled that it names.
    assert seen[0] == (MANY, True, {'acked'})


def states(receipts: list[Any]) -> set[str]:
    return {receipt.state for receipt in receipts}


def test_what_a_multiple_has_confirmed_is_not_lost_with_the_connection(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, meter: Meter
) -> None:
    receipts = [channel.publish(b'x', routing_key='q') for _ in range(3 * MANY)]
    tasks = waiting(meter, [receipt.wait for receipt in receipts])
    peer.raw(acks(('ack', MANY, True), ('nack', 2 * MANY, True)))
    meter.wait_for_first()
    assert meter.sum < MANY
    client.collect()
    assert states(receipts[:MANY]) == {'acked'}
    assert states(receipts[MANY : 2 * MANY]) == {'nacked'}
    assert states(receipts[2 * MANY :]) == {'lost'}
    found = errors(tasks)
    assert found == [None] * MANY + [exceptions.MessageNacked] * MANY + [LOST] * MANY
    stats = client.stats()
    assert (stats['confirmed'], stats['nacked'], stats['lost']) == (MANY, MANY, MANY)


def test_who_waits_for_room_is_woken_as_it_comes(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    channel.outstanding_limit = MANY
    receipts = [channel.publish(b'x', routing_key='q') for _ in range(MANY)]
    late = [greenlets.spawn(lambda: channel.publish(b'y', routing_key='q')) for _ in range(MANY)]
    greenlets.sleep(0)
    peer.raw(acks(('ack', MANY, True)))
    receipts += [task.get() for task in late]
    assert channel.unconfirmed == MANY
    peer.raw(acks(('ack', 0, True)))
    for receipt in receipts:
        receipt.wait(30)


def test_thousands_wait_for_all_confirms(peer: ScriptedBroker, channel: gamqp.Channel, meter: Meter) -> None:
    channel.publish(b'x', routing_key='q')
    tasks = waiting(meter, [lambda: channel.wait_for_confirms(60)] * MANY)
    peer.raw(acks(('ack', 1, False)))
    assert [task.get() for task in tasks] == [True] * MANY
    assert (meter.sum, meter.most <= MOST) == (MANY, True)


def test_a_return_amid_a_multiple_is_of_a_later_publish(
    peer: ScriptedBroker, channel: gamqp.Channel, meter: Meter
) -> None:
    receipts = [channel.publish(b'x', routing_key='q', mandatory=True) for _ in range(MANY + 1)]
    back = frames('basic.return', 1, body=b'x', reply_code=312, reply_text='NO_ROUTE', exchange='', routing_key='q')
    peer.raw(acks(('ack', MANY, True)) + back + acks(('ack', MANY + 1, False)))
    greenlets.wait_until(lambda: receipts[-1].done)
    greenlets.wait_until(lambda: not channel.unconfirmed)
    assert states(receipts[:MANY]) == {'acked'}
    assert receipts[-1].state == 'returned'
