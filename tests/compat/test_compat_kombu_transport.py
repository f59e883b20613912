"""The transport ``gamqp.kombu:Transport``: what it does differently from kombu's own, patched and not patched.

What it has in common with that one is in ``test_compat_kombu.py``. Each program is a process of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import greenlets
import pytest
import scenarios
from certificates import Certificates
from installed import is_installed
from tls_proxy import Front

PROGRAMS = Path(__file__).parent / 'programs'
PATCHED = PROGRAMS / 'kombu_transport.py'
UNPATCHED = PROGRAMS / 'kombu_unpatched.py'
TLS = PROGRAMS / 'kombu_tls.py'

pytestmark = [
    pytest.mark.skipif(not is_installed('kombu'), reason='kombu is not installed'),
    pytest.mark.limit(scenarios.PATIENCE + 20),
]


@pytest.mark.parametrize('scenario', scenarios.names_in(PATCHED))
def test_the_transport(rabbit: Any, scenario: str) -> None:
    if not rabbit.managed:
        pytest.skip('the broker has no management API, by which connections are closed')
    scenarios.check(PATCHED, scenario, greenlets.GREEN, rabbit.url, rabbit.vhost)


@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='nothing is patched: once is enough')
@pytest.mark.parametrize('scenario', scenarios.names_in(UNPATCHED))
def test_the_transport_without_greenlets(rabbit: Any, scenario: str) -> None:
    scenarios.check(UNPATCHED, scenario, rabbit.url, rabbit.vhost)


@pytest.fixture(scope='module')
def tls_front(rabbit: Any, certificates: Certificates) -> Iterator[Front]:
    """TLS in front of the broker: who speaks plain text to it is not let in."""
    with Front(rabbit.node.port, certificates.server, answer_goodbye=True) as front:
        yield front
        assert not [error for error in front.errors if isinstance(error, ssl.SSLError)], front.errors


@pytest.mark.parametrize('library', [greenlets.GREEN, 'none'])
@pytest.mark.parametrize('scenario', scenarios.names_in(TLS))
def test_amqps_with_the_transport_given_by_name(
    rabbit: Any, tls_front: Front, certificates: Certificates, library: str, scenario: str
) -> None:
    if library == 'none' and greenlets.GREEN != 'gevent':
        pytest.skip('nothing is patched: once is enough')
    if scenario == 'a_connection_of_celery_has_tls' and not is_installed('celery'):
        pytest.skip('Celery is not installed')
    scenarios.check(
        TLS, scenario, library, f'127.0.0.1:{tls_front.port}', quote(rabbit.vhost, safe=''), certificates.trust
    )
