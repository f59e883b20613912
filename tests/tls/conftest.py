"""Fixtures of the TLS ring: certificates, a scripted broker, and real ones with a TLS listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from certificates import Certificates
from node import Node
from ports import free_ports
from script import ScriptedBroker
from tls_proxy import Front

_CONFIG = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
"""


@pytest.fixture(scope='session')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp('certificates'))


class Secure:
    """A real broker with a TLS listener, and what it takes to connect to it."""

    def __init__(self, node: Node, port: int, certificates: Certificates) -> None:
        self.node, self.port = node, port
        self.host = f'localhost:{port}'
        self.url = f'amqps://guest:guest@localhost:{port}/%2f'
        self.trust: dict[str, Any] = {'ca_certs': certificates.trust}


@pytest.fixture(scope='session')
def secure(rabbit: Any, certificates: Certificates) -> Iterator[Secure]:
    """One per version, for all tests of this ring."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    (port,) = free_ports(1)
    server = certificates.server
    config = _CONFIG.format(port=port, ca=certificates.trust, cert=server.certfile, key=server.keyfile).splitlines()
    with Node(rabbit.label, plugins=['rabbitmq_auth_mechanism_ssl'], config=config) as node:
        yield Secure(node, port, certificates)


@pytest.fixture
def front(peer: ScriptedBroker, certificates: Certificates) -> Iterator[Front]:
    """TLS in front of the scripted peer."""
    with Front(peer.port, certificates.server) as front:
        yield front


@pytest.fixture
def mute(certificates: Certificates) -> Iterator[Front]:
    """It accepts, and says nothing."""
    with Front(None, certificates.server, mute=True) as front:
        yield front
