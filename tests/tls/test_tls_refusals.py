"""Who is not let in, whom we do not trust, and what the error says about it; nothing is left afterwards."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from typing import Any

import greenlets
import pytest
from certificates import Certificates
from script import ScriptedBroker
from tls_proxy import Front

import gamqp
from gamqp import exceptions


def refused(host: str, **arguments: Any) -> BaseException:
    connection = gamqp.Connection(host, **{'connect_timeout': 3, **arguments})
    with pytest.raises((OSError, exceptions.AMQPError, ValueError)) as caught:
        connection.connect()
    assert not connection.connected
    assert connection.sock is None
    return caught.value


@pytest.fixture
def trust(certificates: Certificates) -> dict[str, Any]:
    return {'ca_certs': certificates.trust}


def make(certificates: Certificates, which: str) -> Any:
    return {
        'expired': lambda: certificates.leaf('expired', expired=True),
        'self-signed': lambda: certificates.leaf('self-signed', self_signed=True),
        'wrong authority': lambda: certificates.leaf('strange', issuer=certificates.stranger),
        'wrong host': lambda: certificates.leaf('elsewhere', names=('elsewhere.test',)),
        'wrong address': lambda: certificates.leaf('elsewhere', names=('elsewhere.test',)),
        'of a client': lambda: certificates.client('alice'),
    }[which]()


CERTIFICATES = [
    ('expired', 'certificate has expired'),
    ('self-signed', r'self-signed certificate \(no authority has signed it\)'),
    ('wrong authority', 'unable to get local issuer certificate .its authority is none of those that we trust'),
    ('wrong host', "Hostname mismatch, certificate is not valid for 'localhost'"),
    ('wrong address', "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ('of a client', 'unsuitable certificate purpose|unsupported certificate purpose'),
]


@pytest.mark.parametrize(('which', 'text'), CERTIFICATES, ids=[which for which, _ in CERTIFICATES])
def test_a_bad_certificate_is_refused_with_the_reason(
    certificates: Certificates, trust: dict[str, Any], which: str, text: str
) -> None:
    with Front(None, make(certificates, which)) as front:
        host = f'127.0.0.1:{front.port}' if which == 'wrong address' else front.host
        error = refused(host, ssl=trust)
        assert isinstance(error, ssl.SSLCertVerificationError), error
        assert host in str(error)
        assert 'the certificate is refused' in str(error)
        assert re.search(text, str(error)), error
        assert error.verify_code
        assert isinstance(error, gamqp.Connection.recoverable_connection_errors)
        # The server hears of it, so that its log tells, too.
        greenlets.wait_until(lambda: front.errors)
        assert 'ALERT' in str(front.errors[0]) or 'alert' in str(front.errors[0])


def test_the_systems_authorities_are_asked_when_none_are_named(certificates: Certificates) -> None:
    with Front(None, certificates.server) as front:
        for options in (True, {'server_hostname': 'localhost'}, {'cert_reqs': None, 'ca_certs': None}):
            assert isinstance(refused(front.host, ssl=options), ssl.SSLCertVerificationError)


@pytest.mark.parametrize(
    'options',
    [
        {'cert_reqs': ssl.CERT_NONE},
        {'check_hostname': False},
        {'context': {'check_hostname': False}},
        {'server_hostname': 'elsewhere.test'},
    ],
)
def test_only_an_explicit_option_lets_a_wrong_name_pass(
    peer: ScriptedBroker, certificates: Certificates, options: dict[str, Any]
) -> None:
    with Front(peer.port, make(certificates, 'wrong host')) as front:
        options = dict(options)
        if 'context' in options:
            options['context'] = {**options['context'], 'cafile': certificates.trust}
        elif 'cert_reqs' not in options:
            options['ca_certs'] = certificates.trust
        peer.open(host=front.host, ssl=options).collect()


def test_a_name_that_is_switched_off_is_neither_sent_nor_checked(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    with Front(peer.port, make(certificates, 'wrong host')) as front:
        peer.open(host=front.host, ssl={**trust, 'server_hostname': '', 'check_hostname': False}).collect()
        assert front.names == [None]
        # The chain is verified all the same.
        error = refused(front.host, ssl={'server_hostname': '', 'check_hostname': False})
        assert isinstance(error, ssl.SSLCertVerificationError)


def test_the_server_is_told_the_name(peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]) -> None:
    with Front(peer.port, certificates.server) as front:
        for host, options in (
            (front.host, trust),
            (front.host, {**trust, 'server_hostname': 'broker.test'}),
            (f'127.0.0.1:{front.port}', trust),
        ):
            peer.open(host=host, ssl=options).collect()
            peer.hang_up()
        # An address is no name (RFC 6066), and is checked against the addresses of the certificate.
        assert front.names == ['localhost', 'broker.test', None]


# -- peers that speak something else -------------------------------------------------------


class Answering:
    """A server that answers whatever comes first with these bytes, and hangs up."""

    def __init__(self, answer: bytes, read: bool = True, reset: bool = False) -> None:
        self._answer, self._read, self._reset = answer, read, reset
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.host = f'localhost:{self._listener.getsockname()[1]}'
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with client:
            if self._read:
                client.recv(65536)
            client.sendall(self._answer)
            if self._reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            elif self._read:
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
        self._thread.join(60)


@pytest.mark.parametrize(
    ('answer', 'text'),
    [
        (b'AMQP\0\0\x09\x01', 'does not speak TLS but plain AMQP, so this is not its port for TLS'),
        (b'HTTP/1.1 400 Bad Request\r\n\r\n', 'does not speak TLS but something else'),
        (b'\0', 'does not speak TLS but something else'),
        (b'220 mail.test ESMTP\r\n', 'does not speak TLS but something else'),
        (b'', 'hung up during the TLS handshake without a word'),
        (b'\x16\x03\x03\x00', 'hung up during the TLS handshake$'),
        (b'\x15\x03\x03\x00\x02\x02\x28', 'ended the TLS handshake: handshake failure'),
        (b'\x15\x03\x03\x00\x02\x02\x46', 'ended the TLS handshake: protocol version'),
    ],
)
def test_a_peer_that_speaks_no_tls_is_named(answer: bytes, text: str) -> None:
    with Answering(answer) as server:
        error = refused(server.host, ssl=True)
        assert isinstance(error, ssl.SSLError)
        assert re.search(text, str(error)), error
        assert str(error).startswith(server.host)


def test_a_reset_in_the_handshake_is_named() -> None:
    with Answering(b'', reset=True) as server:
        error = refused(server.host, ssl=True)
        assert isinstance(error, ConnectionResetError)
        assert 'hung up during the TLS handshake' in str(error)


def test_a_plain_client_at_a_tls_port_is_told(certificates: Certificates) -> None:
    with Answering(b'\x15\x03\x03\x00\x02\x02\x0a') as server:  # an alert, as Erlang's answer
        assert 'the peer speaks TLS' in str(refused(server.host))
    with Front(None, certificates.server) as front:  # OpenSSL just hangs up
        assert 'without a word: no broker there, or one that expects TLS' in str(refused(front.host))


def test_versions_without_a_common_one_are_named(certificates: Certificates, trust: dict[str, Any]) -> None:
    with Front(None, certificates.server, version=ssl.TLSVersion.TLSv1_2) as front:
        error = refused(front.host, ssl={**trust, 'tls_minimum_version': ssl.TLSVersion.TLSv1_3})
        assert 'ended the TLS handshake: protocol version' in str(error)


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
def test_a_server_that_wants_a_certificate_says_so(
    certificates: Certificates, trust: dict[str, Any], version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the handshake is over for us when the server refuses."""
    with Front(None, certificates.server, version=version, trust=certificates.trust) as front:
        texts = {'none': 'it wants a client certificate, and we have none'}
        texts['strange'] = r'unknown ca \(it does not accept our client certificate\)'
        strange = certificates.client('stranger', issuer=certificates.stranger)
        for which, files in (('none', {}), ('strange', strange.files)):
            error = refused(front.host, ssl={**trust, **files})
            assert re.search(texts[which], str(error)), error
            assert isinstance(error, exceptions.CertificateRefused)
            assert not isinstance(error, gamqp.Connection.recoverable_connection_errors)
            assert isinstance(error, gamqp.Connection.connection_errors)
            assert isinstance(error.__cause__, ssl.SSLError)


