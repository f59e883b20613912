"""Connecting to a real broker: URLs, credentials, names, and what is negotiated."""

from __future__ import annotations

import os
import struct
import time

import broker_tools
import greenlets
import pytest
from ports import bindable, free_ports
from proxy import Proxy

import gamqp
from gamqp import exceptions, sasl

# How long a refusal may take: far below every timeout, so it is an answer and no guess.
PROMPT = 20


def test_a_url_is_all_it_takes(rabbit):
    with gamqp.connect(rabbit.url) as connection:
        assert connection.connected
        assert connection.server_properties['product'] == 'RabbitMQ'
        assert connection.server_properties['version'] == rabbit.version
        assert not connection.is_blocked
    assert not connection.connected


def test_a_connection_can_be_opened_again_after_it_was_closed(rabbit):
    connection = rabbit.connect()
    connection.close()
    connection.connect()
    try:
        assert connection.channel().queue_declare(exclusive=True).queue
    finally:
        connection.close()


def test_a_wrong_password_is_access_refused_in_the_brokers_words(rabbit):
    url = rabbit.url.replace('guest:guest@', 'guest:wrong@')
    started = time.monotonic()
    with pytest.raises(exceptions.AccessRefused) as caught:
        gamqp.connect(url)
    assert time.monotonic() - started < PROMPT
    assert caught.value.reply_code == 403
    assert 'Login was refused using authentication mechanism PLAIN' in caught.value.reply_text


def test_a_missing_virtual_host_is_not_allowed(rabbit):
    host = f'127.0.0.1:{rabbit.node.port}'
    started = time.monotonic()
    with pytest.raises(exceptions.NotAllowed) as caught:
        gamqp.Connection(host, virtual_host='no such host').connect()
    assert time.monotonic() - started < PROMPT
    assert caught.value.reply_code == 530
    assert 'no such host' in caught.value.reply_text


def test_a_port_where_nobody_listens_is_an_oserror():
    with pytest.raises(ConnectionRefusedError):
        gamqp.connect(f'amqp://127.0.0.1:{free_ports(1)[0]}')


def test_ipv6(rabbit):
    if bindable('::1', 0) is None:
        pytest.skip('this machine has no IPv6')
    with rabbit_at(rabbit, f'[::1]:{rabbit.node.port}') as connection:
        assert connection.connected
        assert connection.sock.getpeername()[0] == '::1'


def test_a_host_name(rabbit):
    with rabbit_at(rabbit, f'localhost:{rabbit.node.port}') as connection:
        assert connection.connected


def rabbit_at(rabbit, host, **arguments):
    return gamqp.Connection(host, virtual_host=rabbit.vhost, **arguments)


@pytest.mark.parametrize('method', ['PLAIN', 'AMQPLAIN'])
def test_login_method(rabbit, method):
    with rabbit.connect(login_method=method) as connection:
        assert method.encode() in connection.mechanisms


def test_amqplain_with_a_wrong_password_is_refused_too(rabbit):
    url = rabbit.url.replace('guest:guest@', 'guest:wrong@')
    with pytest.raises(exceptions.AccessRefused, match='AMQPLAIN'):
        gamqp.connect(url, login_method='AMQPLAIN')


def test_external_without_tls_says_what_both_sides_can(rabbit):
    with pytest.raises(exceptions.ConnectionError, match=r'EXTERNAL.*PLAIN'):
        rabbit.connect(login_method='EXTERNAL')


def test_a_raw_mechanism(rabbit):
    with rabbit.connect(authentication=sasl.RAW(b'PLAIN', b'\0guest\0guest')) as connection:
        assert connection.connected


def broker_sees(rabbit, connection):
    """What the management lists of this connection, which it knows by our end of it."""
    port = connection.sock.getsockname()[1]

    def listed():
        return [one for one in rabbit.node.connections(rabbit.vhost) if one.get('peer_port') == port]

    # It lists a connection after a statistics interval or two.
    return greenlets.wait_until(listed, 60, 'the connection in the management API')[0]


