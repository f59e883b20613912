"""Fixtures of the tests of ``gamqp.testing``: a broker, like each version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conversations import OPEN

from gamqp import testing


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    """A broker of the test's own."""
    with testing.Broker() as broker:
        yield broker


@pytest.fixture(autouse=True)
def talkers_are_closed() -> Iterator[None]:
    """Also when a test fails."""
    yield
    for talk in list(OPEN):
        talk.close()


@pytest.fixture(params=['3.10', '4.3'])
def like(request: Any) -> str:
    """The version to be like."""
    return str(request.param)
