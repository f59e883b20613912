"""Fixtures of the TLS ring, besides those every test has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from certificates import Certificates
from tls_proxy import Front


@pytest.fixture
def mute(certificates: Certificates) -> Iterator[Front]:
    """It accepts, and says nothing."""
    with Front(None, certificates.server, mute=True) as front:
        yield front