def test_the_operator_sees_name_properties_login_and_what_was_agreed(rabbit):
    arguments = {'login_method': 'AMQPLAIN', 'channel_max': 10, 'frame_max': 8192, 'heartbeat': 7}
    with rabbit.connect(name='orders-7', client_properties={'team': 'billing'}, **arguments) as connection:
        assert (connection.channel_max, connection.frame_max, connection.heartbeat) == (10, 8192, 7)
        seen = broker_sees(rabbit, connection)
    assert (seen['channel_max'], seen['frame_max'], seen['timeout']) == (10, 8192, 7)
    assert seen['auth_mechanism'] == 'AMQPLAIN'
    properties = seen['client_properties']
    assert properties['connection_name'] == 'orders-7'
    assert properties['team'] == 'billing'
    assert properties['product'] == 'gamqp'
    # Each of them changes how the broker treats us.
    for capability in (
        'authentication_failure_close',
        'basic.nack',
        'connection.blocked',
        'consumer_cancel_notify',
        'exchange_exchange_bindings',
        'publisher_confirms',
    ):
        assert properties['capabilities'][capability] is True


@pytest.mark.parametrize(
    ('ours', 'agreed'),
    [
        pytest.param({}, (2047, 131072, 60), id='nothing-asked'),
        pytest.param({'channel_max': 10, 'frame_max': 8192, 'heartbeat': 7}, (10, 8192, 7), id='smaller'),
        pytest.param({'channel_max': 60000, 'frame_max': 10**7, 'heartbeat': 600}, (2047, 131072, 60), id='larger'),
        pytest.param({'channel_max': 0, 'frame_max': 0, 'heartbeat': 0}, (2047, 131072, 0), id='no-limit'),
    ],
)
def test_what_is_tuned_is_the_smaller_of_both_and_the_broker_is_told_so(rabbit, ours, agreed):
    with Proxy(rabbit.node.port) as proxy, gamqp.connect(proxy.url(rabbit), **ours) as connection:
        assert (connection.channel_max, connection.frame_max, connection.heartbeat) == agreed
        assert connection.server_heartbeat == 60
        tune_ok = proxy.stream.handshake[10, 31]
        assert struct.unpack('>HIH', tune_ok) == agreed


def test_no_channel_above_channel_max_is_asked_for(rabbit):
    with rabbit.connect(channel_max=10) as connection:
        for _ in range(10):
            connection.channel()
        with pytest.raises(exceptions.ResourceError, match='10'):
            connection.channel()
        assert connection.channels[5].queue_declare(exclusive=True).queue


def test_the_default_name_tells_the_process(rabbit):
    with Proxy(rabbit.node.port) as proxy, gamqp.connect(proxy.url(rabbit)):
        assert f':{os.getpid()}:'.encode() in proxy.stream.handshake[10, 11]


def test_nothing_larger_than_a_small_frame_max_is_ever_sent(rabbit):
    with (
        Proxy(rabbit.node.port, frame_max=8192) as proxy,
        gamqp.connect(proxy.url(rabbit), frame_max=8192) as connection,
    ):
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        body = bytes(range(256)) * 400
        broker_tools.publish_all(channel, queue, [body])
        assert channel.basic_get(queue, no_ack=True).body == body
        assert proxy.stream.whole


def test_on_open_and_on_tune_ok_are_called(rabbit):
    calls = []
    with rabbit.connect(on_open=lambda connection: calls.append(connection), on_tune_ok=lambda: calls.append('tuned')):
        pass
    assert calls[0] == 'tuned'
    assert isinstance(calls[1], gamqp.Connection)


def test_two_greenlets_that_connect_one_connection_get_one_connection_and_one_error(rabbit):
    connection = gamqp.Connection(f'127.0.0.1:{rabbit.node.port}', virtual_host=rabbit.vhost)
    tasks = [greenlets.spawn(connection.connect) for _ in range(2)]
    assert tasks[0].get() is None
    assert isinstance(broker_tools.raised(tasks[1]), exceptions.RecoverableConnectionError)
    assert connection.channel().queue_declare(exclusive=True).queue
    connection.close()


def test_close_from_several_greenlets_at_once(rabbit):
    connection = rabbit.connect()
    tasks = [greenlets.spawn(connection.close) for _ in range(5)]
    for task in tasks:
        assert task.get() is None
    assert not connection.connected
    connection.close()


def test_using_a_closed_connection_is_recoverable_and_says_who_closed_it(rabbit):
    connection = rabbit.connect()
    channel = connection.channel()
    connection.close()
    for call in (
        connection.channel,
        lambda: connection.drain_events(timeout=1),
        lambda: channel.queue_declare(exclusive=True),
        lambda: channel.basic_publish(gamqp.Message('x'), '', 'q'),
        lambda: channel.basic_ack(1),
    ):
        error = broker_tools.raised(call)
        assert isinstance(error, connection.recoverable_connection_errors), error
        assert 'closed by this program' in str(error)
