"""Fixtures of the TLS ring: certificates, a scripted broker, and real ones with a TLS listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from certificates import Certificates
from script import ScriptedBroker
from tls_node import Secure, secure_node
from tls_proxy import Front


@pytest.fixture(scope='session')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp('certificates'))


@pytest.fixture(scope='session')
def secure(rabbit: Any, certificates: Certificates) -> Iterator[Secure]:
    """One per version, for all tests of this ring."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    with secure_node(rabbit.label, certificates) as secure:
        yield secure


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