def test_a_failed_handshake_is_about_certificates_only_where_one_was_asked_for(
    certificates: Certificates, trust: dict[str, Any]
) -> None:
    with Front(None, certificates.server, version=ssl.TLSVersion.TLSv1_2) as front:
        error = refused(front.host, ssl={**trust, 'ciphers': 'DHE-RSA-AES256-SHA'})  # which needs another key
        assert isinstance(error, ssl.SSLError) and 'handshake failure' in str(error), error
        assert 'certificate' not in str(error)


def test_a_name_that_the_server_does_not_know_is_named(certificates: Certificates, trust: dict[str, Any]) -> None:
    with Front(None, certificates.server) as front:
        front.context.sni_callback = lambda engine, name, context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        error = refused(front.host, ssl=trust)
        assert isinstance(error, ssl.SSLError)
        said = "unrecognized name (it was asked for 'localhost', and may be known by another name: "
        assert said + "ssl={'server_hostname': …})" in str(error)


def test_a_balancer_that_hangs_up_over_a_name_it_does_not_know_is_thought_of() -> None:
    with Answering(b'') as server:
        assert "it was asked for 'localhost', and may be known by another name" in str(refused(server.host, ssl=True))


@pytest.mark.parametrize('host', ['127.0.0.1', '127.1', '0x7f.1'])
def test_an_address_in_the_common_name_of_a_certificate_is_no_name(
    certificates: Certificates, trust: dict[str, Any], host: str
) -> None:
    pair = certificates.leaf(f'common-{host}', common_name=host, names=())
    with Front(None, pair) as front:
        for name in ({}, {'server_hostname': host}, {'server_hostname': f'{host}.'}):
            error = refused(f'{host}:{front.port}', ssl={**trust, **name})
            assert isinstance(error, ssl.SSLCertVerificationError), (name, error)


