"""A real broker with a TLS listener beside the plain one, in a node of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from certificates import Certificates
from node import Node
from ports import free_ports

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


class Secure:
    """A real broker with a TLS listener, and what it takes to connect to it."""

    def __init__(self, node: Node, port: int, certificates: Certificates) -> None:
        self.node, self.port = node, port
        self.host = f'localhost:{port}'
        self.url = f'amqps://guest:guest@localhost:{port}/%2f'
        self.trust: dict[str, Any] = {'ca_certs': certificates.trust}


@contextlib.contextmanager
def secure_node(label: str, certificates: Certificates) -> Iterator[Secure]:
    """Start a node of the version *label*, which is ended afterwards."""
    (port,) = free_ports(1)
    server = certificates.server
    config = _CONFIG.format(port=port, ca=certificates.trust, cert=server.certfile, key=server.keyfile).splitlines()
    with Node(label, plugins=['rabbitmq_auth_mechanism_ssl'], config=config) as node:
        yield Secure(node, port, certificates)
