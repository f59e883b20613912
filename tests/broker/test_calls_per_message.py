"""What a message costs: counted in calls of Python functions, since a time would be another one on each machine.

The counts are exact: whoever makes a message cheaper lowers them here, so that it stays so.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp.connection import flow_control
from gamqp.telemetry import tracing

MESSAGES = 200
CLIENT = {'combine_acks': True}

PACKAGE = os.path.join(os.path.dirname(gamqp.__file__), '')
CODEC = os.path.join(PACKAGE, 'wire', '')  # compiled, or else Python


def calls_each(act: Callable[[int], Any], numbers: range = range(1, MESSAGES + 1)) -> list[str]:
    """The functions of gamqp that run for each call of *act*; what happens now and then is left out."""
    counted: Counter[str] = Counter()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(PACKAGE) and not code.co_filename.startswith(CODEC):
            counted[f'{os.path.basename(code.co_filename)}:{code.co_name}'] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for number in numbers:
            act(number)
    finally:
        sys.setprofile(before)
    return sorted(name for name, count in counted.items() for _ in range(count // len(numbers)))


def calls_of_all(act: Callable[[], Any], peer: Any) -> list[str]:
    """``calls_each`` in all greenlets but this one, the peer's."""
    counted: Counter[str] = Counter()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(PACKAGE) and not code.co_filename.startswith(CODEC):
            counted[f'{os.path.basename(code.co_filename)}:{code.co_name}'] += 1

    def switched(event: str, args: Any) -> None:
        sys.setprofile(None if args[1] is peer else note)

    before = sys.getprofile()
    traced = greenlet.settrace(switched)
    sys.setprofile(note)
    try:
        for _ in range(MESSAGES):
            act()
    finally:
        greenlet.settrace(traced)
        sys.setprofile(before)
    return sorted(name for name, count in counted.items() for _ in range(round(count / MESSAGES)))


