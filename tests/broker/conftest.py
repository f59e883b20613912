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
def peer() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as peer:
        yield peer


@pytest.fixture
def client(peer: ScriptedBroker) -> gamqp.Connection:
    """A connection that the peer has let in; it dies with the peer."""
    return peer.open()


@pytest.fixture
def channel(peer: ScriptedBroker, client: gamqp.Connection) -> gamqp.Channel:
    """Channel 1 of ``client``."""
    return peer.open_channel(client)


@pytest.fixture
def confirming(peer: ScriptedBroker, channel: gamqp.Channel) -> gamqp.Channel:
    """``channel`` in confirm mode."""
    selecting = greenlets.spawn(channel.confirm_select)
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    selecting.get()
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
