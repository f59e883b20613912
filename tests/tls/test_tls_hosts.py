"""Several URLs with TLS: each host is held to the name and the authority of its own URL."""

from __future__ import annotations

import ssl

import greenlets
import inside
import pytest
from certificates import Certificates
from script import ScriptedBroker
from tls_proxy import Front

import gamqp


def test_each_certificate_must_have_the_name_of_its_own_url(peer: ScriptedBroker, certificates: Certificates) -> None:
    """The first host has a certificate of another name than its URL wants, the second has the one that it wants."""
    elsewhere = certificates.leaf('elsewhere', names=('elsewhere.test',))
    with Front(peer.port, elsewhere) as wrong, Front(peer.port, elsewhere) as right:
        trust = f'cacertfile={certificates.trust}'
        urls = [
            f'amqps://127.0.0.1:{wrong.port}?{trust}',
            f'amqps://127.0.0.1:{right.port}?{trust}&server_name_indication=elsewhere.test',
        ]
        task = greenlets.spawn(lambda: gamqp.connect(urls, shuffle=False))
        peer.handshake()
        connection = task.get()
        assert connection.host == f'127.0.0.1:{right.port}'
        assert right.names == ['elsewhere.test']
        assert inside.hosts(connection).failed() == {('127.0.0.1', wrong.port): 'SSLCertVerificationError'}
        connection.collect()
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            gamqp.connect([urls[0], 'amqp://127.0.0.1:1'])
        assert f'127.0.0.1:{wrong.port}' in str(caught.value) and '127.0.0.1:1: Connection' in str(caught.value)


def test_one_with_tls_and_one_without(peer: ScriptedBroker, certificates: Certificates) -> None:
    hello = f'amqps://127.0.0.1:{peer.port}?cacertfile={certificates.trust}'  # which speaks no TLS
    task = greenlets.spawn(lambda: gamqp.connect([hello, f'amqp://{peer.host}'], shuffle=False))
    peer.dismiss()
    peer.handshake()
    connection = task.get()
    assert not inside.transport(connection).encrypts
    connection.collect()
