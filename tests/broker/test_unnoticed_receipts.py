"""A publish that was refused or returned and whose receipt nobody has looked at: one warning, the rest counted."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

NO_ROUTE = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': 'ex', 'routing_key': 'k'}


def publish(peer: ScriptedBroker, channel: gamqp.Channel, count: int = 1) -> list[Any]:
    receipts = [channel.publish(b'%d' % number, 'ex', 'k', mandatory=True) for number in range(count)]
    for _ in range(count):
        peer.expect('basic.publish')
    return receipts


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if 'its receipt' in record.getMessage()]


def refuse(peer: ScriptedBroker, client: gamqp.Connection, tag: int) -> None:
    before = client.stats()['nacked']
    peer.send('basic.nack', delivery_tag=tag)
    greenlets.wait_until(lambda: client.stats()['nacked'] > before)


def test_one_warning_names_the_first_and_the_rest_is_counted(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    publish(peer, confirming, 5)
    peer.send('basic.nack', delivery_tag=2)
    greenlets.wait_until(lambda: warnings(caplog))
    peer.raw(frames('basic.return', body=b'2', **NO_ROUTE) + frames('basic.ack', delivery_tag=5, multiple=True))
    greenlets.wait_until(lambda: not confirming.unconfirmed)
    assert client.stats()['unnoticed'] == 2
    other = peer.open_channel(client, 2)
    other.publish(b'x', 'elsewhere', 'k')
    peer.expect('confirm.select', 2)
    peer.expect('basic.publish', 2)
    peer.raw(frames('confirm.select-ok', 2) + frames('basic.nack', 2, delivery_tag=1))
    greenlets.wait_until(lambda: client.stats()['unnoticed'] == 3)
    (text,) = warnings(caplog)
    assert "exchange 'ex' with routing key 'k' was refused by the broker" in text
    assert caplog.records[-1].levelno == logging.WARNING


def test_one_that_came_back(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    publish(peer, confirming)
    peer.raw(frames('basic.return', body=b'0', **NO_ROUTE) + frames('basic.ack', delivery_tag=1))
    greenlets.wait_until(lambda: warnings(caplog))
    assert 'was returned, since no queue takes it' in warnings(caplog)[0]


def wait(receipt: Any) -> None:
    with pytest.raises(exceptions.MessageNacked):
        receipt.wait()


LOOKS: dict[str, Callable[[Any], Any]] = {
    'wait': wait,
    'state': lambda receipt: receipt.state,
    'acked': lambda receipt: receipt.acked,
    'error': lambda receipt: receipt.error,
    'repr': repr,
}


@pytest.mark.parametrize('look', LOOKS.values(), ids=LOOKS)
def test_one_that_was_looked_at_is_nobodys_surprise(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, look: Callable[[Any], Any]
) -> None:
    (receipt,) = publish(peer, confirming)
    refuse(peer, client, 1)
    assert receipt.done
    look(receipt)
    assert type(receipt) is gamqp.Receipt
    assert receipt.state == 'nacked'
    del receipt
    assert client.stats()['unnoticed'] == 0


def test_one_that_is_waited_for_when_it_is_refused(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    (receipt,) = publish(peer, confirming)
    waiting = [greenlets.spawn(receipt.wait) for _ in range(2)]
    del receipt
    peer.send('basic.nack', delivery_tag=1)
    for task in waiting:
        with pytest.raises(exceptions.MessageNacked):
            task.get()
    del waiting, task
    assert client.stats()['unnoticed'] == 0


def test_one_whose_waiter_gave_up_before(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    (receipt,) = publish(peer, confirming)
    with pytest.raises(TimeoutError):
        receipt.wait(0.01)
    del receipt
    refuse(peer, client, 1)
    assert client.stats()['unnoticed'] == 1


def test_what_handlers_get_is_not_unnoticed(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    bodies: list[bytes] = []
    confirming.events['basic_return'].add(lambda error, exchange, key, message: bodies.append(message.body))
    publish(peer, confirming)
    peer.raw(frames('basic.return', body=b'0', **NO_ROUTE) + frames('basic.ack', delivery_tag=1))
    client.drain_events(timeout=30)
    greenlets.wait_until(lambda: not confirming.unconfirmed)
    assert bodies == [b'0']
    assert client.stats()['unnoticed'] == 0


def test_acked_and_lost_ones_are_no_matter_of_this(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel
) -> None:
    (first, second) = publish(peer, confirming, 2)
    peer.send('basic.ack', delivery_tag=1)
    greenlets.wait_until(lambda: confirming.unconfirmed == 1)
    assert type(first) is gamqp.Receipt
    confirming.collect()
    assert second.state == 'lost'
    del first, second
    assert client.stats()['unnoticed'] == 0
    assert not hasattr(gamqp.Receipt, '__del__')  # so the usual ones pay nothing


def test_the_collector_may_find_it_in_another_thread_or_in_a_cycle(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    cycle: list[Any] = publish(peer, confirming, 2)
    in_thread = cycle.pop()
    refuse(peer, client, 1)
    refuse(peer, client, 2)
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert client.stats()['unnoticed'] == 1
    held = [in_thread]
    del in_thread
    ended = threading.Event()

    def drop() -> None:
        held.clear()
        ended.set()

    threading.Thread(target=drop).start()
    greenlets.wait_until(ended.is_set)
    greenlets.wait_until(lambda: client.stats()['unnoticed'] == 2)
    greenlets.wait_until(lambda: warnings(caplog))
    assert len(warnings(caplog)) == 1


def test_it_is_said_after_the_end_of_the_connection_too(
    peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    receipts = publish(peer, confirming)
    refuse(peer, client, 1)
    client.collect()
    receipts.clear()
    greenlets.wait_until(lambda: warnings(caplog))
    assert client.stats()['unnoticed'] == 1


def test_it_is_part_of_no_cycle(peer: ScriptedBroker, client: gamqp.Connection, confirming: gamqp.Channel) -> None:
    (receipt,) = publish(peer, confirming)
    refuse(peer, client, 1)
    gc.disable()
    try:
        del receipt
        assert client.stats()['unnoticed'] == 1
    finally:
        gc.enable()
