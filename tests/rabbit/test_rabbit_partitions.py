"""Partitions: each key in order, whoever comes, goes and dies."""

from __future__ import annotations

from collections import defaultdict

import broker_tools
import greenlets
import pytest
from broker_tools import number_of

import gamqp
from gamqp import exceptions

KEYS = [f'customer-{number}' for number in range(24)]


@pytest.fixture(autouse=True)
def hashing(rabbit):
    """Only where the broker has an exchange that hashes."""
    if rabbit.major < 4 and not broker_tools.has_consistent_hash(rabbit):
        pytest.skip('this broker has no x-consistent-hash')


@pytest.fixture
def made():
    """Partitions that are deleted at the end, by a connection that is still there."""
    made = []
    yield made
    for partitions in made:
        partitions.delete()


def declare(made, channel, count, **arguments):
    partitions = gamqp.partitions(channel, broker_tools.fresh_name('orders'), count, **arguments)
    made.append(partitions)
    return partitions


class Member:
    """One process of several: a connection of its own, and what its handler has got.

    hold: a number that the handler keeps until ``held`` is set. fail: one on which it raises.
    """

    def __init__(self, rabbit, partitions, number, members, log, *, hold=None, fail=None, connection=None, **arguments):
        self.log = log
        self.number = number
        self.hold = hold
        self.fail = fail
        self.held = gamqp.green.Event(greenlets.backend)
        self.connection = connection or rabbit.connect()
        own = gamqp.partitions(self.connection, partitions.name, partitions.count, declare=False)
        self.consumers = own.subscribe(self.handle, number, members, **arguments)

    def handle(self, message):
        number = number_of(message)
        self.log.append((self.number, message.delivery_info['routing_key'], number))
        if number == self.hold:
            assert self.held.wait(greenlets.PATIENCE)
        if number == self.fail:
            raise RuntimeError(f'no {number}')

    def fed(self):
        """The partitions that the broker has fed this member."""
        return {number for number, one in enumerate(self.consumers.consumers) if one.delivered}


class Publisher:
    """Publishes to every key in turn, numbers from 0 on, until it is told to stop; no more than are handled."""

    def __init__(self, partitions, log):
        self.partitions = partitions
        self.log = log
        self.rounds = 0
        self._stop = False
        self._task = greenlets.spawn(self._run)

    def _run(self):
        while not self._stop:
            receipts = [self.partitions.publish(b'%d' % self.rounds, key) for key in KEYS]
            for receipt in receipts:
                receipt.wait()
            self.rounds += 1
            while self.rounds * len(KEYS) > len(self.log) + 10 * len(KEYS) and not self._stop:
                greenlets.sleep(0.002)

    def stop(self):
        self._stop = True
        self._task.get()


def wait_for_more(log):
    wanted = len(log) + 5 * len(KEYS)
    greenlets.wait_until(lambda: len(log) >= wanted, what='more messages')


def check_in_order(log, rounds):
    """All that was published has come, and of each key in order, but for what came again."""
    got = defaultdict(list)
    for _, key, number in log:
        if number not in got[key]:
            got[key].append(number)
    assert {key: numbers for key, numbers in got.items() if numbers != list(range(rounds))} == {}
    assert set(got) == set(KEYS)


def one_key(made, connection, count):
    """A partition with the messages 0, 1 … of one key."""
    partitions = declare(made, connection, 1)
    for number in range(count):
        partitions.publish(b'%d' % number, 'key')
    partitions.channel.wait_for_confirms()
    return partitions


