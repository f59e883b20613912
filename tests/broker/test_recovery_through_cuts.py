"""Publishing and consuming through many cuts in the middle of what is under way: what is kept, lost and doubled."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from recovering_program import QUICK

import gamqp
from gamqp import Recovery, exceptions, testing

CUTS = 10


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


def publish_through_cuts(
    broker: testing.Broker, connection: gamqp.Connection, rng: random.Random
) -> tuple[dict[bytes, gamqp.Receipt], set[bytes]]:
    """Returns the receipts, and the bodies of those that had none yet at a cut."""
    channel = connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    channel.confirm_select()
    receipts: dict[bytes, gamqp.Receipt] = {}
    unresolved: set[bytes] = set()
    for cut in range(1, CUTS + 1):
        sent_before = len(receipts)
        broker.cut(after=rng.randrange(1, 1500))  # amid the confirms
        while connection.stats()['outages'] < cut:
            body = b'%d' % len(receipts)
            open_ = [one for one, receipt in receipts.items() if not receipt.done]
            receipts[body] = channel.publish(body * 40, '', 'jobs', timeout=greenlets.PATIENCE)
            unresolved.update(open_, [body])
            if len(receipts) % 20 == 0:
                greenlets.sleep(0)
            if len(receipts) - sent_before > 2000:
                broker.cut()
        connection.wait_open(greenlets.PATIENCE)
    return receipts, unresolved


@pytest.mark.parametrize('republish', ['none', 'unsent', 'all'])
def test_each_receipt_says_what_has_become_of_its_message(broker: testing.Broker, republish: Any) -> None:
    recover = Recovery(**QUICK, republish=republish)
    with gamqp.connect(broker.url, recover=recover) as connection:
        receipts, unresolved = publish_through_cuts(broker, connection, random.Random(22))
        greenlets.wait_until(lambda: all(receipt.done for receipt in receipts.values()))
        states = Counter(receipt.state for receipt in receipts.values())
        broker.wait_until(lambda: not connection.channel(1).unconfirmed)
        found = Counter(
            bytes(message.body)[: len(bytes(message.body)) // 40] for message in broker.queue('jobs').messages
        )
        stats = connection.stats()
    assert set(states) <= {'acked', 'lost'} and stats['outages'] == stats['recoveries'] == CUTS
    # Counted once each, whatever happened to them.
    assert (stats['confirmed'], stats['lost']) == (states['acked'], states['lost'])
    assert stats['published'] == len(receipts) and states['acked'] >= CUTS
    acked = {body for body, receipt in receipts.items() if receipt.state == 'acked'}
    assert acked <= set(found)
    lost = {body: receipt.error for body, receipt in receipts.items() if receipt.state == 'lost'}
    assert all(isinstance(error, gamqp.Lost) for error in lost.values())
    certainly_not = {body for body, error in lost.items() if getattr(error, 'sent', None) is False}
    assert not certainly_not & set(found)
    doubled = {body for body, count in found.items() if count > 1}
    if republish == 'none':
        assert lost
    if republish == 'all':
        assert not lost and doubled <= unresolved
    else:
        assert not doubled
    if republish == 'unsent':
        assert not certainly_not


@pytest.mark.slow
def test_ten_thousand_consumers_on_twenty_channels_are_there_again_each_time(broker: testing.Broker) -> None:
    """And the hub is never held for long, of which the time of the processor is taken, and nothing is left behind."""
    longest, ticking = [0.0], [True]

    def tick() -> None:
        before = time.thread_time()
        while ticking:
            greenlets.sleep(0)
            now = time.thread_time()
            longest[0], before = max(longest[0], now - before), now

    got: Counter[str] = Counter()
    with gamqp.connect(broker.url, recover=Recovery(**QUICK)) as connection:
        channels = [connection.channel() for _ in range(20)]
        for number in range(100):
            channels[0].queue_declare(f'q{number}', durable=True, auto_delete=False)
        for number in range(10_000):
            channels[number % 20].basic_consume(
                f'q{number % 100}', callback=lambda message: got.update([message.consumer_tag]), nowait=True
            )
        channels[0].queue_declare('q0', passive=True)
        sizes = []
        ticker = greenlets.spawn(tick)
        for cut in range(1, 4):
            broker.cut()
            greenlets.wait_until(lambda cut=cut: connection.stats()['recoveries'] == cut)  # type: ignore[misc]
            assert connection.stats()['consumers'] == 10_000
            gc.collect()
            sizes.append(len(gc.get_objects()))
        ticking.clear()
        ticker.get()
        assert sum(len(broker.queue(f'q{number}').consumers) for number in range(100)) == 10_000
        assert not gc.garbage and max(sizes[1:]) < sizes[0] * 1.02, sizes
        assert longest[0] < 0.5, longest


@pytest.mark.parametrize('found', ['when there is room to read', 'at once'])
def test_messages_without_acks_that_wait_in_memory_and_beside_it_are_handed_out_once(
    broker: testing.Broker, found: str
) -> None:
    with gamqp.connect(broker.url, recover=Recovery(**QUICK), max_undelivered_messages=100) as connection:
        channel = connection.channel()
        channel.queue_declare('jobs', durable=True, auto_delete=False)
        for number in range(500):
            broker.publish('', 'jobs', b'%d' % number)
        deliveries = channel.consume('jobs', no_ack=True)
        broker.wait_until(lambda: not len(broker.queue('jobs')))
        channel.queue_declare('jobs', passive=True)  # for its reply the socket is read to the end
        assert connection.stats()['spooled_messages'] > 200
        broker.cut()
        if found == 'at once':  # as by one who writes
            inside.link(connection).lose(exceptions.RecoverableConnectionError('broken pipe'))
            greenlets.wait_until(lambda: connection.stats()['recoveries'])
            assert connection.stats()['spooled_messages'] > 200
        got = [bytes(next(deliveries).body) for _ in range(500)]
        greenlets.wait_until(lambda: connection.stats()['recoveries'])
        broker.publish('', 'jobs', b'500')
        got.append(bytes(next(deliveries).body))
        assert got == [b'%d' % number for number in range(501)]
        deliveries.close()