@pytest.fixture(autouse=True)
def _as_without_tracers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have installed one, and from then on a delivery looks for it."""
    monkeypatch.setattr(tracing, 'installed', False)


def consume(peer: ScriptedBroker, channel: gamqp.Channel, callback: Callable[[Any], Any], no_ack: bool = False) -> None:
    """Start a consumer; MESSAGES deliveries wait in the socket."""
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=no_ack, callback=callback))
    send_all(peer, 'tag')


def receive_all(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]) -> None:
    """MESSAGES deliveries have come to a callback, into *got*."""
    consume(peer, channel, got.append)
    while len(got) < MESSAGES:
        client.drain_events()


def send_all(peer: ScriptedBroker, tag: str) -> None:
    peer.raw(
        b''.join(
            frames('basic.deliver', consumer_tag=tag, delivery_tag=number, body=b'%d' % number)
            for number in range(1, MESSAGES + 1)
        )
    )


def test_a_delivery(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]) -> None:
    consume(peer, channel, got.append)
    calls = calls_each(lambda _: client.drain_events())
    assert len(got) == MESSAGES
    # What the reader does is done once for all deliveries to a consumer that have arrived together.
    assert calls == ['draining.py:drain_events', 'event_queue.py:run_event']


@pytest.mark.parametrize('no_ack', [False, True], ids=['ack', 'no_ack'])
def test_a_delivery_to_an_iterator(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, no_ack: bool
) -> None:
    deliveries = begin(peer, lambda: channel.consume('q', no_ack=no_ack))
    send_all(peer, deliveries.tag)
    got: list[Any] = []
    calls = calls_each(lambda _: got.append(next(deliveries)))
    assert [message.delivery_tag for message in got] == list(range(1, MESSAGES + 1))
    assert calls == ['iterator.py:__next__']


def test_deliveries_to_two_consumers_in_turns(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    for tag in 'ab':
        begin(peer, lambda tag=tag: channel.basic_consume('q', tag, callback=got.append))  # type: ignore[misc]
    peer.raw(
        b''.join(
            frames('basic.deliver', consumer_tag='ab'[number % 2], delivery_tag=number)
            for number in range(1, MESSAGES + 1)
        )
    )
    calls = calls_each(lambda _: client.drain_events())
    assert [message.delivery_tag for message in got] == list(range(1, MESSAGES + 1))
    assert calls == [
        'channel.py:_on_content',
        'draining.py:drain_events',
        'event_queue.py:on_delivery',
        'event_queue.py:run_event',
    ]


def test_messages_share_what_they_have_in_common(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    receive_all(peer, client, channel, got)
    assert len({id(message.consumer_tag) for message in got}) == 1
    # As many objects as batches: all messages may have come in one, or in a few.
    assert len({id(entry) for entry in inside.unacked(channel).values()}) < MESSAGES / 4


def test_an_ack(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]) -> None:
    receive_all(peer, client, channel, got)
    assert channel.unsettled == MESSAGES
    with inside.transport(client).guard:  # which the sending thread would need
        channel.basic_ack(1)  # sent at once
        channel.basic_ack(2)  # has a frame in the queue, which those behind it take over
        calls = calls_each(channel.basic_ack, range(3, MESSAGES + 1))
    assert calls == ['basic_ack.py:basic_ack', 'writer.py:replace_last']
    assert channel.unsettled == 0
    assert peer.expect('basic.ack').delivery_tag == 1


def test_an_ack_that_is_not_combined(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    inside.writer(client).combines = False  # as without *combine_acks*
    receive_all(peer, client, channel, got)
    with inside.transport(client).guard:
        channel.basic_ack(1)  # sent at once
        calls = calls_each(channel.basic_ack, range(2, MESSAGES + 1))
    assert calls == ['basic_ack.py:basic_ack', 'writer.py:send']
    assert [peer.expect('basic.ack').delivery_tag for _ in range(MESSAGES)] == list(range(1, MESSAGES + 1))
    # What combining goes by is not kept where nothing is combined.
    assert inside.unacked(channel).settled_to == 0


def test_a_message_that_acks_itself(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    receive_all(peer, client, channel, got)
    with inside.transport(client).guard:
        got[0].ack()
        got[1].ack()
        calls = calls_each(lambda number: got[number - 1].ack(), range(3, MESSAGES + 1))
    assert calls == ['basic_ack.py:basic_ack', 'basic_message.py:ack', 'writer.py:replace_last']
    assert channel.unsettled == 0


def test_a_publish(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    calls = calls_each(lambda number: channel.basic_publish(gamqp.Message(b'%d' % number, delivery_mode=2), '', 'q'))
    assert calls == [
        'basic_message.py:__init__',
        'basic_publish.py:_hand_over',
        'basic_publish.py:basic_publish',
        'writer.py:send',
    ]
    assert [peer.expect('basic.publish').body for _ in range(MESSAGES)] == [b'%d' % (i + 1) for i in range(MESSAGES)]


def test_a_publish_with_a_receipt(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    receipts = [channel.publish(b'0', '', 'q')]
    calls = calls_each(lambda number: receipts.append(channel.publish(b'%d' % number, '', 'q', delivery_mode=2)))
    assert calls == [
        'basic_publish.py:_hand_over',
        'basic_publish.py:publish',
        'basic_publish.py:taken_apart',
        'confirm_matching.py:enter',
        'receipt.py:__init__',
        'waiting_for_confirms.py:is_crowded',
        'writer.py:send',
    ]
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    peer.send('basic.ack', delivery_tag=MESSAGES + 1, multiple=True)
    for receipt in receipts:
        receipt.wait()


def test_a_publish_and_its_confirm(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the caller, the hub and the reader call for it, together."""
    monkeypatch.setattr(flow_control, 'BREATH', 1e6)  # however slow this machine is, no publish lets others run first

    def answer() -> None:
        for number in range(MESSAGES):
            peer.expect('basic.publish')
            peer.send('basic.ack', delivery_tag=number + 1)

    message = gamqp.Message(b'x', delivery_mode=2)
    answering = greenlets.spawn(answer)
    greenlets.sleep()  # until it waits
    with inside.transport(client).guard:  # which the sending thread would need
        calls = calls_of_all(lambda: confirming.basic_publish_confirm(message, '', 'q'), answering.greenlet)
    answering.get()
    # Those of the libraries of greenlets differ, and the peer's own waits are among them.
    assert [call for call in calls if not call.startswith(('_', 'waiting.py'))] == [
        'basic_publish.py:_hand_over',
        'basic_publish.py:basic_publish_confirm',
        'channel.py:_on_method',
        'confirm_matching.py:_settle',
        'confirm_matching.py:enter',
        'confirm_matching.py:settle',
        'dispatch.py:_on_events',
        'event_queue.py:wake_drainers',
        'events.py:_on_ack',
        'kept_timers.py:begin',
        'kept_timers.py:cancel',
        'link.py:must_pause',
        'link.py:must_pause',
        'liveness.py:_wait_for',
        'reader.py:_read_batch',
        'receive_backpressure.py:must_pause',
        'receive_backpressure.py:must_pause',
        'receive_backpressure.py:overflow_if_due',
        'tcp.py:recv_into',
        'tcp.py:send',
        'tcp.py:wait_readable',
        'waiting_for_confirms.py:settle',
        'writer.py:_end_of_pass',
        'writer.py:_push',
        'writer.py:send',
    ]
