"""TLS with certificates made on the spot, and clients that log in by theirs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import amqp
import pytest

import gamqp
from gamqp import testing

pytest.importorskip('cryptography')


@pytest.fixture(scope='module')
def broker() -> Iterator[testing.Broker]:
    with testing.Broker(tls=True, users={'guest': 'guest', 'alice': 'never used'}) as broker:
        yield broker


def test_gamqp_over_tls(broker: testing.Broker) -> None:
    assert broker.certificates is not None
    trust = {'ca_certs': broker.certificates.ca_certs}
    with gamqp.connect(broker.tls_url, ssl=trust) as connection:
        channel = connection.channel()
        channel.queue_declare('tls', durable=True, auto_delete=False)
        channel.confirm_select()
        channel.publish(b'x' * 1_000_000, routing_key='tls').wait(10)
        assert broker.connections[0].tls
        (message,) = broker.queue('tls').messages
        assert len(message.body) == 1_000_000
        assert len(channel.basic_get('tls', no_ack=True).body) == 1_000_000


def test_an_authority_that_is_not_trusted(broker: testing.Broker) -> None:
    with pytest.raises(OSError, match='certificate'):
        gamqp.connect(broker.tls_url)


def test_a_client_is_known_by_its_certificate(broker: testing.Broker) -> None:
    assert broker.certificates is not None
    certfile, keyfile = broker.certificates.client('alice')
    options = {'ca_certs': broker.certificates.ca_certs, 'certfile': certfile, 'keyfile': keyfile}
    with gamqp.connect(broker.tls_url, ssl=options, login_method='EXTERNAL'):
        assert broker.connections[0].user == 'alice'


def test_who_has_no_certificate_stays_outside() -> None:
    with testing.Broker(verify_clients=True) as broker:
        assert broker.certificates is not None
        with pytest.raises(gamqp.exceptions.CertificateRefused):
            gamqp.connect(broker.tls_url, ssl={'ca_certs': broker.certificates.ca_certs})


def test_py_amqp_over_tls(broker: testing.Broker) -> None:
    assert broker.certificates is not None
    options = {'ca_certs': broker.certificates.ca_certs, 'cert_reqs': ssl.CERT_REQUIRED}
    with amqp.Connection(f'localhost:{broker.tls_port}', ssl=options) as connection:
        assert connection.channel().queue_declare('', exclusive=True).queue.startswith('amq.gen-')


def test_plain_text_to_the_port_with_tls_and_the_reverse(broker: testing.Broker) -> None:
    with pytest.raises((OSError, gamqp.exceptions.AMQPError)):
        gamqp.connect(f'amqp://127.0.0.1:{broker.tls_port}')
    with pytest.raises((OSError, gamqp.exceptions.AMQPError)):
        gamqp.connect(f'amqps://127.0.0.1:{broker.port}')


def test_without_tls_there_is_no_url_for_it() -> None:
    with testing.Broker() as broker, pytest.raises(RuntimeError, match=r'Broker\(tls=True\)'):
        assert broker.tls_url
