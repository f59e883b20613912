"""Pool: channels leased one at a time, opened when needed, handed out in order, whoever is killed meanwhile."""

from __future__ import annotations

import json
import random

import broker_tools
import greenlets
import pytest
from pool_tools import end, held, hold

import gamqp

# -- leasing ---------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_needed(make, proxy):
    pool = make(2, 10)
    assert not proxy.streams
    with pool.channel() as channel:
        assert channel.is_open
        assert (pool.stats()['connections'], pool.stats()['channels'], pool.stats()['leased']) == (1, 1, 1)
    for _ in range(20):
        with pool.channel() as again:
            assert again is channel
    assert (pool.stats()['connections'], pool.stats()['channels'], pool.stats()['leased']) == (1, 1, 0)
    assert pool.stats()['leases'] == 21


def test_a_free_channel_costs_no_byte_and_no_switch(make, proxy):
    pool = make()
    with pool.channel() as channel:
        channel.queue_declare(exclusive=True)  # everything before is sent
    sent = proxy.up.bytes
    others = greenlets.spawn(lambda: None)
    for _ in range(100):
        with pool.channel():
            pass
    assert not others.done
    others.get()
    assert proxy.up.bytes == sent


def test_nobody_shares_a_channel(make):
    pool = make(2, 5)
    tasks = held(pool, 10)
    assert len({id(channel) for channel in end(tasks)}) == 10
    assert pool.stats()['idle'] == 10


def test_channels_are_spread_over_the_connections(make, proxy):
    pool = make(3, 4)
    for _ in range(2):
        channels = end(held(pool, 6))
        connections = [channel.connection for channel in channels]
        assert sorted(map(connections.count, set(connections))) == [2, 2, 2]
    assert len(proxy.streams) == 3


def test_five_hundred_are_served_in_order_by_two_channels(make, proxy, rabbit):
    """They open exactly two connections; nobody is passed over, and nobody waits longer than all together took."""
    pool = make(2, 1, timeout=50)
    with rabbit.connect() as connection:
        queue = broker_tools.shared_queue(connection.channel())
        served = []

        def work(number):
            with pool.channel() as channel:
                served.append(number)
                channel.publish(b'%d' % number, routing_key=queue).wait()

        with greens_elapsed() as elapsed:
            tasks = [greenlets.spawn(work, number) for number in range(500)]
            for task in tasks:
                task.get(50)
        assert served == list(range(500))
        stats = pool.stats()
        assert (stats['connections'], stats['channels'], len(proxy.streams)) == (2, 2, 2)
        assert (stats['leases'], stats['waits'], stats['timeouts'], stats['replaced']) == (500, 500, 0, 0)
        assert 0 < stats['max_wait_seconds'] <= elapsed.seconds
        assert stats['max_wait_seconds'] <= stats['wait_seconds']
        channel = connection.channel()
        got = sorted(int(bytes(message.body)) for message in broker_tools.get_all(channel, queue))
        channel.queue_delete(queue)
        assert got == list(range(500))


class greens_elapsed:
    """Seconds that the block took."""

    def __enter__(self):
        self._deadline = gamqp.green.Deadline(1000)
        return self

    def __exit__(self, *exc_info):
        self.seconds = 1000 - self._deadline.left()


def test_a_crowd_at_the_start_opens_what_it_needs_and_no_more(make, proxy):
    pool = make(2, 250)
    tasks = [hold(pool) for _ in range(500)]
    greenlets.wait_until(lambda: pool.stats()['leased'] == 500, timeout=40)
    assert len(proxy.streams) == 2
    assert pool.stats()['channels'] == 500
    end(tasks)


def test_nobody_gets_past_those_who_wait(make):
    pool = make(1, 1)
    order = []
    (first,) = held(pool)
    waiters = []
    for name in 'abc':

        def wait(name=name):
            with pool.channel():
                order.append(name)

        waiters.append(greenlets.spawn(wait))
        greenlets.wait_until(lambda: pool.stats()['waiting'] == len(waiters))
    first.go()
    while len(order) < 3:
        # A newcomer in every pass of the hub, who would be glad to get past them.
        with pytest.raises(TimeoutError), pool.channel(timeout=0):
            order.append('newcomer')
            raise TimeoutError
        greenlets.sleep(0)
    assert order[:3] == ['a', 'b', 'c']
    for waiter in [first, *waiters]:
        waiter.get()


def test_the_limits_of_the_connection_count_too(make, caplog):
    pool = make(2, 100, channel_max=3)
    tasks = held(pool, 6)
    with pytest.raises(TimeoutError, match='2 of 2 connections, 6 of 200 channels leased'):
        pool.channel(timeout=0.05).__enter__()
    assert not caplog.records  # it did not have to try
    end(tasks)


def test_its_statistics_and_its_repr_tell_its_state(make, rabbit):
    pool = make(2, 3)
    assert 'open: 0 of 2 connections, 0 of 6 channels leased, 0 waiting' in repr(pool)
    tasks = held(pool, 2)
    assert '2 of 2 connections, 2 of 6 channels leased' in repr(pool)
    assert f'127.0.0.1:{pool_port(pool)} vhost {rabbit.vhost!r}' in repr(pool)
    assert json.loads(json.dumps(pool.stats())) == pool.stats()
    end(tasks)
    pool.close()
    assert 'closed: 0 of 2 connections, 0 of 6 channels leased' in repr(pool)


