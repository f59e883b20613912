"""Finding a broker: names with several addresses, dead ones among them, and refusals.

The name service is the one thing replaced here: names with the addresses a test needs exist nowhere.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green
from gamqp.connection import connecting
from gamqp.transport import TCPTransport


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, int]]]:
    """A name service: name -> addresses."""
    known: dict[str, list[tuple[str, int]]] = {}

    def answer(host: str, port: int) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', address) for address in known[host]]

    monkeypatch.setattr(greenlets.backend, 'getaddrinfo', answer)
    return known


@pytest.mark.parametrize('address', ['127.0.0.1', '::1'])
def test_localhost_finds_a_listener_on_either_loopback(address: str) -> None:
    try:
        peer = ScriptedBroker(address)
    except OSError:
        pytest.skip(f'this machine has no {address}')
    if address not in {entry[4][0] for entry in socket.getaddrinfo('localhost', None)}:
        with peer:
            pytest.skip(f'localhost is not {address} here')
    with peer:
        connection = peer.client(host=f'localhost:{peer.port}')
        opening = greenlets.spawn(connection.connect)
        peer.handshake()
        opening.get()
        assert connection.connected


def test_an_address_of_version_six_in_brackets() -> None:
    try:
        peer = ScriptedBroker('::1')
    except OSError:
        pytest.skip('this machine has no ::1')
    with peer:
        assert peer.open().connected


def test_the_next_address_is_tried_when_one_refuses(peer: ScriptedBroker, names: Any, refusing: Any) -> None:
    names['broker.test'] = [refusing, refusing, ('127.0.0.1', peer.port)]
    opening = greenlets.spawn(peer.client(host='broker.test').connect)
    peer.handshake()
    opening.get()


def test_a_dead_first_address_does_not_eat_the_deadline(peer: ScriptedBroker, names: Any, black_hole: Any) -> None:
    names['broker.test'] = [black_hole, ('127.0.0.1', peer.port)]
    connection = peer.client(host='broker.test', connect_timeout=4)
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    opening.get()
    assert connection.connected


@pytest.mark.parametrize('fault', ['silence', 'hang up', 'reset'])
def test_an_address_that_takes_the_connection_and_does_not_answer_is_passed_over(
    peer: ScriptedBroker, names: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A name of several nodes: one of them hangs, or is just starting or stopping."""
    monkeypatch.setattr(connecting, 'ANSWER_PART', 0.1)
    with ScriptedBroker() as other:
        names['broker.test'] = [('127.0.0.1', other.port), ('127.0.0.1', peer.port)]
        connection = peer.client(host='broker.test', connect_timeout=5 if fault == 'silence' else None)
        opening = greenlets.spawn(connection.connect)
        other.handshake(until='start' if fault == 'silence' else 'tune')
        if fault != 'silence':
            other.cut(reset=fault == 'reset')
        peer.handshake()
        opening.get()
        assert connection.transport.port == 5672  # that of the name; the test's name service has others
        assert connection.sock.getpeername() == ('127.0.0.1', peer.port)
        assert connection.stats()['addresses_failed'] == 1
        other.hang_up()
        connection.collect()


def test_one_that_is_slow_to_answer_has_most_of_the_time(peer: ScriptedBroker, names: Any, refusing: Any) -> None:
    names['broker.test'] = [('127.0.0.1', peer.port), refusing]
    connection = peer.client(host='broker.test', connect_timeout=0.4)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    with pytest.raises(TimeoutError, match=r'within 0\.[23]') as caught:
        opening.get()
    assert f'127.0.0.1 port {refusing[1]}' in str(caught.value)
    peer.expect_end()


@pytest.mark.parametrize('code', [403, 530])
def test_what_a_broker_refuses_is_refused_by_all_nodes_of_its_name(
    peer: ScriptedBroker, names: Any, refusing: Any, code: int
) -> None:
    names['broker.test'] = [('127.0.0.1', peer.port), refusing]
    opening = greenlets.spawn(peer.client(host='broker.test').connect)
    peer.handshake(until='tune')
    peer.send('connection.close', reply_code=code, reply_text='REFUSED')
    with pytest.raises((exceptions.AccessRefused, exceptions.NotAllowed)) as caught:
        opening.get()
    assert 'also' not in str(caught.value)  # no other was tried


def test_one_error_names_all_that_refuse(names: Any, refusing: Any) -> None:
    with greenlets.backend.socket_class()() as sock:
        sock.bind(('127.0.0.2', 0))
        other = sock.getsockname()
    names['broker.test'] = [other, refusing]
    connection = gamqp.Connection('broker.test')
    with pytest.raises(ConnectionRefusedError) as caught:
        connection.connect()
    assert caught.value.errno == errno.ECONNREFUSED
    text = str(caught.value)
    assert f'127.0.0.1 port {refusing[1]}' in text and f'127.0.0.2 port {other[1]}' in text
    assert connection.stats()['addresses_failed'] == 2


def test_an_answer_and_then_none_are_both_told(peer: ScriptedBroker, names: Any, refusing: Any) -> None:
    names['broker.test'] = [('127.0.0.1', peer.port), refusing]
    connection = peer.client(host='broker.test')
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune')
    peer.cut()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed the socket') as caught:
        opening.get()
    assert f'127.0.0.1 port {refusing[1]}' in str(caught.value)
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed the socket'):
        connection.channel()