def test_members_that_die_and_come_back_keep_each_key_in_order(rabbit, connection, made):
    partitions = declare(made, connection, 6)
    log = []
    members = [Member(rabbit, partitions, number, 3, log) for number in range(3)]
    publisher = Publisher(partitions, log)
    wait_for_more(log)
    # Before 4.0 the broker feeds whoever came first, whatever the priorities.
    by_priority = rabbit.major >= 4
    if by_priority:
        greenlets.wait_until(lambda: [member.fed() for member in members] == [{0, 3}, {1, 4}, {2, 5}])
    members[0].connection.collect()  # its process has died
    wait_for_more(log)
    if by_priority:
        # One partition each, not both to one.
        greenlets.wait_until(lambda: [member.fed() for member in members[1:]] == [{0, 1, 4}, {2, 3, 5}])
    back = Member(rabbit, partitions, 0, 3, log)
    if by_priority:
        greenlets.wait_until(lambda: back.fed() == {0, 3}, what='its partitions were handed back')
    wait_for_more(log)
    publisher.stop()
    greenlets.wait_until(lambda: len({entry[1:] for entry in log}) == publisher.rounds * len(KEYS))
    check_in_order(log, publisher.rounds)
    for member in (*members, back):
        member.connection.close()


def test_a_member_whose_connection_recovers_goes_on_by_itself(rabbit, connection, made, proxy):
    partitions = declare(made, connection, 4)
    log = []
    cut = gamqp.connect(proxy.url(rabbit), recover=gamqp.Recovery(first_delay=0, delay=0.1, max_delay=0.1))
    members = [Member(rabbit, partitions, 0, 2, log, connection=cut), Member(rabbit, partitions, 1, 2, log)]
    publisher = Publisher(partitions, log)
    wait_for_more(log)
    for _ in range(3):
        proxy.cut()
        greenlets.wait_until(lambda: not cut.connected)
        wait_for_more(log)
        cut.wait_open(greenlets.PATIENCE)
        before = members[0].consumers.delivered
        # Before 4.0 it only stands by from now on: the other has taken over.
        greenlets.wait_until(lambda before=before: rabbit.major < 4 or members[0].consumers.delivered > before)
    publisher.stop()
    greenlets.wait_until(lambda: len({entry[1:] for entry in log}) == publisher.rounds * len(KEYS))
    check_in_order(log, publisher.rounds)
    for member in members:
        member.consumers.cancel()
        member.connection.close()


@pytest.mark.parametrize('prefetch', [1, 5])
def test_a_member_that_leaves_ends_its_message_before_another_begins_the_next(rabbit, connection, made, prefetch):
    """After a basic.cancel the next member would get at once what comes behind the messages that were sent ahead."""
    partitions = one_key(made, connection, 12)
    log = []
    leaving = Member(rabbit, partitions, 0, 2, log, hold=2, prefetch=prefetch)
    greenlets.wait_until(lambda: len(log) == 3)
    staying = Member(rabbit, partitions, 1, 2, log, prefetch=prefetch)
    with pytest.raises(TimeoutError, match='0 of 2 ending'):
        leaving.consumers.cancel(timeout=0.1)
    assert staying.consumers.delivered == 0
    task = greenlets.spawn(leaving.consumers.cancel)
    leaving.held.set()
    task.get()
    greenlets.wait_until(lambda: len(log) == 12)
    assert log == [(0 if number < 3 else 1, 'key', number) for number in range(12)]
    leaving.consumers.join()
    leaving.consumers.cancel()
    for member in (leaving, staying):
        member.connection.close()


def test_a_failure_that_stops_a_member_loses_nothing_and_keeps_the_order(rabbit, connection, made):
    partitions = one_key(made, connection, 6)
    log = []
    failing = Member(rabbit, partitions, 0, 2, log, fail=2, on_error='stop', prefetch=4)
    waiting = greenlets.spawn(failing.consumers.join)
    assert str(broker_tools.raised(waiting)) == 'no 2'
    other = Member(rabbit, partitions, 1, 2, log)
    greenlets.wait_until(lambda: len(log) == 7)
    assert [number for _, _, number in log] == [0, 1, 2, 2, 3, 4, 5]
    assert (failing.consumers.acked, failing.consumers.failed) == (2, 1)
    for member in (failing, other):
        member.connection.close()