def pool_port(pool):
    return repr(pool).split(':')[1].split()[0]


# -- waiting and being interrupted -----------------------------------------------------


def test_waiting_ends_with_the_counts(make, rabbit):
    pool = make(1, 2)
    tasks = held(pool, 2)
    with pytest.raises(TimeoutError) as raised, pool.channel(timeout=0.05):
        pass
    assert str(raised.value) == (
        f'no channel was free within 0.05 s; {repr(pool)[6:].split()[0]} vhost {rabbit.vhost!r} '
        'open: 1 of 1 connections, 2 of 2 channels leased, 1 waiting'
    )
    assert (pool.stats()['timeouts'], pool.stats()['waiting']) == (1, 0)
    end(tasks)
    assert 0 < make().timeout < 60


def test_who_is_killed_while_waiting_takes_nothing_along(make):
    pool = make(1, 1)
    (first,) = held(pool)
    killed, next_one = hold(pool), hold(pool)
    greenlets.wait_until(lambda: pool.stats()['waiting'] == 2)
    killed.kill()
    greenlets.wait_until(lambda: killed.done)
    assert pool.stats()['waiting'] == 1
    channel = end([first])[0]
    assert end([next_one]) == [channel]


def test_who_is_killed_when_it_has_been_served_passes_it_on(make):
    pool = make(1, 1)
    with pool.channel() as channel:
        killed, next_one = hold(pool), hold(pool)
        greenlets.wait_until(lambda: pool.stats()['waiting'] == 2)
        killed.kill()  # in the next pass of the hub, when the end of this block has given it the channel
    assert pool.stats()['waiting'] == 1
    assert end([next_one]) == [channel]
    assert killed.done
    assert pool.stats()['leased'] == 0


def test_who_is_killed_while_a_connection_is_opened_leaves_it_to_the_next(make, proxy):
    proxy.down.pause()
    pool = make(1, 1)
    killed = hold(pool)
    greenlets.wait_until(lambda: proxy.up.bytes)
    killed.kill()
    greenlets.wait_until(lambda: killed.done)
    next_one = hold(pool)
    proxy.down.resume()
    next_one.go()
    assert next_one.get().is_open
    assert (pool.stats()['leased'], len(proxy.streams)) == (0, 1)


def test_who_is_killed_inside_the_block_gives_it_back(make):
    pool = make(1, 1)
    (killed,) = held(pool)
    killed.kill()
    greenlets.wait_until(lambda: killed.done)
    with pool.channel():
        assert pool.stats()['replaced'] == 0


def test_any_greenlet_may_end_a_block(make):
    pool = make(1, 1)
    lease = pool.channel()
    lease.__enter__()
    with pytest.raises(RuntimeError, match='begun already'):
        lease.__enter__()
    greenlets.spawn(lease.__exit__, None, None, None).get()
    lease.__exit__(None, None, None)  # once is enough
    assert pool.stats()['leased'] == 0
    with lease as channel:
        assert channel.is_open


@pytest.mark.limit(120)
def test_nothing_leaks_in_a_storm_of_kills(make, rabbit, proxy):
    seed = random.randrange(2**32)
    print(f'seed {seed}')
    rng = random.Random(seed)
    pool = make(2, 3)

    def work():
        try:
            with pool.channel(timeout=rng.choice([0.001, 0.02, 20])) as channel:
                act = rng.randrange(5)
                if act == 0:
                    channel.publish(b'x', routing_key='nowhere').wait()
                elif act == 1:
                    channel.publish(b'x', routing_key='nowhere')
                elif act == 2:
                    channel.queue_declare(exclusive=True)
                elif act == 3:
                    with pytest.raises(gamqp.NotFound):
                        channel.queue_declare('not there', passive=True)
                else:
                    greenlets.sleep(0.001)
        except TimeoutError:
            pass

    workers = []
    for _ in range(broker_tools.repeats(300, 3000)):
        workers.append(greenlets.spawn(work))
        if rng.random() < 0.5:
            greenlets.backend.call_later(rng.random() * 0.05, workers[-1].kill)
        if rng.random() < 0.2:
            greenlets.sleep(rng.random() * 0.02)
    greenlets.wait_until(lambda: all(worker.greenlet.dead for worker in workers), timeout=60)  # some never began
    workers.clear()
    greenlets.wait_until(lambda: pool.stats()['opening'] == 0)
    greenlets.wait_until(lambda: pool.stats()['leased'] == 0, what='what was sent is answered')
    assert pool.stats()['waiting'] == 0
    tasks = held(pool, 6)  # all of them can be had
    assert len(proxy.streams) == 2
    connections = {channel.connection for channel in end(tasks)}
    greenlets.wait_until(lambda: [len(one.channels) for one in connections] == [3, 3], what='no channel is left over')
