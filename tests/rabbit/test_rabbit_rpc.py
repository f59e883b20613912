"""RPC over real brokers: each caller gets its own reply or learns why not, and nothing that came late."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import inside
import pytest
from gated_handler import GatedHandler
from greenlet import GreenletExit
from proxy import Proxy

import gamqp
from gamqp import exceptions

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'rpc.py'


def test_a_thousand_greenlets_on_one_channel_each_get_their_own_reply(
    connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    rng = random.Random(52)

    def handler(message: Any) -> bytes:
        greenlets.sleep(rng.random() / 100)  # so that replies overtake each other
        return b'reply to ' + message.body

    with gamqp.RPCServer(connection, requests, handler, concurrency=100) as server:
        tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(1000)]
        for number, task in enumerate(tasks):
            assert task.get(30).body == b'reply to %d' % number
        greenlets.wait_until(lambda: server.consumer.acked == 1000)
    assert (rpc.calls, rpc.replies, rpc.late, rpc.unknown, rpc.timeouts, rpc.pending) == (1000, 1000, 0, 0, 0, 0)
    assert (server.replied, server.failed) == (1000, 0)
    assert len(rpc.channel.callbacks) == 1
    assert connection.stats()['undelivered_messages'] == 0


def test_text_messages_and_headers_travel_both_ways(
    connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    answers: dict[str, Any] = {
        'text': 'Grüße',
        'bytes': b'\x00\xff',
        'nothing': None,
        'message': gamqp.Message('{}', content_type='application/json', application_headers={'n': 1}),
    }
    with gamqp.RPCServer(connection, requests, lambda message: answers[message.headers['want']]):

        def ask(want: str) -> Any:
            return rpc.call('frage', requests, headers={'want': want})

        assert ask('text').body == 'Grüße'
        assert ask('bytes').body == b'\x00\xff'
        assert ask('nothing').body == b''
        reply = ask('message')
        assert (reply.body, reply.properties['content_type'], reply.headers) == ('{}', 'application/json', {'n': 1})
        assert rpc.call(gamqp.Message(b'', application_headers={'want': 'bytes'}), requests).body == b'\x00\xff'


def test_through_an_exchange(connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient) -> None:
    channel = connection.channel()
    exchange = broker_tools.fresh_name('ex')
    channel.exchange_declare(exchange, 'topic', durable=True, auto_delete=False)
    channel.queue_bind(requests, exchange, 'price.*')
    with gamqp.RPCServer(connection, requests, lambda message: message.delivery_info['routing_key']):
        assert rpc.call(b'', 'price.tea', exchange).body == 'price.tea'
        with pytest.raises(exceptions.Returned, match='NO_ROUTE'):
            rpc.call(b'', 'cost.tea', exchange)


# -- calls that get no reply ---------------------------------------------------------------


def test_what_no_queue_takes_is_known_at_once_and_to_its_caller_only(
    connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    with gamqp.RPCServer(connection, requests, lambda message: message.body):
        keys = [requests if number % 2 else 'no such queue' for number in range(100)]
        tasks = [greenlets.spawn(rpc.call, b'%d' % number, key) for number, key in enumerate(keys)]
        for number, task in enumerate(tasks):
            if number % 2:
                assert task.get().body == b'%d' % number
            else:  # not TimeoutError, and not after it
                error = broker_tools.raised(task)
                assert isinstance(error, exceptions.Returned)
                assert error.returned.body == b'%d' % number
    assert (rpc.returned, rpc.replies, rpc.timeouts) == (50, 50, 0)


@pytest.mark.parametrize('confirming', [False, True])
def test_returns_of_calls_and_of_publishes_on_one_channel_are_told_apart(
    connection: gamqp.Connection, channel: gamqp.Channel, requests: str, confirming: bool
) -> None:
    told: list[Any] = []
    channel.events['basic_return'].add(lambda error, exchange, key, message: told.append(message.body))
    if confirming:
        channel.confirm_select()
    rpc = gamqp.RPCClient(channel)
    calls = [greenlets.spawn(rpc.call, b'call', 'nowhere') for _ in range(10)]
    for _ in range(10):
        channel.basic_publish(gamqp.Message(b'publish'), '', 'nowhere', mandatory=True)
    for task in calls:
        assert isinstance(broker_tools.raised(task), exceptions.Returned)
    broker_tools.drain_until(connection, lambda: len(told) == 10)
    assert set(told) == {b'publish'}
    if confirming:
        assert channel.wait_for_confirms() is False  # they were returned
    rpc.close()


def test_a_late_reply_is_dropped_and_counted(connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient) -> None:
    gated = GatedHandler()
    with gamqp.RPCServer(connection, requests, gated, concurrency=3):
        impatient = greenlets.spawn(lambda: rpc.call(b'0', requests, timeout=0.3, expiration=None))
        killed = greenlets.spawn(rpc.call, b'1', requests)
        interrupted = greenlets.spawn(_interrupted_call, rpc, requests)
        greenlets.wait_until(lambda: len(gated.begun) == 3)
        killed.kill()
        for task, kind in ((impatient, TimeoutError), (killed, GreenletExit), (interrupted, broker_tools.Interrupted)):
            assert isinstance(broker_tools.raised(task), kind)
        assert rpc.pending == 0
        gated.open.set()
        greenlets.wait_until(lambda: rpc.late == 3)
        assert rpc.call(b'4', requests).body == b'4'
    assert (rpc.calls, rpc.replies, rpc.late, rpc.unknown, rpc.timeouts) == (4, 1, 3, 0, 1)


def _interrupted_call(rpc: gamqp.RPCClient, queue: str) -> None:
    with broker_tools.times_out(0.3):
        rpc.call(b'2', queue)


def test_a_request_expires_with_its_call(channel: gamqp.Channel, requests: str, rpc: gamqp.RPCClient) -> None:
    for expiration in ({}, {'expiration': None}):
        with pytest.raises(TimeoutError):
            rpc.call(b'%d' % len(expiration), requests, timeout=0.2, **expiration)
    broker_tools.wait_ready(channel, requests, 1)
    assert [message.body for message in broker_tools.get_all(channel, requests)] == [b'1']
    assert rpc.timeouts == 2


def test_a_timeout_of_years_is_one_that_the_broker_takes(
    connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    with gamqp.RPCServer(connection, requests, lambda message: b'here'):
        for timeout in (1e9, float('inf')):
            assert rpc.call(b'', requests, timeout=timeout).body == b'here'


def test_a_cut_connection_fails_a_hundred_pending_calls_at_once(rabbit: Any, requests: str) -> None:
    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit))
        rpc = gamqp.RPCClient(connection, timeout=50)
        tasks = [greenlets.spawn(rpc.call, b'', requests) for _ in range(100)]
        greenlets.wait_until(lambda: rpc.pending == 100)
        connection.channel()  # the broker has them
        proxy.cut()
        for task in tasks:  # the 100 of them long before their 50 s
            with pytest.raises(exceptions.RecoverableConnectionError):
                task.get(30)
        with pytest.raises(exceptions.RecoverableConnectionError):
            rpc.call(b'', requests)
        rpc.close()
        assert rpc.pending == 0


@pytest.mark.parametrize('own', [False, True])
def test_a_channel_error_fails_the_pending_calls_and_the_next_call_works(
    connection: gamqp.Connection, requests: str, own: bool
) -> None:
    rpc = gamqp.RPCClient(connection if own else connection.channel(), timeout=30)
    pending = [greenlets.spawn(rpc.call, b'nobody handles it', requests) for _ in range(10)]
    greenlets.wait_until(lambda: rpc.pending == 10)
    for _ in range(3):
        with pytest.raises(exceptions.NotFound, match='no exchange'):
            rpc.call(b'', 'key', 'no such exchange')
    for task in pending:
        assert isinstance(broker_tools.raised(task), exceptions.NotFound)
    with gamqp.RPCServer(connection, requests, lambda message: message.body):
        tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(100)]
        assert [task.get().body for task in tasks] == [b'%d' % number for number in range(100)]
    assert (rpc.late, rpc.unknown) == (0, 0)  # their consumer was gone
    rpc.close()


@pytest.mark.limit(120)
def test_a_storm_of_calls_that_end_in_every_way(rabbit: Any, connection: gamqp.Connection, requests: str) -> None:
    """Each call ends once, as it should; no reply is lost or goes astray, and nothing stays pending."""
    seed = 5200
    rng = random.Random(seed)
    channel = connection.channel()
    rpc = gamqp.RPCClient(channel, timeout=30)
    ends: dict[str, int] = {}
    begun: set[int] = set()  # a greenlet that is killed before has no end to tell of

    def handler(message: Any) -> bytes:
        greenlets.sleep(rng.random() / 50)
        if message.body[-1:] == b'7':
            raise ValueError(message.body.decode())
        return bytes(message.body)

    def call(number: int) -> str:
        begun.add(number)
        body = b'%d' % number
        key, exchange, timeout = requests, '', rng.choice([30, 30, 30, 0.02])
        if number % 10 == 3:
            key = 'nowhere'
        elif number % 100 == 50:
            exchange = 'no such exchange'
        try:
            assert rpc.call(body, key, exchange, timeout).body == body, f'seed {seed}'
            return 'replied'
        except gamqp.RPCError as error:
            assert error.text == body.decode(), f'seed {seed}'
        except exceptions.Returned as error:
            assert error.returned.body == body, f'seed {seed}'
            return 'returned'
        except exceptions.NotFound:
            return 'not found'
        except TimeoutError:
            assert timeout < 1, f'seed {seed}'
            return 'timeout'
        except GreenletExit:
            return 'killed'
        return 'failed'

    with gamqp.RPCServer(connection, requests, handler, concurrency=20):
        tasks = []
        for number in range(broker_tools.repeats(1000, 20_000)):
            tasks.append(greenlets.spawn(call, number))
            victim = max(0, number - rng.randrange(50))
            if rng.random() < 0.1 and victim in begun:
                tasks[victim].kill()
            if rng.random() < 0.2:
                greenlets.sleep(rng.random() / 50)
        for task in tasks:
            end = task.get(60)
            ends[end] = ends.get(end, 0) + 1
        assert set(ends) == {'replied', 'failed', 'returned', 'not found', 'timeout', 'killed'}, f'seed {seed}: {ends}'
        assert rpc.pending == 0
        assert rpc.unknown == 0
        assert rpc.replies >= ends['replied'] + ends['failed']
        assert rpc.timeouts == ends['timeout']
    rpc.close()
    assert channel.is_open
    assert channel.returned_messages.empty()


# -- one channel for several things -------------------------------------------------------


def test_close_makes_room_for_another_client(connection: gamqp.Connection, requests: str) -> None:
    channel = connection.channel()
    with gamqp.RPCServer(channel, requests, lambda message: message.body):
        first = gamqp.RPCClient(channel)
        assert first.call(b'1', requests).body == b'1'
        second = gamqp.RPCClient(channel)
        with pytest.raises(RuntimeError, match='another RPCClient'):
            second.call(b'', requests)
        first.close()
        assert second.call(b'2', requests).body == b'2'
        with pytest.raises(exceptions.RecoverableConnectionError):
            first.call(b'', requests)
        second.close()
    assert channel.is_open
    assert not channel.callbacks


def test_a_call_inside_a_handler(connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient) -> None:
    other = connection.channel().queue_declare(exclusive=True, auto_delete=False).queue
    with (
        gamqp.RPCServer(connection, other, lambda message: message.body * 2),
        gamqp.RPCServer(connection, requests, lambda message: rpc.call(message.body, other), concurrency=10),
    ):
        tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(100)]
        assert [task.get().body for task in tasks] == [b'%d' % number * 2 for number in range(100)]


def test_replies_pass_a_spent_budget(rabbit: Any, connection: gamqp.Connection, requests: str) -> None:
    """What nobody drains must not keep replies from those who wait for them."""
    with rabbit.connect(max_undelivered_messages=5) as full:
        channel = full.channel()
        flood = channel.queue_declare(exclusive=True, auto_delete=False).queue
        channel.basic_consume(flood, no_ack=True, callback=print)
        with gamqp.RPCServer(connection, requests, lambda message: message.body), gamqp.RPCClient(full) as rpc:
            for _ in range(1000):
                channel.basic_publish(gamqp.Message(b'x' * 1000), '', flood)
            greenlets.wait_until(lambda: not inside.reads(full), what='it stops reading')
            tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(100)]
            assert [task.get().body for task in tasks] == [b'%d' % number for number in range(100)]


def test_on_a_connection_whose_publishes_wait_for_confirms(rabbit: Any, requests: str, channel: gamqp.Channel) -> None:
    with rabbit.connect(confirm_publish=True) as connection:
        shared = connection.channel()
        shared.basic_publish(gamqp.Message(b'confirmed'), '', 'nowhere')
        with gamqp.RPCServer(channel, requests, lambda message: message.body), gamqp.RPCClient(shared) as rpc:
            tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(100)]
            assert [task.get().body for task in tasks] == [b'%d' % number for number in range(100)]
            assert shared.wait_for_confirms()


def test_drain_lets_handlers_and_callers_have_their_replies(
    rabbit: Any, connection: gamqp.Connection, requests: str
) -> None:
    gated = GatedHandler()
    with gamqp.RPCServer(connection, requests, gated, concurrency=10), rabbit.connect() as draining:
        mine = draining.channel().queue_declare(exclusive=True, auto_delete=False).queue
        rpc = gamqp.RPCClient(draining)
        late = gamqp.RPCClient(draining)

        def handler(message: Any) -> bytes:
            first = rpc.call(b'first', requests).body  # begun before the drain
            return bytes(first + late.call(b'second', requests).body)  # begun in it

        gamqp.RPCServer(draining, mine, handler)
        with gamqp.RPCClient(connection) as outside:
            task = greenlets.spawn(outside.call, b'', mine)
            greenlets.wait_until(lambda: gated.begun)
            drained = greenlets.spawn(draining.drain, 30)
            greenlets.wait_until(lambda: inside.unfinished_handlers(draining).draining)
            gated.open.set()
            assert drained.get(30) is True
            assert task.get().body == b'firstsecond'
        assert not draining.connected


@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the example is written for gevent')
def test_the_example_prints_what_it_promises(rabbit: Any) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env={**os.environ, 'AMQP_URL': rabbit.url, 'PYTHONPATH': str(Path(gamqp.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line)
    assert rows['replies'].startswith('1,000')
    assert rows['mixed-up'].startswith('0')
    assert 'ZeroDivisionError' in rows['failed']
    assert 'Returned' in rows['nowhere']
    assert 'TimeoutError' in rows['slow']
