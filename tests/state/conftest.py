"""Layer 1 knows neither greenlet nor socket, so there is nothing to look for after each test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Instead of the leak check of the whole tree, which looks at every object there is."""