def test_a_certificate_of_localhost_seen_through_kombu_says_what_to_set(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    pair = certificates.leaf('localhost only', names=('localhost',))
    with Front(peer.port, pair) as front:
        host = f'127.0.0.1:{front.port}'  # what kombu makes of amqps://localhost
        error = refused(host, ssl=trust)
        assert 'kombu makes 127.0.0.1 of localhost' in str(error)
        assert "set ssl={'server_hostname': 'localhost'}" in str(error)
        peer.open(host=host, ssl={**trust, 'server_hostname': 'localhost'}).collect()


# -- time --------------------------------------------------------------------------------------


def test_the_handshake_has_the_deadline_of_the_connect(mute: Front) -> None:
    started = time.monotonic()
    # By its address: the name service, which is asked in a thread, would have a part of the time.
    error = refused(mute.host.replace('localhost', '127.0.0.1'), ssl=True, connect_timeout=1)
    assert isinstance(error, TimeoutError)
    assert str(error).endswith('no TLS handshake within 1 s')
    assert 0.95 < time.monotonic() - started < 30


def test_a_peer_that_drips_cannot_stretch_the_deadline(certificates: Certificates, trust: dict[str, Any]) -> None:
    """Each byte is progress, and the deadline is a total all the same."""
    with Front(None, certificates.server, segment=1) as front:
        started = time.monotonic()
        # 0.01 s is less than its thousand bytes take.
        error = refused(front.host, ssl=trust, connect_timeout=0.01)
        assert isinstance(error, TimeoutError), error
        assert time.monotonic() - started < 30


def test_killing_the_connecting_greenlet_in_the_handshake_leaves_nothing(mute: Front) -> None:
    connection = gamqp.Connection(mute.host, ssl=True)
    task = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: mute.accepted)  # it has accepted
    task.kill()
    greenlets.wait_until(lambda: task.done)
    assert not connection.connected  # and the leak check finds no socket


def test_closing_during_the_handshake_ends_it(mute: Front) -> None:
    connection = gamqp.Connection(mute.host, ssl=True, connect_timeout=0.5)
    task = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: mute.accepted)
    connection.close()
    with pytest.raises((exceptions.RecoverableConnectionError, OSError)):
        task.get()
    assert not connection.connected
