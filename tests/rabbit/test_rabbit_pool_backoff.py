"""Pool: how often it tries a broker that is away or refuses, and what it learns of the broker's limits."""

from __future__ import annotations

import logging
import time

import broker_tools
import greenlet
import greenlets
import inside
import pytest
from pool_tools import end, hold, lease_once

import gamqp


@pytest.mark.any_broker
@pytest.mark.real_seconds
def test_a_crowd_tries_a_broker_that_is_away_no_more_often_than_one(make):
    """However many ask, and however often: one greenlet connects, and it pauses longer each time."""
    attempts, connecting = [], []

    def connect():
        assert not connecting
        connecting.append(None)
        greenlets.sleep(0)
        connecting.pop()
        attempts.append(time.monotonic())
        raise ConnectionRefusedError('nobody there')

    pool = make(4, 10, url=connect)
    stop = time.monotonic() + 2

    def ask():
        while time.monotonic() < stop:
            with pytest.raises(OSError):  # the one of the latest attempt, or that the time is up
                lease_once(pool, 0.05)

    for task in [greenlets.spawn(ask) for _ in range(50)]:
        task.get()
    # The limits of the pauses double: so many attempts in two seconds do not come by chance.
    assert 1 < len(attempts) < 40
    assert pool.stats()['leased'] == pool.stats()['opening'] == 0


@pytest.mark.any_broker
@pytest.mark.real_seconds
def test_a_wrong_password_is_not_tried_again_within_a_second(make, rabbit, proxy):
    pool = make(2, 5, url=f'amqp://guest:wrong@127.0.0.1:{proxy.port}/{rabbit.vhost}')
    begin = time.monotonic()
    while time.monotonic() < begin + 1.5:
        tasks = [greenlets.spawn(lease_once, pool) for _ in range(10)]
        for task in tasks:
            with pytest.raises(gamqp.AccessRefused):  # each as soon as it is known, and not at its deadline
                task.get()
    assert len(proxy.streams) <= 1 + (time.monotonic() - begin)


def test_who_has_no_time_to_wait_for_the_next_attempt_gets_the_error_of_the_last(make, rabbit):
    pool = make(url=f'amqp://guest:wrong@127.0.0.1:{rabbit.node.port}/{rabbit.vhost}')
    for _ in range(3):
        with pytest.raises(gamqp.AccessRefused):
            lease_once(pool, 5 if pool.stats()['waits'] == 0 else 0.01)
    assert pool.stats()['timeouts'] == 2


def test_a_connecting_greenlet_that_is_killed_is_replaced(make, rabbit):
    connecting = []

    def connect():
        connecting.append(greenlet.getcurrent())
        if len(connecting) == 1:
            greenlets.sleep(10)
        return rabbit.connect()

    pool = make(1, 2, url=connect)
    waiter = greenlets.spawn(lease_once, pool)
    greenlets.wait_until(lambda: connecting)
    greenlets.backend.kill(connecting[0])
    assert waiter.get().is_open
    assert len(connecting) == 2


def test_a_greenlet_that_is_killed_before_it_has_begun_is_replaced(make, rabbit):
    pool = make(1, 2, url=rabbit.connect)
    waiter = greenlets.spawn(lease_once, pool)
    greenlets.wait_until(lambda: inside.pool_tasks(pool))
    for _ in range(2):  # the one that connects, and the one that opens the channel
        for task in inside.pool_tasks(pool):
            if not task:
                greenlets.backend.kill(task)
        greenlets.sleep(0)
    assert waiter.get().is_open


