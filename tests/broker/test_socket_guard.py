"""``Connection.sock``: what libraries do to py-amqp's socket must neither block the process nor harm the stream."""

from __future__ import annotations

import select
import socket
import threading
from typing import Any

import greenlets
import inside
import pytest
from processor import own_time
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp

CLIENT = {'heartbeat': 0}


def test_one_guard_by_both_names(client: gamqp.Connection) -> None:
    assert client.sock is client.transport.sock is client.sock
    assert 'SocketGuard' in repr(client.sock)
    assert not isinstance(client.sock, socket.socket)


def test_the_transport_tells_where_it_goes_and_ends_the_connection(
    peer: ScriptedBroker, client: gamqp.Connection
) -> None:
    transport = client.transport
    assert transport is not None and transport == client.transport and hash(transport) == hash(client.transport)
    assert transport != peer and repr(transport) in f'{transport}'
    assert (transport.connected, transport.host, transport.port) == (True, '127.0.0.1', peer.port)
    assert (transport.read_timeout, transport.write_timeout) == (client.read_timeout, client.write_timeout)
    assert transport.connect_timeout
    transport.raise_on_initial_eintr = False
    assert client.transport is not None and not client.transport.raise_on_initial_eintr
    transport.close()
    assert not (transport.connected or client.connected)


def test_there_is_none_without_a_socket(peer: ScriptedBroker) -> None:
    client = peer.client()
    assert client.sock is None
    client = peer.open()
    transport = client.transport
    client.collect()
    assert client.sock is None and transport.sock is None


def test_what_is_told_of_the_socket(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    sock = client.sock
    assert sock.getpeername() == ('127.0.0.1', peer.port)
    assert sock.getsockname()[0] == '127.0.0.1'
    assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 7)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 7
    client.collect()
    for call in (sock.getpeername, sock.getsockname, lambda: sock.getsockopt(1, 2), lambda: sock.shutdown(2)):
        with pytest.raises(OSError, match='closed'):
            call()
    assert sock.family == socket.AF_INET
    assert sock.fileno() == -1


@pytest.mark.parametrize('seconds', [None, 0, 5, 2.5])
def test_a_timeout_is_kept_and_limits_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, seconds: float | None
) -> None:
    """oslo.messaging sets one around each publish; the process then stood still inside our receive."""
    client.sock.settimeout(seconds)
    assert client.sock.gettimeout() == client.sock.timeout == seconds
    began = own_time()
    assert client.is_alive()  # it looks whether there is input
    assert own_time() - began < 2
    assert inside.transport(client).socket.gettimeout() == 0
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0.01)
    peer.expect_nothing_more(client)


def test_blocking_is_kept_and_blocks_nothing(client: gamqp.Connection) -> None:
    assert client.sock.gettimeout() is None and client.sock.getblocking()
    client.sock.setblocking(False)
    assert client.sock.gettimeout() == 0 and not client.sock.getblocking()
    client.sock.setblocking(True)
    assert client.sock.gettimeout() is None
    assert not inside.transport(client).socket.getblocking()


@pytest.mark.parametrize(('value', 'error'), [(-1, ValueError), ('x', ValueError), ([], TypeError)])
def test_a_timeout_that_is_none_is_refused(client: gamqp.Connection, value: Any, error: type[Exception]) -> None:
    client.sock.settimeout(3)
    with pytest.raises(error):
        client.sock.settimeout(value)
    assert client.sock.gettimeout() == 3


@pytest.mark.parametrize(
    'name',
    [
        *('recv', 'recv_into', 'recvfrom', 'recvfrom_into', 'recvmsg', 'recvmsg_into', 'makefile', 'read'),
        *('send', 'sendall', 'sendto', 'sendmsg', 'sendfile', 'write', 'unwrap', 'detach', 'dup', 'accept', 'bind'),
        *('connect', 'connect_ex', 'listen'),
    ],
)
def test_what_would_read_or_write_is_refused(peer: ScriptedBroker, client: gamqp.Connection, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf'sock\.{name}\(\).*drain_events'):
        getattr(client.sock, name)(b'')
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('how', [lambda sock: sock.close(), lambda sock: sock.shutdown(socket.SHUT_RDWR)])
def test_the_end_of_the_socket_is_heard_at_once_by_all_who_wait(
    peer: ScriptedBroker, client: gamqp.Connection, how: Any
) -> None:
    channel = peer.open_channel(client)
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag'))
    waiting = [
        greenlets.spawn(client.drain_events),
        greenlets.spawn(channel.queue_declare, 'q'),
        greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q'),
        greenlets.spawn(next, loop),
    ]
    greenlets.sleep(0.01)
    how(client.sock)
    assert not client.is_open and not client.is_alive()
    for task in waiting:
        with pytest.raises(gamqp.RecoverableConnectionError, match='the program closed the socket'):
            task.get(30)
    peer.take_what_came()


def test_closing_it_twice_or_late_does_nothing(client: gamqp.Connection) -> None:
    sock = client.sock
    sock.close()
    sock.close()
    client.collect()
    sock.close()


def test_closing_it_in_another_thread_is_refused(client: gamqp.Connection) -> None:
    sock, errors = client.sock, []

    def close() -> None:
        try:
            sock.close()
        except gamqp.WrongThread as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert errors and client.is_open


def test_a_guard_that_outlives_its_connection(peer: ScriptedBroker) -> None:
    with pytest.warns(ResourceWarning, match='never closed'):
        client = gamqp.Connection(peer.host)
        opening = greenlets.spawn(client.connect)
        peer.handshake()
        opening.get()
        sock = client.sock
        del client, opening
        peer.agree_to_close()
    greenlets.wait_until(lambda: sock.fileno() == -1)
    sock.close()


def test_it_can_be_polled(client: gamqp.Connection, peer: ScriptedBroker) -> None:
    assert select.select([client.sock], [], [], 0)[0] == []
    peer.send('connection.blocked', reason='x')
    assert select.select([client.sock], [], [], 5)[0] == [client.sock]
