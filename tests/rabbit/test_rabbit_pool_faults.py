"""Pool when things go wrong: lost, refused and half-dead connections, its end, another thread, secrets."""

from __future__ import annotations

import logging
import socket

import broker_tools
import greenlets
import pytest
from pool_tools import lease_once

import gamqp


@pytest.fixture
def nobody():
    """The port of a host that refuses connections."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))  # and does not listen
        yield sock.getsockname()[1]


# -- lost connections ------------------------------------------------------------------


@pytest.mark.parametrize('reset', [True, False])
def test_a_connection_that_was_lost_while_idle_is_replaced(make, proxy, reset):
    pool = make(1, 5)
    with pool.channel() as one, pool.channel():
        pass
    proxy.cut(reset)
    greenlets.wait_until(lambda: not one.connection or not one.connection.is_alive())
    assert lease_once(pool) is not one
    stats = pool.stats()
    assert (stats['lost_connections'], stats['connections'], stats['channels'], stats['replaced']) == (1, 1, 1, 2)


def test_one_that_has_heard_nothing_for_too_long_is_not_handed_out(make, proxy):
    pool = make(1, 1, heartbeat=1)
    connection = lease_once(pool).connection
    proxy.down.pause()
    greenlets.wait_until(lambda: not connection.is_alive())
    proxy.down.resume()
    if lease_once(pool).connection is connection:
        assert connection.is_alive()  # on a slow machine the broker is heard before anybody asks
    else:
        greenlets.wait_until(lambda: not connection.connected)


def test_those_who_wait_get_a_channel_of_the_next_connection(make, proxy):
    pool = make(1, 2)
    with pool.channel() as mine:
        with pytest.raises(gamqp.ConnectionError), pool.channel() as other:
            waiters = [greenlets.spawn(lease_once, pool) for _ in range(10)]
            greenlets.wait_until(lambda: pool.stats()['waiting'] == 10)
            proxy.cut()
            other.queue_declare(exclusive=True)
        channels = [waiter.get() for waiter in waiters]
        assert mine not in channels
        assert pool.stats()['leased'] == 1  # of the old connection
    stats = pool.stats()
    assert (stats['leased'], stats['lost_connections'], stats['connections'], stats['replaced']) == (0, 1, 1, 2)
    assert len(proxy.streams) == 2


def test_whoever_comes_next_finds_out_for_all_who_wait(make, proxy):
    """The one who has the only channel is busy with something else and notices nothing."""
    pool = make(1, 1)
    with pool.channel() as mine:
        waiter = greenlets.spawn(lease_once, pool)
        greenlets.wait_until(lambda: pool.stats()['waiting'] == 1)
        connection = mine.connection
        proxy.cut()
        greenlets.wait_until(lambda: not connection.is_alive())
        lease_once(pool)
        waiter.get()


# -- openings that fail ------------------------------------------------------------------


def test_who_waits_gets_the_last_error_at_its_deadline(make, nobody):
    pool = make(2, 10, url=f'amqp://guest:secret@127.0.0.1:{nobody}')
    while not isinstance(broker_tools.raised(lease_once, pool, 0.1), ConnectionRefusedError):
        pass  # until the first attempt has failed
    errors = [broker_tools.raised(task) for task in [greenlets.spawn(lease_once, pool, 0.1) for _ in range(50)]]
    assert {type(error) for error in errors} == {ConnectionRefusedError}
    assert len(set(map(id, errors))) == 50
    greenlets.wait_until(lambda: not pool.stats()['opening'])  # one more attempt may be under way
    stats = pool.stats()
    assert (stats['waiting'], stats['leased']) == (0, 0)
    assert stats['timeouts'] == stats['waits'] > 50


def test_who_waits_has_a_channel_when_the_broker_is_back(make, rabbit, nobody):
    ports = [nobody, nobody, rabbit.node.port]
    asked = []

    def connect():
        asked.append(ports.pop(0))
        return gamqp.Connection(f'127.0.0.1:{asked[-1]}', virtual_host=rabbit.vhost)

    pool = make(url=connect)
    tasks = [greenlets.spawn(lease_once, pool) for _ in range(5)]
    assert all(task.get().is_open for task in tasks)
    assert len(asked) == 3


def test_where_one_connection_works_nobody_is_told_of_the_other(make, rabbit, caplog):
    opened = []

    def connect():
        opened.append(None)
        if len(opened) != 1:
            raise ConnectionRefusedError('no second one')
        return rabbit.connect()

    pool = make(2, 1, url=connect)
    with pool.channel():
        waiters = [greenlets.spawn(lease_once, pool) for _ in range(20)]
        with pytest.raises(TimeoutError) as raised, caplog.at_level(logging.WARNING, 'gamqp.pool'):
            lease_once(pool, 0.05)
    for waiter in waiters:
        waiter.get()
    assert '1 of 2 connections, 1 of 2 channels leased, 21 waiting; the latest attempt' in str(raised.value)
    assert 'no second one' in str(raised.value)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert 'no second one' in caplog.text


def test_what_failed_is_tried_again_after_a_while(make, rabbit):
    opened = []

    def connect():
        opened.append(None)
        if len(opened) == 2:
            raise ConnectionRefusedError('not now')
        return rabbit.connect()

    pool = make(2, 1, url=connect)
    with pool.channel() as mine, pool.channel() as other:
        assert other.connection is not mine.connection
    assert len(opened) == 3


def test_a_channel_that_cannot_be_opened_reaches_who_asked(make, rabbit):
    opened = []

    def connect():
        opened.append(rabbit.connect(channel_max=1))
        opened[-1].channel()  # and that was it
        return opened[-1]

    pool = make(1, 1, url=connect)
    tasks = [greenlets.spawn(lease_once, pool) for _ in range(5)]
    for task in tasks:
        with pytest.raises(gamqp.ResourceError):
            task.get()
    assert len(opened) == 1


def test_an_error_that_cannot_be_copied_is_told_all_the_same(make):
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    def connect():
        raise Odd('strange', 2)

    with pytest.raises(gamqp.RecoverableConnectionError, match='strange'):
        lease_once(make(url=connect))


def test_open_and_unopened_connections_will_do(make, rabbit):
    for connect in (
        rabbit.connect,
        lambda: gamqp.Connection(f'127.0.0.1:{rabbit.node.port}', virtual_host=rabbit.vhost),
    ):
        pool = make(url=connect)
        assert lease_once(pool).is_open


def test_bad_arguments_are_refused_at_once():
    with pytest.raises(ValueError, match='begins with'):
        gamqp.Pool('http://host')
    with pytest.raises(ValueError, match=r'^connections: a whole number'):
        gamqp.Pool('amqp://host', 0, 5)
    with pytest.raises(ValueError, match=r'^channels_per_connection: a whole number'):
        gamqp.Pool('amqp://host', channels_per_connection=0)
    with pytest.raises(ValueError, match='url: items 1 and 2 are the same'):
        gamqp.Pool(['amqp://host', 'amqp://host'])
    with pytest.raises(ValueError, match='the list has no AMQP URI'):
        gamqp.Pool([])
    with pytest.raises(TypeError, match=r'^shuffle: '):
        gamqp.Pool('amqp://host', shuffle=3)
    with pytest.raises(ValueError, match=r'^heartbeat: '):
        gamqp.Pool(lambda: None, heartbeat=-5)


def test_a_callable_that_makes_connections_leaves_no_place_for_arguments(make):
    pool = make(url=gamqp.Connection, heartbeat=5)
    with pytest.raises(TypeError, match='a callable makes takes no heartbeat'):
        lease_once(pool, 5)


def test_what_a_callable_returns_that_is_neither_is_an_error(make):
    pool = make(url=lambda: None)
    with pytest.raises(gamqp.RecoverableConnectionError, match=r'cannot be used: url: .* not NoneType'):
        lease_once(pool, 0.2)


def test_nothing_tells_the_password(make, rabbit, nobody, caplog):
    """Neither the repr, nor an error, nor a log does; whether the broker refuses it or is not there."""
    caplog.set_level(logging.DEBUG)
    told = []
    for port in (rabbit.node.port, nobody):
        pool = make(2, 1, url=f'amqp://guest:s3cret%40@127.0.0.1:{port}/{rabbit.vhost}')
        told += [repr(pool), repr(broker_tools.raised(lease_once, pool, 0.1)), repr(pool)]
        told += [str(broker_tools.raised(lease_once, pool, 0.1)), str(pool.stats())]
    assert 's3cret' not in ''.join(told) + caplog.text


# -- the end ---------------------------------------------------------------------------


def test_close_waits_for_those_who_have_a_channel(make, proxy):
    pool = make(2, 2)
    done = []

    def work():
        with pool.channel() as channel:
            closing.append(channel)
            greenlets.wait_until(lambda: pool.stats()['waiting'] == 0 and 'closed' in repr(pool))
            channel.publish(b'x', routing_key='nowhere').wait()
            done.append(channel)

    closing = []
    tasks = [greenlets.spawn(work) for _ in range(4)]
    greenlets.wait_until(lambda: len(closing) == 4)
    waiters = [greenlets.spawn(lease_once, pool) for _ in range(3)]
    greenlets.wait_until(lambda: pool.stats()['waiting'] == 3)
    pool.close()
    assert len(done) == 4
    for task in tasks:
        task.get()
    for call in (*waiters, greenlets.spawn(lease_once, pool)):
        with pytest.raises(gamqp.RecoverableConnectionError, match='the pool is closed'):
            call.get()
    assert not any(channel.is_open for channel in done)
    assert all(stream.whole for stream in proxy.streams)
    pool.close()


def test_a_second_close_does_not_cut_the_first_short(make, proxy):
    pool = make(1, 2)
    with pool.channel() as channel:
        connection = channel.connection
    proxy.down.pause()  # no close-ok
    first = greenlets.spawn(pool.close)
    greenlets.wait_until(lambda: not connection.connected)
    pool.close(timeout=0.1)
    assert not first.done
    assert connection.sock is not None
    second = greenlets.spawn(pool.close)
    proxy.down.resume()
    first.get()
    second.get()
    assert connection.sock is None
    pool.close()


def test_close_waits_no_longer_than_told(make):
    pool = make(1, 1)
    with pool.channel() as channel:
        pool.close(timeout=0.05)
        with pytest.raises(gamqp.RecoverableConnectionError, match='closed by this program'):
            channel.queue_declare(exclusive=True)
    assert pool.stats()['leased'] == 0


def test_close_ends_what_is_being_opened(make, proxy):
    proxy.down.pause()
    pool = make(1, 1)
    before = len(greenlets.living_greenlets())
    waiter = greenlets.spawn(lease_once, pool)
    greenlets.wait_until(lambda: proxy.up.bytes)
    pool.close()
    with pytest.raises(gamqp.RecoverableConnectionError, match='the pool is closed'):
        waiter.get()
    del waiter
    greenlets.wait_until(
        lambda: len(greenlets.living_greenlets()) <= before, what='nobody is left waiting for the broker'
    )
    proxy.down.resume()


def test_a_close_that_is_killed_has_closed_everything(make):
    pool = make(1, 1)
    with pool.channel() as channel:
        closing = greenlets.spawn(pool.close)
        greenlets.wait_until(lambda: 'closed' in repr(pool))
        closing.kill()
        greenlets.wait_until(lambda: closing.done)
        assert not channel.is_open


def test_leaving_the_block_of_a_pool_closes_it(rabbit):
    with gamqp.Pool(rabbit.url) as pool:
        channel = lease_once(pool)
    assert not channel.is_open
    with gamqp.Pool(rabbit.url):
        pass  # that has never been used


def test_a_pool_belongs_to_the_thread_that_uses_it_first(make):
    pool = make(1, 1)
    channel = lease_once(pool)
    for call in (lambda: lease_once(pool), pool.close):
        with pytest.raises(gamqp.exceptions.WrongThread, match='belongs to another thread'):
            broker_tools.in_thread(call)
    assert broker_tools.in_thread(pool.stats)['leases'] == 1
    lease = pool.channel()
    with lease:
        with pytest.raises(gamqp.exceptions.WrongThread):
            broker_tools.in_thread(lease.__exit__, None, None, None)
        assert pool.stats()['leased'] == 1
    assert lease_once(pool) is channel
