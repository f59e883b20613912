"""Fixtures of the compatibility ring: a scripted peer beside the real brokers, and a broker to starve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node import Node
from script import ScriptedBroker


@pytest.fixture
def peer() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as peer:
        yield peer


@pytest.fixture(scope='session')
def own_node(rabbit: Any) -> Iterator[Node]:
    """A broker of the same version for this ring alone: an alarm is everybody's."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    # What later 4.x refuse by themselves.
    config = ['deprecated_features.permit.transient_nonexcl_queues = false'] if rabbit.major >= 4 else []
    with Node(rabbit.label, config=config) as node:
        yield node
