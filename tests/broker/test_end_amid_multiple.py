"""A confirm of thousands of publishes, and the end right behind it: what it covers is not lost, nor is the error.

What the confirm covers is settled in turns of the hub, so the end finds most of it unsettled.
"""

from __future__ import annotations

import gc
import logging
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

CLIENT = {'outstanding_limit': 0}
MANY = 2500
CLOSE = frames('channel.close', 1, reply_code=404, reply_text='NOT_FOUND - gone', class_id=60, method_id=40)


@pytest.fixture
def receipts(peer: ScriptedBroker, channel: gamqp.Channel) -> list[gamqp.Receipt]:
    receipts = [channel.publish(b'x') for _ in range(MANY)]
    peer.expect('confirm.select')
    for _ in receipts:
        peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    return receipts


def covered(kind: str = 'basic.ack', tag: int = MANY) -> bytes:
    return frames(kind, 1, delivery_tag=tag, multiple=True)


def states(receipts: list[gamqp.Receipt]) -> set[str]:
    greenlets.wait_until(lambda: receipts[-1].done)
    return {receipt.state for receipt in receipts}


@pytest.mark.parametrize('waits', [False, True])
def test_the_error_of_the_channel_is_raised_although_all_are_confirmed(
    peer: ScriptedBroker, channel: gamqp.Channel, receipts: list[gamqp.Receipt], waits: bool
) -> None:
    """A greenlet that waits for a receipt gets its ack, and does not hear of the error."""
    task = greenlets.spawn(receipts[-1].wait) if waits else None
    greenlets.sleep(0)
    peer.raw(covered() + CLOSE)
    peer.reopen()
    if task is not None:
        task.get()
    assert states(receipts) == {'acked'}
    with pytest.raises(exceptions.NotFound):
        channel.basic_ack(1)


def test_who_waits_for_all_confirms_gets_them(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, receipts: list[gamqp.Receipt]
) -> None:
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    peer.raw(covered() + CLOSE)
    peer.reopen()
    assert waiting.get() is True
    assert states(receipts) == {'acked'}
    assert (client.stats()['confirmed'], client.stats()['lost']) == (MANY, 0)
    with pytest.raises(exceptions.NotFound):
        channel.basic_ack(1)
    assert channel.wait_for_confirms()


def test_one_that_is_not_covered_is_lost(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, receipts: list[gamqp.Receipt]
) -> None:
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    peer.raw(covered(tag=MANY - 1) + CLOSE)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):
        waiting.get()
    assert states(receipts) == {'acked', 'lost'}
    assert (client.stats()['confirmed'], client.stats()['lost']) == (MANY - 1, 1)


def test_a_refusal_that_is_covered_is_a_refusal(
    peer: ScriptedBroker, channel: gamqp.Channel, receipts: list[gamqp.Receipt]
) -> None:
    waiting = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    peer.raw(covered('basic.nack') + CLOSE)
    peer.reopen()
    assert waiting.get() is False
    assert states(receipts) == {'nacked'}


def test_an_error_that_its_call_has_raised_is_not_raised_again(
    peer: ScriptedBroker, channel: gamqp.Channel, receipts: list[gamqp.Receipt]
) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q', True)
    peer.expect('queue.declare')
    peer.raw(covered() + CLOSE)
    peer.reopen()
    with pytest.raises(exceptions.NotFound):
        declaring.get()
    assert states(receipts) == {'acked'}
    assert channel.wait_for_confirms()


def test_the_reason_is_kept_for_those_who_wait_later(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    """The first waits for publish 1 alone, which is confirmed; what is lost is publish 2."""
    channel.publish(b'one')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.send('confirm.select-ok')
    first = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep(0)
    receipt = channel.publish(b'two')
    peer.expect('basic.publish')
    peer.raw(frames('basic.ack', 1, delivery_tag=1) + CLOSE)
    peer.reopen()
    assert first.get() is True
    assert receipt.state == 'lost'
    with pytest.raises(exceptions.NotFound):
        channel.wait_for_confirms()


def test_a_receipt_that_was_looked_at_amid_it_is_no_unnoticed_one(
    peer: ScriptedBroker, client: Any, receipts: list[gamqp.Receipt], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, 'gamqp')
    peer.raw(covered('basic.nack') + CLOSE)
    greenlets.wait_until(lambda: inside.unheard_ends(receipts[-1]) or receipts[-1].done)
    last = receipts[-3:]
    assert (last[0].state, last[1].acked, type(last[2].error)) == ('nacked', False, exceptions.MessageNacked)
    peer.reopen()
    assert states(receipts) == {'nacked'}
    del last
    receipts.clear()
    gc.collect()
    greenlets.sleep(0)
    assert client.stats()['unnoticed'] == 0