@pytest.mark.any_broker
@pytest.mark.limit(60)
def test_after_a_loss_nobody_gets_a_channel_of_the_lost_connection(make, proxy):
    """Many wait for few channels, and some have been served when the connection is cut."""
    pool = make(2, 25, timeout=50)
    dead, cut_just_now, done = [], [], []

    def work():
        for _ in range(3):
            with pool.channel() as channel:
                if not channel.is_open:
                    dead.append(channel)
                elif not channel.connection.is_alive():
                    cut_just_now.append(channel)
                try:
                    channel.publish(b'x', routing_key='nowhere').wait()
                    done.append(channel)
                except (gamqp.ConnectionError, OSError):
                    pass  # cut meanwhile

    tasks = [greenlets.spawn(work) for _ in range(broker_tools.repeats(400, 2000))]
    for cut in range(1, 4):
        greenlets.wait_until(lambda: len(done) > cut * 100)  # noqa: B023
        proxy.cut()
    for task in tasks:
        task.get(50)
    assert not dead
    # The proxy does not wait for us: it may cut between the pool's look at a connection and ours, once for each.
    assert len(cut_just_now) <= 3 * 2
    assert pool.stats()['lost_connections'] >= 3
    assert (pool.stats()['leased'], pool.stats()['waiting']) == (0, 0)


@pytest.mark.any_broker
@pytest.mark.real_seconds
def test_a_loss_that_nobody_tells_of_is_found_while_somebody_waits(make, proxy):
    """The one who has the only channel is busy with something else, and nobody else comes."""
    pool = make(1, 1)
    with pool.channel() as mine:
        waiter = greenlets.spawn(lease_once, pool)
        greenlets.wait_until(lambda: pool.stats()['waiting'] == 1)
        proxy.cut()
        assert waiter.get().is_open
        assert not mine.is_open
    assert pool.stats()['lost_connections'] == 1


def test_who_was_served_in_vain_keeps_its_place(make):
    """Whoever has been given a channel looks again when its turn comes: the connection may have been lost meanwhile."""
    pool = make(1, 3)
    order = []

    def work(number):
        with pool.channel() as channel:
            order.append((number, channel.is_open))

    leases = [pool.channel() for _ in range(3)]
    channels = [lease.__enter__() for lease in leases]
    connection = channels[0].connection
    tasks = []
    for number in range(6):
        tasks.append(greenlets.spawn(work, number))
        greenlets.wait_until(lambda: pool.stats()['waiting'] == len(tasks))
    for lease in leases:
        lease.__exit__(None, None, None)
    connection.collect()  # three have been given its channels, and have not run
    for task in tasks:
        task.get()
    assert order == [(number, True) for number in range(6)]
    stats = pool.stats()
    assert (stats['lost_connections'], stats['leased'], stats['waiting']) == (1, 0, 0)


@pytest.fixture
def limited(rabbit):
    """The URL of a user who may have three channels."""
    name = f'limited{time.monotonic_ns()}'
    api = rabbit.node.api
    api(f'users/{name}', 'PUT', {'password': 'x', 'tags': ''})
    api(f'permissions/{rabbit.vhost}/{name}', 'PUT', {'configure': '.*', 'write': '.*', 'read': '.*'})
    api(f'user-limits/{name}/max-channels', 'PUT', {'value': 3})
    yield f'amqp://{name}:x@127.0.0.1:{rabbit.node.port}/{rabbit.vhost}'
    api(f'users/{name}', 'DELETE')


@pytest.mark.parametrize('connections', [1, 2])
def test_a_users_limit_of_channels_is_learnt_and_told_once(make, limited, caplog, connections):
    """The broker ends the connection that opens one too many. It counts a little late, so it may be some more."""
    pool = make(connections, 10, url=limited, timeout=20)
    caplog.set_level(logging.WARNING, 'gamqp.pool')

    def told():
        return [record.getMessage() for record in caplog.records if 'no more than' in record.getMessage()]

    holders = []
    while not told() and len(holders) < 20:
        holders.append(hold(pool))
        greenlets.wait_until(lambda: told() or pool.stats()['leased'] == len(holders))
        greenlets.sleep(0.05)
    (warning,) = told()
    assert 'maximum allowed user limit' in warning
    learnt = int(warning.split('no more than ')[1].split()[0])
    assert 3 <= learnt < len(holders)
    end(holders)
    tasks = [greenlets.spawn(lease_once, pool) for _ in range(50)]
    for task in tasks:
        assert task.get(30).channel_id
    assert pool.stats()['channels'] <= learnt
    assert pool.stats()['lost_connections'] == 1
    assert told() == [warning]
    assert len(caplog.records) == 1
