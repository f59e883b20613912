"""A handler that keeps the hub in a process that is not patched is named in the log, once. This process is not."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import messages, started, subscribed

import gamqp
from gamqp.consuming import blocking_handlers

pytestmark = pytest.mark.real_seconds


@pytest.fixture(autouse=True)
def _nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inside.forget_blocking_handlers(monkeypatch)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    caplog.set_level(logging.WARNING, 'gamqp.consumer')
    return caplog


def said(log: Any) -> list[str]:
    greenlets.sleep(0)
    return [record.getMessage() for record in log.records if 'kept every other greenlet' in record.getMessage()]


def sleepy(message: Any) -> None:
    time.sleep(0.11)


def cooperative(message: Any) -> None:
    greenlets.sleep(0.11)


def handled(peer: ScriptedBroker, consumer: gamqp.Consumer, *tags: int) -> None:
    for tag in tags:
        peer.raw(messages(consumer.tag, [tag]))
        assert peer.expect('basic.ack').delivery_tag == tag


@pytest.mark.parametrize('how', ['function', 'partial', 'method'])
def test_a_handler_that_blocks_is_named_once(peer: ScriptedBroker, channel: gamqp.Channel, log: Any, how: str) -> None:
    class Handler:
        def on_message(self, message: Any) -> None:
            sleepy(message)

    handler = {'function': sleepy, 'partial': functools.partial(sleepy), 'method': Handler().on_message}[how]
    consumer = subscribed(peer, channel, handler)
    handled(peer, consumer, 1, 2, 3, 4)
    [text] = said(log)
    assert ('on_message' if how == 'method' else f'{__name__}.sleepy') in text
    assert greenlets.backend.PATCH in text
    assert consumer.tag in text
    other = subscribed(peer, channel, handler)
    assert inside.block_watch(other) is None


def test_a_busy_worker_is_looked_at_too(peer: ScriptedBroker, channel: gamqp.Channel, log: Any) -> None:
    """It does not end between two messages."""
    consumer = subscribed(peer, channel, sleepy, prefetch=0)
    flow = inside.flow_control(consumer.channel.connection)
    flow.until_look = 2
    peer.raw(messages(consumer.tag, range(1, 6)))
    for tag in range(1, 6):
        peer.expect('basic.ack')
        flow.until_look = min(flow.until_look, 1)
        assert tag
    assert len(said(log)) == 1


def test_a_handler_that_lets_others_run_may_take_its_time(
    peer: ScriptedBroker, channel: gamqp.Channel, log: Any
) -> None:
    consumer = subscribed(peer, channel, cooperative)
    handled(peer, consumer, 1, 2, 3)
    assert said(log) == []
    assert inside.block_watch(consumer) is not None and inside.block_watch(consumer).armed


def test_short_work_costs_nothing(
    peer: ScriptedBroker, channel: gamqp.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking_handlers, 'LIMIT', 60)  # a busy machine is no handler
    consumer = subscribed(peer, channel, lambda message: None)
    handled(peer, consumer, 1, 2)
    assert not inside.looks_whether_it_blocks(consumer)


def test_nothing_is_looked_at_where_the_process_is_patched(
    peer: ScriptedBroker, channel: gamqp.Channel, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greenlets.backend, 'unpatched', list)
    consumer = subscribed(peer, channel, sleepy)
    handled(peer, consumer, 1, 2, 3)
    assert inside.block_watch(consumer) is None
    assert said(log) == []


def test_of_an_rpc_server_it_is_the_programs_handler(peer: ScriptedBroker, channel: gamqp.Channel, log: Any) -> None:
    made: list[gamqp.RPCServer] = []

    def begin() -> Any:
        made.append(gamqp.RPCServer(channel, 'q', sleepy))
        return made[0].consumer

    consumer = started(peer, begin)
    handled(peer, consumer, 1, 2, 3)
    [text] = said(log)
    assert f'{__name__}.sleepy' in text
