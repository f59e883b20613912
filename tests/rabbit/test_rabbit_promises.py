"""What users of AMQP clients suffer from, row by row, against real brokers: connections, deadlines, settling.

Each test is a promise that no other file of this folder tests; see also the other test_rabbit_*_rows.py.
"""

from __future__ import annotations

import os
import pickle
import random
import socket
import time
import warnings
from typing import Any
from urllib.parse import quote

import broker_tools
import greenlets
import pytest
from proxy import Proxy

import gamqp
from gamqp import exceptions

TOLERANCE = 20  # seconds by which a busy machine may be late


# -- frames of many publishers ---------------------------------------------------------------------------


def test_a_hundred_publishers_of_any_size_on_one_channel_do_not_mix(rabbit, proxy):
    """The proxy's parser sees whole frames in order; each message arrives with its own headers and body."""
    draw = random.Random(20260401)
    with gamqp.connect(proxy.url(rabbit)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        sent = {}
        for number in range(100):
            size = draw.choice([0, 1, 100, 8000, 131064, 131065, 400_000]) if number else 1_000_000
            headers = {'n': number, 'nested': {'list': [number, {'deep': [None, True, 'x' * (number % 50)]}]}}
            sent[str(number)] = (headers, draw.randbytes(size))
        tasks = [
            greenlets.spawn(publish_one, channel, queue, number, headers, body)
            for number, (headers, body) in sent.items()
        ]
        for task in tasks:
            task.get(30)
        got = {
            one.properties['message_id']: (one.headers, bytes(one.body)) for one in broker_tools.get_all(channel, queue)
        }
        assert got == sent
        assert proxy.stream.whole


def publish_one(channel, queue, number, headers, body):
    message = gamqp.Message(body, message_id=number, application_headers=headers)
    channel.basic_publish_confirm(message, '', queue)


@pytest.mark.parametrize('frame_max', [8192, 131072])
def test_bodies_are_cut_exactly_at_frame_max(rabbit, frame_max):
    """As many frames as it takes, and none more."""
    room = frame_max - 8
    with Proxy(rabbit.node.port) as proxy, gamqp.connect(proxy.url(rabbit), frame_max=frame_max) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        for size in (0, 1, room - 1, room, room + 1, 2 * room, 2 * room + 1):
            before = proxy.stream.frames - proxy.stream.heartbeats
            channel.basic_publish(gamqp.Message(bytes(size)), '', queue)
            assert channel.basic_get(queue, no_ack=True).body_size == size
            # publish, header, the body, and the get
            assert proxy.stream.frames - proxy.stream.heartbeats - before == 3 + -(-size // room), size


# -- limits that this version of the broker has -----------------------------------------------------------


def test_a_frame_max_that_the_broker_would_hang_up_on_is_refused_at_once(rabbit):
    version = tuple(int(part) for part in rabbit.version.split('.')[:2])
    if version < (4, 1):
        with rabbit.connect(frame_max=4096) as connection:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
            broker_tools.publish_all(channel, queue, [bytes(10_000)])
            assert channel.basic_get(queue, no_ack=True).body_size == 10_000
        return
    started = time.monotonic()
    with pytest.raises(exceptions.NotAllowed, match='frame_max 4096 is below the minimum of 8192'):
        rabbit.connect(frame_max=4096)
    assert time.monotonic() - started < TOLERANCE  # the broker's own answer, a bare close, takes three


@pytest.mark.parametrize('size', [3000, 4000, 6000, 7500, 9000])
def test_a_long_token_is_refused_by_the_broker_or_named_by_us_and_never_a_bare_close(rabbit, size):
    refusals = exceptions.AccessRefused, exceptions.EncodeError, exceptions.RecoverableConnectionError
    started = time.monotonic()
    with pytest.raises(refusals) as caught:
        rabbit.connect(password='t0ken' * (size // 5))
    assert time.monotonic() - started < TOLERANCE
    if not isinstance(caught.value, exceptions.AccessRefused):
        assert 'the password or token' in str(caught.value)
    assert 't0ken' not in str(caught.value) + repr(caught.value)


# -- deadlines --------------------------------------------------------------------------------------------


@pytest.mark.any_broker
def test_a_broker_that_stops_anywhere_in_the_handshake_is_a_timeout(rabbit, proxy):
    with gamqp.connect(proxy.url(rabbit), heartbeat=0) as connection:
        total = proxy.down.bytes
        assert connection.connected
    for count in sorted({0, 1, 7, 8, total - 14, total - 1, *range(20, total, total // 5)}):
        proxy.down.resume()
        proxy.down.pause_after(count)
        connection = gamqp.Connection(
            f'127.0.0.1:{proxy.port}', virtual_host=rabbit.vhost, connect_timeout=0.5, heartbeat=0
        )
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r'within 0\.5 s'):
            connection.connect()
        assert 0.49 < time.monotonic() - started < 0.5 + TOLERANCE, count
        assert not connection.connected and connection.sock is None
        proxy.cut()
        greenlets.wait_until(lambda: not proxy.connections)


def test_drain_events_returns_in_time_although_heartbeats_come(rabbit):
    with rabbit.connect(heartbeat=1) as connection:
        heard = {connection.last_heartbeat_received}
        watching = greenlets.spawn(note_for_ever, connection, heard)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=2)
        took = time.monotonic() - started
        watching.kill()
        assert 1.99 < took < 2 + TOLERANCE, took
        assert len(heard) > 1, 'no heartbeat came in two seconds'


def note_for_ever(connection, heard):
    while True:
        heard.add(connection.last_heartbeat_received)
        greenlets.sleep(0.05)


def test_read_timeout_ends_a_connection_on_which_somebody_waits_in_vain(rabbit, proxy):
    with gamqp.connect(proxy.url(rabbit), read_timeout=1, heartbeat=0) as connection:
        channel = connection.channel()
        assert channel.queue_declare(exclusive=True).queue
        greenlets.sleep(1.3)  # idle, and nobody waits: that is no timeout
        assert connection.connected
        proxy.down.pause()
        waiting = greenlets.spawn(connection.drain_events)
        started = time.monotonic()
        with pytest.raises(exceptions.RecoverableConnectionError, match=r'read timeout.* 1 s'):
            channel.queue_declare(exclusive=True)
        assert 0.9 < time.monotonic() - started < 1 + TOLERANCE
        assert 'read timeout' in str(broker_tools.raised(waiting))
        assert not connection.connected


# -- is anybody there? ------------------------------------------------------------------------------------


@pytest.mark.any_broker
def test_ticking_does_no_harm_and_finds_a_silent_broker(rabbit, proxy):
    connection = gamqp.connect(proxy.url(rabbit), heartbeat=1)
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        connection.heartbeat_tick(rate=2)
        assert connection.is_alive()
        greenlets.sleep(0.05)
    connection.send_heartbeat()
    proxy.down.pause()
    started = time.monotonic()
    with pytest.raises(exceptions.ConnectionForced):
        while time.monotonic() - started < greenlets.PATIENCE:
            connection.heartbeat_tick()
            greenlets.sleep(0.05)
    assert time.monotonic() - started > 1
    assert not connection.is_alive() and not connection.connected
    connection.close()


def test_is_alive_tells_a_broken_connection(rabbit, proxy):
    connection = gamqp.Connection(f'127.0.0.1:{proxy.port}', virtual_host=rabbit.vhost)
    assert not connection.is_alive() and 'new' in repr(connection)
    connection.connect()
    assert connection.is_alive() and 'open' in repr(connection)
    assert connection.server_capabilities['basic.nack'] is True
    proxy.cut()
    greenlets.wait_until(lambda: not connection.is_alive())
    greenlets.wait_until(lambda: not connection.connected)
    connection.connect()
    assert connection.is_alive()
    connection.collect()
    assert not connection.is_alive() and connection.sock is None
    greenlets.wait_until(lambda: not proxy.connections, what='the broker has seen it go')


def test_a_connection_that_sleeps_in_a_callback_misses_no_heartbeat_in_the_brokers_log(rabbit):
    log = rabbit.node.log_file
    if log is None or not log.exists():
        pytest.skip('the log of this broker is not ours to read')
    with rabbit.connect(heartbeat=1) as connection:
        port = connection.sock.getsockname()[1]
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        channel.basic_consume(queue, callback=lambda message: greenlets.sleep(broker_tools.repeats(3, 30)), no_ack=True)
        channel.basic_publish(gamqp.Message(b'x'), '', queue)
        connection.drain_events(timeout=30)
        assert channel.queue_declare(queue, passive=True).queue == queue
    lines = [line for line in log.read_text(errors='replace').splitlines() if f'127.0.0.1:{port} ' in line]
    assert lines, 'the broker has not logged this connection'
    assert not [line for line in lines if 'heartbeat' in line or 'unexpectedly' in line]


def test_the_kernel_decides_nothing_about_a_slow_peer_unless_asked_to(rabbit):
    """py-amqp's TCP_USER_TIMEOUT of a second ends connections whose broker pauses reading."""
    option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    with rabbit.connect() as connection:
        assert connection.sock.getsockopt(*option) == 0
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with rabbit.connect(socket_settings={socket.TCP_USER_TIMEOUT: 30_000}) as connection:
        assert connection.sock.getsockopt(*option) == 30_000


# -- which connection is which ----------------------------------------------------------------------------


def test_the_operator_finds_a_connection_by_its_name(rabbit):
    if not rabbit.managed:
        pytest.skip('the broker is not ours')
    wanted = {'orders-7', 'older way', f':{os.getpid()}:'}

    def named():
        names = str([one.get('user_provided_name') for one in rabbit.node.connections(rabbit.vhost)])
        return all(name in names for name in wanted)

    older = {'client_properties': {'connection_name': 'older way'}}
    with rabbit.connect(name='orders-7'), rabbit.connect(**older), rabbit.connect():
        # What `rabbitmqctl list_connections client_properties` prints.
        listed = 'rabbit_networking:connection_info_all([vhost, client_properties])'
        ours = broker_tools.in_thread(rabbit.node.eval, f'lists:flatten(io_lib:format("~0tp", [{listed}])).')
        assert {name for name in wanted if name in ours} == wanted, ours
        greenlets.wait_until(named, what='the names in the management API')


# -- virtual hosts and URLs --------------------------------------------------------------------------------


def test_a_url_with_everything_escaped(rabbit):
    if not rabbit.managed:
        pytest.skip('the broker is not ours')
    vhost, user, password = f'{rabbit.vhost}/ä%2f b', 'us@er:ü', 'p/w?#&%'
    node = rabbit.node
    node.add_vhost(vhost)
    name = quote(user, safe='')
    node.api(f'users/{name}', 'PUT', {'password': password, 'tags': ''})
    rights = {'configure': '.*', 'write': '.*', 'read': '.*'}
    node.api(f'permissions/{quote(vhost, safe="")}/{name}', 'PUT', rights)
    try:
        address = f'127.0.0.1:{node.port}/{quote(vhost, safe="")}'
        options = 'heartbeat=7&channel_max=9&frame_max=8192&connection_timeout=5000&auth_mechanism=amqplain&name=me'
        url = f'amqp://{name}:{quote(password, safe="")}@{address}?{options}'
        with gamqp.connect(url) as connection:
            assert connection.virtual_host == vhost
            agreed = (connection.heartbeat, connection.channel_max, connection.frame_max, connection.connect_timeout)
            assert agreed == (7, 9, 8192, 5)
            assert connection.channel().queue_declare(exclusive=True).queue
            assert password not in repr(connection) + repr(vars(connection))
        with pytest.raises(exceptions.AccessRefused) as caught:
            gamqp.connect(url.replace('%26', 'wrong'))
        assert 'p/w' not in str(caught.value) + repr(caught.value)
    finally:
        node.api(f'users/{name}', 'DELETE')
        node.delete_vhost(vhost)


def test_an_absent_virtual_host_is_the_usual_one_and_an_empty_one_is_empty(rabbit):
    address = f'amqp://guest:guest@127.0.0.1:{rabbit.node.port}'
    with gamqp.connect(address) as connection:
        assert connection.virtual_host == '/'
    with pytest.raises(exceptions.NotAllowed, match=r'vhost .*not found') as caught:
        gamqp.connect(f'{address}/')
    assert caught.value.reply_code == 530


# -- errors -----------------------------------------------------------------------------------------------


def test_a_delivery_tag_that_is_unknown_has_a_hint(connection, channel, queue):
    broker_tools.publish_all(channel, queue, [b'x'])
    message = channel.basic_get(queue)
    message.ack()
    message.ack()
    with pytest.raises(exceptions.PreconditionFailed, match='unknown delivery tag 1') as caught:
        connection.drain_events(timeout=30)
    error = caught.value
    assert 'settled twice' in error.hint and error.hint in str(error)
    assert 'settled twice' not in error.reply_text, "the broker's own words stay as they are"
    assert (error.reply_code, error.method_sig, error.method_name) == (406, (60, 80), 'Basic.ack')
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.method_sig) == (type(error), str(error), (60, 80))


def test_publish_to_a_missing_exchange_is_told_by_the_next_call(connection, channel, queue):
    other = connection.channel()
    channel.basic_publish(gamqp.Message(b'x'), 'nowhere', 'key')
    started = time.monotonic()
    with pytest.raises(exceptions.NotFound, match="no exchange 'nowhere'") as caught:
        channel.queue_declare(queue, passive=True)  # asked behind it: one round-trip
    assert time.monotonic() - started < TOLERANCE
    assert caught.value.method_name == 'Basic.publish'
    assert channel.queue_declare(queue, passive=True).queue == queue
    for _ in range(2):  # with a confirm it is told each time
        with pytest.raises(exceptions.NotFound, match="no exchange 'nowhere'"):
            channel.basic_publish_confirm(gamqp.Message(b'x'), 'nowhere', 'key')
    assert other.queue_declare(queue, passive=True).queue == queue


def test_confirm_mode_is_gone_after_an_error_and_comes_back_by_itself(connection, channel, queue):
    acked: list[Any] = []
    channel.confirm_select()
    channel.basic_publish_confirm(gamqp.Message(b'1'), '', queue)
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare('no such queue', passive=True)
    channel.events['basic_ack'].add(lambda *args: acked.append(args))
    channel.basic_publish(gamqp.Message(b'2'), '', queue)
    broker_tools.wait_ready(channel, queue, 2)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    assert not acked, 'the broker still confirms'
    channel.basic_publish_confirm(gamqp.Message(b'3'), '', queue)
    assert acked == [(1, False)], 'and counts from one again'


def test_a_transient_shared_queue_is_a_warning_where_it_may_be_refused(rabbit):
    """Refused: see the tests of starved nodes. Here the declare is passive, exclusive or durable, and none comes."""
    with rabbit.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter('error')
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_declare(queue, passive=True)
        channel.queue_delete(broker_tools.shared_queue(channel))
        if rabbit.major < 4:
            channel.queue_declare(broker_tools.fresh_name())


# -- several channels --------------------------------------------------------------------------------------


def test_drain_events_serves_all_channels_in_order_each(connection):
    got = []
    channels = [connection.channel() for _ in range(5)]
    for channel in channels:
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        channel.basic_consume(
            queue, callback=lambda message, number=channel.channel_id: got.append((number, message.body)), no_ack=True
        )
        for number in range(20):
            channel.basic_publish(gamqp.Message(b'%d' % number), '', queue)
    broker_tools.drain_until(connection, lambda: len(got) == 100)
    for channel in channels:
        assert [body for number, body in got if number == channel.channel_id] == [b'%d' % n for n in range(20)]