def test_a_kill_amid_the_first_address_tries_no_other(peer: ScriptedBroker, names: Any) -> None:
    names['broker.test'] = [('127.0.0.1', peer.port)] * 2
    opening = greenlets.spawn(peer.client(host='broker.test').connect)
    peer.handshake(until='tune')
    opening.kill()
    with pytest.raises(GreenletExit):
        opening.get()
    peer.expect_end()


@pytest.mark.parametrize('shuffle', [False, True])
def test_families_come_in_turn_and_addresses_of_each_at_random(monkeypatch: Any, shuffle: bool) -> None:
    """The family that the name service puts first stays the first: it knows which one has a route."""
    answer = [(socket.AF_INET6, f'::{last}') for last in range(1, 7)]
    answer += [(socket.AF_INET, f'10.0.0.{last}') for last in range(1, 7)]
    entries = [(family, socket.SOCK_STREAM, 6, '', (address, 1)) for family, address in answer]
    monkeypatch.setattr(greenlets.backend, 'getaddrinfo', lambda host, port: list(entries))
    orders = set()
    for _ in range(50):
        transport = TCPTransport('broker.test', shuffle=shuffle)
        found = inside.addresses_in_order(transport, green.Deadline(greenlets.PATIENCE))
        assert sorted(map(str, found)) == sorted(map(str, entries))
        assert [one[0] for one in found] == [socket.AF_INET6, socket.AF_INET] * 6
        orders.add(str(found))
    assert (len(orders) > 10) is shuffle
    if not shuffle:
        assert [one[4][0] for one in found[::2]] == [f'::{last}' for last in range(1, 7)]


def test_a_black_hole_is_a_timeout(black_hole: Any) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        gamqp.Connection(f'127.0.0.1:{black_hole[1]}', connect_timeout=0.2).connect()
    assert 0.19 <= time.monotonic() - began < 30


def test_killing_a_caller_that_waits_for_a_black_hole_leaves_nothing(black_hole: Any) -> None:
    connection = gamqp.Connection(f'127.0.0.1:{black_hole[1]}')
    opening = greenlets.spawn(connection.connect)
    greenlets.sleep(0)
    greenlets.sleep(0)
    opening.kill()
    with pytest.raises(GreenletExit):
        opening.get()
    assert not connection.connected


def test_an_unknown_name_is_a_gaierror_that_names_it(names: Any) -> None:
    connection = gamqp.Connection('nowhere.test')
    with pytest.raises(socket.gaierror, match=r'nowhere\.test'):
        connection.connect()
    assert connection.stats()['addresses_failed'] == 1


@pytest.mark.parametrize('name', ['a..b', 'x' * 64 + '.test'])
def test_a_name_that_no_host_can_have_is_a_gaierror_too(name: str) -> None:
    with pytest.raises(socket.gaierror, match='no host can have this name'):
        gamqp.Connection(name).connect()


@pytest.mark.parametrize(
    'host', ['amqp://user:hunter2@host/', 'user:hunter2@host', 'hunter2@host', 'host/hunter2', '[hunter2@host]:1']
)
def test_a_url_in_the_place_of_a_host_is_refused_and_not_quoted(host: str) -> None:
    with pytest.raises(ValueError, match='not a URL') as caught:
        gamqp.Connection(host)
    assert 'hunter2' not in str(caught.value)


def test_a_name_service_that_breaks_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, port: int) -> list[Any]:
        raise RuntimeError('no more threads')

    monkeypatch.setattr(greenlets.backend, 'getaddrinfo', answer)
    with pytest.raises(OSError, match='the name service failed: RuntimeError: no more threads'):
        gamqp.Connection('broker.test', connect_timeout=10).connect()


def test_a_silent_name_service_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    released = green.Slot(greenlets.backend)

    def answer(host: str, port: int) -> list[Any]:
        released.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')

    monkeypatch.setattr(greenlets.backend, 'getaddrinfo', answer)
    with pytest.raises(TimeoutError, match='no answer from the name service'):
        gamqp.Connection('broker.test', connect_timeout=0.1).connect()
    released.succeed()


def test_what_the_name_service_says_in_an_outage_counts(
    peer: ScriptedBroker, names: Any, refusing: Any, black_hole: Any
) -> None:
    """Dead addresses and one that never answers do not eat the time of an attempt, and new addresses are used."""
    names['broker.test'] = [('127.0.0.1', peer.port)]
    recover = gamqp.Recovery(first_delay=0, delay=0.1, max_delay=0.1)
    errors: list[Any] = []
    connection = peer.client(
        host='broker.test',
        recover=recover,
        connect_timeout=2,
        on_recovering=lambda attempt, delay, error: errors.append(error),
    )
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    opening.get()
    del names['broker.test']
    peer.hang_up()
    greenlets.wait_until(lambda: len(errors) > 1)  # nobody knows the name for a while
    with ScriptedBroker() as moved:
        names['broker.test'] = [refusing, black_hole, refusing, ('127.0.0.1', moved.port)]
        moved.handshake()
        connection.wait_open(greenlets.PATIENCE)
        stats = connection.stats()
        assert (stats['outages'], stats['recoveries']) == (1, 1) and stats['addresses_failed'] >= 3
        connection.collect()
