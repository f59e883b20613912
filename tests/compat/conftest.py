"""Fixtures of the compatibility ring: a scripted peer beside the real brokers, and a broker to starve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import broker_tools
import pytest
from node import Node


@pytest.fixture(scope='session')
def own_node(rabbit: Any) -> Iterator[Node]:
    """A broker of the same version for this ring alone: an alarm is everybody's."""
    with broker_tools.node_like(rabbit) as node:
        yield node
