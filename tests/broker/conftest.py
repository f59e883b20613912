"""Fixtures of the scripted ring: a peer, a connection to it, a channel on that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import pytest
from flooding import temporary_files
from script import ScriptedBroker
from scripted_consumers import Work

import gamqp


@pytest.fixture
def client(request: pytest.FixtureRequest, peer: ScriptedBroker) -> gamqp.Connection:
    """A connection that the peer has let in; it dies with the peer. CLIENT in a module: arguments of ``peer.open``."""
    return peer.open(**getattr(request.module, 'CLIENT', {}))


@pytest.fixture
def channel(peer: ScriptedBroker, client: gamqp.Connection) -> gamqp.Channel:
    """Channel 1 of ``client``."""
    return peer.open_channel(client)


@pytest.fixture
def confirming(peer: ScriptedBroker, channel: gamqp.Channel) -> gamqp.Channel:
    """``channel`` in confirm mode."""
    peer.turn_confirms_on(channel)
    return channel


@pytest.fixture
def work() -> Work:
    """A handler for subscribe."""
    return Work()


@pytest.fixture
def no_file_is_left() -> Iterator[None]:
    """Fails the test that leaves a spool's file open."""
    before = temporary_files()
    yield
    assert temporary_files() == before


@pytest.fixture
def got() -> list[Any]:
    """For callbacks to put their messages in."""
    return []


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that never answers: a listener whose queue of connections is full."""
    listener = greenlets.backend.socket_class()()
    listener.bind(('127.0.0.1', 0))
    listener.listen(0)
    fillers = []
    for _ in range(3):
        filler = greenlets.backend.socket_class()()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()
    for sock in (*fillers, listener):
        sock.close()


@pytest.fixture
def refusing() -> tuple[str, int]:
    """An address on which nobody listens."""
    with greenlets.backend.socket_class()() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()
