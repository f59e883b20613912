"""Finding a broker: names with several addresses, dead ones among them, and refusals.

The name service is the one thing replaced here: names with the addresses a test needs exist nowhere.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker

import gamqp
from gamqp import green


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


def test_the_last_error_is_raised_when_all_refuse(names: Any, refusing: Any) -> None:
    names['broker.test'] = [refusing, refusing]
    with pytest.raises(ConnectionRefusedError) as caught:
        gamqp.Connection('broker.test').connect()
    assert caught.value.errno == errno.ECONNREFUSED
    assert f'port {refusing[1]}' in str(caught.value)


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
    with pytest.raises(socket.gaierror, match=r'nowhere\.test'):
        gamqp.Connection('nowhere.test').connect()


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
