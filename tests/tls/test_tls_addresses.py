"""A name with several addresses: one where TLS cannot be spoken does not keep us from the next.

The name service is the one thing replaced here: names with the addresses a test needs exist nowhere.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import pytest
from certificates import Certificates
from greenlet import GreenletExit
from processor import own_time
from script import ScriptedBroker
from tls_proxy import Front

import gamqp

Resolve = Callable[..., None]


@pytest.fixture
def localhost(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """``localhost(port, port, …)``: the addresses of that name, on 127.0.0.1."""

    def resolve(*ports: int) -> None:
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', port)) for port in ports]
        monkeypatch.setattr(greenlets.backend, 'getaddrinfo', lambda host, port: entries)

    return resolve


@pytest.fixture
def refusing() -> int:
    """A port on which nobody listens."""
    with greenlets.backend.socket_class()() as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def expired(certificates: Certificates) -> Iterator[Front]:
    with Front(None, certificates.leaf('expired', expired=True)) as front:
        yield front


def client(peer: ScriptedBroker, certificates: Certificates, **arguments: Any) -> gamqp.Connection:
    return peer.client(**{'host': 'localhost', 'ssl': {'ca_certs': certificates.trust}, **arguments})


@pytest.mark.parametrize('which', ['expired', 'mute', 'plain'])
def test_the_next_address_is_tried_when_a_handshake_fails(
    request: pytest.FixtureRequest,
    peer: ScriptedBroker,
    certificates: Certificates,
    localhost: Resolve,
    front: Front,
    which: str,
) -> None:
    bad = None if which == 'plain' else request.getfixturevalue(which)
    with Hello() as plain:
        localhost(plain.port if bad is None else bad.port, front.port)
        connection = client(peer, certificates, connect_timeout=3)
        opening = greenlets.spawn(connection.connect)
        peer.handshake()
        opening.get()
        assert connection.connected
        assert connection.sock.getpeername()[1] == front.port
        channel = peer.open_channel(connection)
        channel.basic_publish(gamqp.Message(bytes(100_000)), '', 'q')
        assert peer.expect('basic.publish').body == bytes(100_000)


class Hello:
    """A server that speaks another protocol, and first."""

    def __init__(self) -> None:
        self._listener = greenlets.backend.socket_class()()
        self._listener.setblocking(False)
        self._listener.bind(('127.0.0.1', 0))
        self._listener.listen(5)
        self.port = int(self._listener.getsockname()[1])
        self._serving = greenlets.spawn(self._serve)

    def _serve(self) -> None:
        ready = greenlets.backend.Readiness(self._listener.fileno())
        try:
            while ready.wait_readable(None):
                client, _ = self._listener.accept()
                with client:
                    client.send(b'220 hello\r\n')
        finally:
            ready.close()

    def __enter__(self) -> Hello:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._serving.kill()
        self._listener.close()


def test_what_is_wrong_with_a_certificate_is_told_rather_than_a_refused_connection(
    peer: ScriptedBroker, certificates: Certificates, localhost: Resolve, expired: Front, refusing: int
) -> None:
    for order in ((expired.port, refusing), (refusing, expired.port), (refusing, expired.port, refusing)):
        localhost(*order)
        with pytest.raises(ssl.SSLCertVerificationError, match='certificate has expired'):
            client(peer, certificates).connect()


def test_a_mute_address_and_all_the_others_have_one_deadline(
    peer: ScriptedBroker, certificates: Certificates, localhost: Resolve, mute: Front
) -> None:
    localhost(mute.port, mute.port, mute.port)
    began, own = time.monotonic(), own_time()
    with pytest.raises(TimeoutError, match='no TLS handshake within'):
        client(peer, certificates, connect_timeout=1).connect()
    assert time.monotonic() - began > 0.95
    assert own_time() - own < 2.5  # each by itself: 3


def test_a_caller_killed_at_the_second_address_leaves_nothing(
    peer: ScriptedBroker, certificates: Certificates, localhost: Resolve, expired: Front, mute: Front
) -> None:
    localhost(expired.port, mute.port)
    connection = client(peer, certificates, connect_timeout=30)
    opening = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: mute.accepted)  # it has accepted
    opening.kill()
    with pytest.raises(GreenletExit):
        opening.get()
    assert not connection.connected  # and the leak check finds no socket
