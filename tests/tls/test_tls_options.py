"""What the ``ssl`` argument may be: what each option does, and that none is ignored in silence."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import greenlets
import pytest
from certificates import Certificates

import gamqp
from gamqp.transport import SSLTransport, TCPTransport, Transport
from gamqp.transport.tls_context import check_ssl_options, make_context


def test_true_verifies_everything_with_the_systems_authorities() -> None:
    context, name = make_context(True, 'broker.test')
    assert (context.verify_mode, context.check_hostname, name) == (ssl.CERT_REQUIRED, True, 'broker.test')
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2 or context.minimum_version < 0  # the system's policy
    assert not context.options & ssl.OP_NO_TLSv1_3


@pytest.mark.parametrize(
    ('options', 'mode', 'check'),
    [
        ({'ca_certs': None}, ssl.CERT_REQUIRED, True),
        ({'cert_reqs': None}, ssl.CERT_REQUIRED, True),
        ({'cert_reqs': ssl.CERT_REQUIRED}, ssl.CERT_REQUIRED, True),
        ({'cert_reqs': ssl.CERT_OPTIONAL}, ssl.CERT_OPTIONAL, True),
        ({'cert_reqs': ssl.CERT_NONE}, ssl.CERT_NONE, False),
        ({'cert_reqs': 0}, ssl.CERT_NONE, False),
        ({'cert_reqs': ssl.CERT_NONE, 'check_hostname': False}, ssl.CERT_NONE, False),
        ({'check_hostname': False}, ssl.CERT_REQUIRED, False),
        ({'check_hostname': True}, ssl.CERT_REQUIRED, True),
        ({'check_hostname': None}, ssl.CERT_REQUIRED, True),
        ({'ssl_version': ssl.PROTOCOL_TLS_CLIENT}, ssl.CERT_REQUIRED, True),
        ({'context': {}}, ssl.CERT_REQUIRED, True),
        ({'context': {'check_hostname': None}}, ssl.CERT_REQUIRED, True),
        ({'context': {'check_hostname': False}}, ssl.CERT_REQUIRED, False),
        (
            {'do_handshake_on_connect': True, 'suppress_ragged_eofs': False, 'server_side': False},
            ssl.CERT_REQUIRED,
            True,
        ),
    ],
)
def test_verification_is_off_only_where_it_was_said(options: dict[str, Any], mode: int, check: bool) -> None:
    check_ssl_options(options)
    context, name = make_context(options, 'host')
    assert (context.verify_mode, context.check_hostname, name) == (mode, check, 'host')


@pytest.mark.parametrize(
    ('host', 'options', 'name'),
    [
        ('broker.test', True, 'broker.test'),
        ('broker.test.', True, 'broker.test'),
        ('fe80::1%eth0', True, 'fe80::1'),
        ('broker.test', {'server_hostname': None}, 'broker.test'),
        ('broker.test', {'server_hostname': 'other.test'}, 'other.test'),
        ('broker.test', {'server_hostname': '', 'check_hostname': False}, None),
        ('broker.test', {'server_hostname': '', 'cert_reqs': ssl.CERT_NONE}, None),
        ('broker.test', {'context': {'check_hostname': False}, 'server_hostname': ''}, None),
    ],
)
def test_the_name_that_is_sent_and_checked(host: str, options: Any, name: str | None) -> None:
    check_ssl_options(options)
    assert make_context(options, host)[1] == name


def test_py_amqps_keys_do_what_they_say(certificates: Certificates) -> None:
    context, _ = make_context(
        {
            'ca_certs': certificates.trust,
            'ciphers': 'ECDHE+AESGCM',
            'tls_minimum_version': ssl.TLSVersion.TLSv1_2,
            'tls_maximum_version': ssl.TLSVersion.TLSv1_2,
            **certificates.client('alice').files,
        },
        'host',
    )
    assert [dict(one['subject'][0])['commonName'] for one in context.get_ca_certs()] == ['gamqp test authority ca']
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    names = {one['name'] for one in context.get_ciphers() if one['protocol'] == 'TLSv1.2'}
    assert names
    assert all('GCM' in name for name in names)


def test_a_folder_of_authorities(certificates: Certificates, tmp_path: Path) -> None:
    make_context({'ca_certs': str(tmp_path)}, 'host')
    make_context({'ca_certs': Path(certificates.trust)}, 'host')


@pytest.mark.parametrize('password', ['s3cret', b's3cret', lambda: 's3cret'])
def test_the_password_of_the_key(certificates: Certificates, password: Any) -> None:
    locked = certificates.client('locked', password='s3cret')
    make_context({**locked.files, 'password': password}, 'host')


def test_an_encrypted_key_without_its_password_does_not_ask_at_the_terminal(certificates: Certificates) -> None:
    locked = certificates.client('locked', password='s3cret')
    with pytest.raises(ValueError, match='the key is encrypted, and no password is given'):
        make_context(locked.files, 'host')


def test_a_wrong_password_is_not_quoted(certificates: Certificates) -> None:
    locked = certificates.client('locked', password='s3cret')
    with pytest.raises(ssl.SSLError, match='wrong password of the key') as caught:
        make_context({**locked.files, 'password': 'hunter2'}, 'host')
    assert 'hunter2' not in str(caught.value)
    assert locked.keyfile in str(caught.value)


def test_files_that_cannot_be_used_are_named(certificates: Certificates, tmp_path: Path) -> None:
    missing, rubbish = str(tmp_path / 'missing.pem'), tmp_path / 'rubbish.pem'
    rubbish.write_text('no certificate')
    alice, other = certificates.client('alice'), certificates.client('other')
    for options in (
        {'ca_certs': missing},
        {'certfile': missing},
        {'certfile': alice.certfile, 'keyfile': missing},
        {'context': {'cafile': missing}},
    ):
        with pytest.raises(FileNotFoundError) as absent:
            make_context(options, 'host')
        assert absent.value.filename == missing
    for options in ({'ca_certs': str(rubbish)}, {'certfile': str(rubbish)}):
        with pytest.raises(ssl.SSLError, match=r'rubbish.pem.* cannot be used'):
            make_context(options, 'host')
    with pytest.raises(ssl.SSLError, match=r'cannot be used: .*mismatch'):
        make_context({'certfile': alice.certfile, 'keyfile': other.keyfile}, 'host')


def test_files_are_read_anew_for_each_connection(certificates: Certificates, tmp_path: Path) -> None:
    """So a renewed certificate counts at the next connect."""
    path = tmp_path / 'trust.pem'
    options = {'ca_certs': str(path)}
    for authority in (certificates.ca, certificates.stranger):
        path.write_bytes(Path(authority.certfile).read_bytes())
        context, _ = make_context(options, 'host')
        assert len(context.get_ca_certs()) == 1


READY = ssl.create_default_context()
REFUSED: list[tuple[Any, type[BaseException], str]] = [
    ('yes', TypeError, 'ssl must be True, an ssl.SSLContext or a dict, not str'),
    (2, TypeError, 'not int'),
    (0.0, TypeError, 'a dict, not float'),
    ('', TypeError, 'a dict, not str'),
    ({'ca_cert': 'x'}, ValueError, "unknown options 'ca_cert'; possible are ca_certs"),
    ({'server_side': True}, ValueError, 'server_side is for servers'),
    ({'context': 'x'}, TypeError, 'context must be an ssl.SSLContext or a dict, not str'),
    ({'context': {'certfile': 'x'}}, ValueError, "context: unknown options 'certfile'"),
    ({'context': READY, 'ca_certs': 'x'}, ValueError, "useless beside context are the options 'ca_certs'"),
    ({'context': READY, 'cert_reqs': ssl.CERT_NONE}, ValueError, "'cert_reqs'"),
    ({'keyfile': 'x'}, ValueError, 'needs the certfile'),
    ({'password': 'hunter2'}, ValueError, 'needs the certfile'),
    ({'cert_reqs': ssl.CERT_NONE, 'check_hostname': True}, ValueError, 'check_hostname is not possible'),
    ({'server_hostname': ''}, ValueError, 'needs check_hostname=False'),
    ({'context': READY, 'server_hostname': ''}, ValueError, 'needs check_hostname=False'),
    ({'context': {'cafile': 'x'}, 'server_hostname': ''}, ValueError, 'needs check_hostname=False'),
]


@pytest.mark.parametrize(('options', 'error', 'text'), REFUSED, ids=[text for _, _, text in REFUSED])
def test_a_mistake_is_told_before_anything_is_connected(options: Any, error: type[BaseException], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        gamqp.Connection('localhost:1', ssl=options)
    assert 'hunter2' not in str(caught.value)


def test_options_that_are_none_do_not_count() -> None:
    check_ssl_options({'context': READY, 'ca_certs': None, 'certfile': None, 'keyfile': None, 'cert_reqs': None})


@pytest.mark.parametrize(
    ('ssl_argument', 'kind', 'port'),
    [(False, TCPTransport, 5672), (None, TCPTransport, 5672), ({}, SSLTransport, 5671), (True, SSLTransport, 5671)],
)
def test_the_transport_and_the_port_that_go_with_it(ssl_argument: Any, kind: Any, port: int) -> None:
    transport = Transport('host', None, ssl_argument)
    assert (type(transport), transport.port, Transport('host:1234', None, ssl_argument).port) == (kind, port, 1234)
    assert not transport.connected


def test_an_address_for_tls_cannot_be_turned_into_plain_text() -> None:
    for off in (False, None):
        with pytest.raises(ValueError, match='contradict'):
            gamqp.connect('amqps://localhost:1', ssl=off)


def test_a_dictionary_without_options_is_verified_tls() -> None:
    """It is what is left where options are computed, and must not put credentials on the wire in clear."""
    context, name = make_context({}, 'host')
    assert (context.verify_mode, context.check_hostname, name) == (ssl.CERT_REQUIRED, True, 'host')
    mechanisms = [[one.mechanism for one in gamqp.Connection(ssl=tls).authentication] for tls in ({}, True, False)]
    assert mechanisms[0] == mechanisms[1] != mechanisms[2]


def test_a_dictionary_without_options_does_not_talk_in_clear() -> None:
    listener = socket.create_server(('127.0.0.1', 0))
    connecting = greenlets.spawn(gamqp.Connection(f'127.0.0.1:{listener.getsockname()[1]}', ssl={}).connect)
    wait_readable(listener)
    accepted, _ = listener.accept()
    wait_readable(accepted)
    assert accepted.recv(1) == b'\x16'  # a TLS handshake, and not AMQP
    accepted.close()
    listener.close()
    with pytest.raises(OSError, match=r'127\.0\.0\.1'):
        connecting.get()


def wait_readable(sock: Any) -> None:
    ready = greenlets.backend.Readiness(sock.fileno())
    assert ready.wait_readable(20)
    ready.close()