def test_a_message_that_failed_comes_again_before_the_next(rabbit, connection, made):
    partitions = one_key(made, connection, 4)
    log = []

    def fail_once(message):
        log.append(number_of(message))
        if log.count(1) == 1 and number_of(message) == 1:
            raise RuntimeError('once')

    consumers = partitions.subscribe(fail_once)
    greenlets.wait_until(lambda: len(log) == 5)
    assert log == [0, 1, 1, 2, 3]
    consumers.cancel()


def test_a_handler_may_end_them_all(connection, made):
    partitions = one_key(made, connection, 3)
    log = []

    def end(message):
        log.append(number_of(message))
        consumers.cancel()

    consumers = partitions.subscribe(end)
    consumers.join()
    assert log == [0] and consumers.acked == 1
    assert 'ended: ' in repr(consumers)
    assert partitions.delete() == 2
    made.clear()


def test_who_waits_hears_of_a_queue_that_was_deleted_and_of_the_end_of_the_connection(rabbit, connection, made):
    partitions = declare(made, connection, 2)
    with rabbit.connect() as other:
        own = gamqp.partitions(other, partitions.name, 2, declare=False)
        consumers = own.subscribe(lambda message: None)
        waiting = greenlets.spawn(consumers.join)
        connection.channel().queue_delete(partitions.queues[1])
        assert isinstance(broker_tools.raised(waiting), exceptions.ConsumerCancelled)
        consumers.cancel()
    partitions = declare(made, connection, 2)
    other = rabbit.connect()
    own = gamqp.partitions(other, partitions.name, 2, declare=False)
    consumers = own.subscribe(lambda message: None)
    waiting = greenlets.spawn(consumers.join)
    greenlets.sleep(0)
    other.collect()
    assert isinstance(broker_tools.raised(waiting), exceptions.RecoverableConnectionError)


def test_they_are_declared_once_and_not_with_another_count(connection, made):
    channel = connection.channel()
    partitions = declare(made, channel, 4)
    again = gamqp.partitions(channel, partitions.name, 4)
    assert again.queues == partitions.queues and again.channel is channel
    with pytest.raises(ValueError, match=r'count: .* has more than 3 partitions'):
        gamqp.partitions(channel, partitions.name, 3)
    with pytest.raises(ValueError, match=r'count: .* has fewer than 8 partitions'):
        gamqp.partitions(channel, partitions.name, 8)
    # One that was interrupted: the last queues are there, the first are not.
    channel.queue_delete(partitions.queues[0])
    gamqp.partitions(channel, partitions.name, 4)
    partitions.publish(b'', 'key', mandatory=True).wait()
    assert channel.is_open


def test_keys_are_spread_over_all(connection, made):
    partitions = declare(made, connection, 4)
    receipts = [partitions.publish(b'', f'key-{number}') for number in range(1000)]
    for receipt in receipts:
        receipt.wait()
    sizes = [broker_tools.ready(partitions.channel, queue) for queue in partitions.queues]
    assert sum(sizes) == 1000 and min(sizes) > 100, sizes


def test_an_exchange_type_that_the_broker_has_not_leaves_the_connection_alone(connection):
    channel = connection.channel()
    with pytest.raises(gamqp.AMQPNotImplementedError, match=r"no exchange type 'x-nothing'"):
        gamqp.partitions(channel, broker_tools.fresh_name('orders'), 2, exchange_type='x-nothing')
    assert channel.is_open and channel.queue_declare(exclusive=True).queue


def test_an_exchange_of_another_kind_is_an_error_that_leaves_the_channel_alone(connection):
    channel, name = connection.channel(), broker_tools.fresh_name('orders')
    channel.exchange_declare(name, 'direct', auto_delete=False)
    with pytest.raises(exceptions.PreconditionFailed):
        gamqp.partitions(channel, name, 2)
    channel.exchange_delete(name)
    for number in range(2):
        channel.queue_delete(f'{name}.{number}')
