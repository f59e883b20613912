"""Connections by the thousand, closed, refused and cut: descriptors, greenlets, objects and memory stay flat."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections import Counter

import broker_tools
import greenlets
import pytest
from proxy import Proxy

import gamqp

# The long runs reach the level at which the allocator has seen it all.
WARM_UP = broker_tools.repeats(30, 500)
# What memory may swing by in all, in bytes: an allocator's fragments, among them those of the proxy's threads.
# One buffer of a connection left behind by each cycle would be ten times as much.
SLACK = 8 * 1024 * 1024


@pytest.fixture(autouse=True)
def quiet(caplog):
    """pytest keeps every log record, which would look like a leak of ours."""
    caplog.set_level(logging.CRITICAL, 'gamqp')


@pytest.fixture
def shared(rabbit):
    """A queue that all connections use: to make one costs a new broker more than a connection."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        queue = broker_tools.shared_queue(channel, arguments={'x-max-length': 10})
        yield queue
        channel.queue_delete(queue)


class Figures:
    """What must stay flat."""

    def __init__(self):
        gc.collect()
        self.descriptors = len(os.listdir('/proc/self/fd'))
        self.greenlets = len(greenlets.living_greenlets())
        self.rss = broker_tools.resident_bytes()
        self.types = Counter(f'{type(one).__module__}.{type(one).__qualname__}' for one in gc.get_objects())
        # eventlet keeps cancelled timers, a tuple each, until a thousand of them have gathered.
        self.types['builtins.tuple'] -= self.types.pop('eventlet.hubs.timer.Timer', 0)

    def check(self, before, cycles):
        grown = {name: count - before.types[name] for name, count in self.types.items()}
        report = (
            f'{cycles} cycles: {before.descriptors} -> {self.descriptors} descriptors, '
            f'{before.greenlets} -> {self.greenlets} greenlets, {(self.rss - before.rss) / 1024:+.0f} kB, '
            f'{sum(self.types.values()) - sum(before.types.values()):+d} objects, garbage {len(gc.garbage)}'
        )
        print(report)
        # Others in this process may open or close one meanwhile.
        assert self.descriptors <= before.descriptors + 3, report
        assert self.greenlets <= before.greenlets, report
        assert self.rss - before.rss < SLACK, report
        leaking = {name: count for name, count in grown.items() if count > max(cycles / 2, 40)}
        assert not leaking, leaking
        assert not gc.garbage


def repeat(rabbit, cycle, usual, long):
    """*cycle(number)* many times, with the figures after a warm-up and at the end.

    One broker in full, as it is our side that may leak; 4.3 keeps about every sixtieth connection waiting for 5 s.
    """
    count = broker_tools.repeats(usual if rabbit.major < 4 else 20, long)
    for number in range(min(WARM_UP, count)):
        cycle(number)
    settle()
    before = Figures()
    for number in range(count):
        cycle(number)
    settle()
    Figures().check(before, count)


def settle():
    for _ in range(3):
        greenlets.sleep(0.02)
        gc.collect()


@pytest.mark.slow
@pytest.mark.limit(60 if not broker_tools.LONG else 1800)
def test_connect_and_close(rabbit, shared):
    def cycle(number):
        with rabbit.connect() as connection:
            if number % 3 == 0:
                channel = connection.channel()
                channel.basic_consume(shared, callback=lambda message: channel)
                channel.basic_publish_confirm(gamqp.Message(b'x'), '', shared)
            if number % 3 == 1:
                broker_tools.raised(connection.channel().queue_declare, 'no such queue', True)

    repeat(rabbit, cycle, 300, 10_000)


@pytest.mark.any_broker
@pytest.mark.limit(60 if not broker_tools.LONG else 600)
@pytest.mark.parametrize('way', ['down', 'up'])
def test_cut_at_every_step_of_the_handshake(rabbit, way):
    rng = random.Random(7)
    with Proxy(rabbit.node.port) as proxy:
        gamqp.connect(proxy.url(rabbit)).close()
        length = getattr(proxy, way).bytes
        outcomes = Counter()

        def cycle(number):
            getattr(proxy, way).cut_after(rng.randrange(length), reset=rng.random() < 0.5)
            try:
                connection = gamqp.connect(proxy.url(rabbit), connect_timeout=1)
            except gamqp.Connection.recoverable_connection_errors as error:
                outcomes[type(error).__name__] += 1
            else:  # the cut meets the close
                outcomes['open'] += 1
                connection.close()
            proxy.cut()
            proxy.streams.clear()

        repeat(rabbit, cycle, 100, 1000)
        print(outcomes)
        assert outcomes.total() > outcomes['open']


@pytest.mark.slow
@pytest.mark.limit(60 if not broker_tools.LONG else 600)
def test_cut_in_full_use(rabbit, shared):
    """With a consumer, waiting greenlets, a publish under way, a half-delivered message."""
    rng = random.Random(8)
    with Proxy(rabbit.node.port) as proxy:

        def cycle(number):
            connection = gamqp.connect(proxy.url(rabbit))
            channel = connection.channel()
            channel.basic_consume(shared, callback=lambda message: (channel, connection))
            channel.events['basic_return'].add(lambda *args: (channel, connection))
            tasks = [
                greenlets.spawn(broker_tools.drain_for_ever, connection),
                greenlets.spawn(publish_for_ever, channel, shared),
                greenlets.spawn(channel.queue_declare, shared, True),
            ]
            greenlets.sleep(0)
            (proxy.up if number % 2 else proxy.down).cut_after(rng.randrange(100_000), reset=rng.random() < 0.5)
            for task in tasks[:2]:
                assert isinstance(broker_tools.raised(task), connection.recoverable_connection_errors)
            proxy.streams.clear()

        repeat(rabbit, cycle, 60, 1000)


def publish_for_ever(channel, queue):
    while True:
        channel.basic_publish_confirm(gamqp.Message(bytes(30_000)), '', queue)


def test_refused_logins(rabbit):
    url = rabbit.url.replace('guest:guest@', 'guest:wrong@')
    started = len(os.listdir('/proc/self/fd'))
    tasks = [greenlets.spawn(gamqp.connect, url) for _ in range(10)]
    for task in tasks:
        assert isinstance(broker_tools.raised(task), gamqp.AccessRefused)
    assert len(os.listdir('/proc/self/fd')) <= started + 1


def test_closed_connections_go_without_the_help_of_the_collector(rabbit):
    """No reference cycle holds a connection, a channel or a message together when they are done with."""
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for number in range(5):
            with rabbit.connect() as connection:
                channel = connection.channel()
                queue = channel.queue_declare(exclusive=True).queue
                got = []
                channel.basic_consume(queue, callback=got.append)
                channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
                broker_tools.drain_until(connection, lambda got=got: got)
                got[0].ack()
                if number % 2:
                    channel.close()
            del connection, channel, got
        greenlets.wait_until(lambda: alive() == before, 60, 'all are gone')
    finally:
        gc.enable()


def alive():
    kinds = (gamqp.Connection, gamqp.Channel, gamqp.Message)
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


def test_an_abandoned_connection_is_closed_and_says_so(rabbit):
    connection = rabbit.connect()
    connection.channel()
    sock = connection.sock
    with pytest.warns(ResourceWarning, match='never closed'):
        del connection
        gc.collect()
        greenlets.wait_until(lambda: sock.fileno() == -1, what='the socket is closed')
