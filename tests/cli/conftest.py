"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import broker_tools
import greenlets
import pytest
from node import Node

import gamqp

# The commands run on gevent, whatever the tests run on: once is enough, unless a file is named.
collect_ignore_glob = [] if greenlets.GREEN == 'gevent' else ['test_*.py']


@pytest.fixture
def messages(rabbit: Any) -> Iterator[Callable[[str], list[gamqp.Message]]]:
    """Takes all messages out of a queue."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        yield lambda queue: broker_tools.get_all(channel, queue)


@pytest.fixture(scope='module')
def node(rabbit: Any) -> Iterator[Node]:
    """A broker of the same version that this module has to itself, to starve."""
    with broker_tools.node_like(rabbit) as node:
        yield node
