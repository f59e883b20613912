"""FlowControl by itself: when a publish has to wait, and how fast on_blocked may be called."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import greenlets
import inside
import pytest

from gamqp import exceptions, green
from gamqp.connection.flow_control import BYTES_PER_LOOK, CALLS_AT_ONCE, FlowControl
from gamqp.connection.receive_backpressure import ReceiveBackpressure
from gamqp.state.counters import Counters
from gamqp.state.receive_budget import ReceiveBudget


class Owner:
    """What FlowControl asks of a connection."""

    def __init__(self) -> None:
        self.rpc_timeout = 10.0
        self.blocked_policy = 'wait'
        self.blocked_timeout: float | None = None
        self.on_blocked: Any = None
        self.on_unblocked: Any = None
        self.reports: list[str] = []

    def _check_open(self, link: Any = None) -> None:
        pass

    def _report(self, text: str, *args: Any) -> None:
        self.reports.append(text % args)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def memory(owner: Owner) -> ReceiveBackpressure:
    return ReceiveBackpressure(owner, ReceiveBudget(10, 0))


@pytest.fixture
def flow(owner: Owner, memory: ReceiveBackpressure) -> FlowControl:
    flow = FlowControl(owner, Counters(), memory)
    for part in (memory, flow):
        part.begin(green.backend())
        part.link = SimpleNamespace(
            reason=None, has_unread_input=False, listening=True, writer=SimpleNamespace(full=False)
        )
    return flow


def test_a_publish_waits_while_the_broker_is_blocked(
    owner: Owner, memory: ReceiveBackpressure, flow: FlowControl
) -> None:
    assert not flow.must_wait_to_publish
    flow.on_blocked('low on disk')
    assert flow.must_wait_to_publish and len(owner.reports) == 1
    waiting = greenlets.spawn(flow.wait_to_publish, None)
    greenlets.wait_until(lambda: inside.waits_for_answers(memory) == 1)  # and so the connection is read on
    flow.on_unblocked()
    waiting.get()
    assert not inside.waits_for_answers(memory) and not flow.must_wait_to_publish


def test_the_policies(owner: Owner, memory: ReceiveBackpressure, flow: FlowControl) -> None:
    flow.on_blocked('low on disk')
    owner.blocked_timeout = 0
    with pytest.raises(exceptions.Blocked, match='low on disk'):
        flow.wait_to_publish(None)
    owner.blocked_policy = 'raise'
    with pytest.raises(exceptions.Blocked):
        flow.wait_to_publish(green.Deadline(None))
    owner.blocked_policy = 'pass'
    assert not flow.must_wait_to_publish
    flow.wait_to_publish(None)
    assert not inside.waits_for_answers(memory)


def test_the_time_of_a_blockage_counts_once(flow: FlowControl) -> None:
    flow.on_blocked('low on disk')
    flow.on_blocked('low on memory')  # the same blockage
    now = time.monotonic() + 5
    assert 5 <= flow.blocked_for(now) < 15
    flow.end()
    assert flow.blocked_for(now) == 0 and flow.blocked_reason is None


def test_the_end_wakes_whoever_waits(memory: ReceiveBackpressure, flow: FlowControl) -> None:
    flow.on_blocked('low on disk')
    waiting = greenlets.spawn(flow.wait_to_publish, None)
    greenlets.wait_until(lambda: inside.waits_for_answers(memory) == 1)  # and so the connection is read on
    flow.link.reason = 'lost'
    for _ in flow.end():
        pass
    waiting.get()


def test_only_so_many_calls_of_on_blocked_run_and_the_latest_state_is_told(owner: Owner, flow: FlowControl) -> None:
    told: list[str] = []
    gate = green.Gate(green.backend())

    def on_blocked(reason: str) -> None:
        told.append(reason)
        gate.wait(None)

    owner.on_blocked = on_blocked
    for number in range(CALLS_AT_ONCE + 5):
        flow.on_blocked(str(number))
    greenlets.wait_until(lambda: len(told) == CALLS_AT_ONCE)
    for _ in gate.wake_each():
        pass
    greenlets.wait_until(lambda: told[CALLS_AT_ONCE:] == [str(CALLS_AT_ONCE + 4)])
    gate.wake_all()


def test_a_connection_that_is_gone_is_told_nothing(memory: ReceiveBackpressure) -> None:
    nobody = FlowControl(Owner(), Counters(), memory)  # held weakly: it is gone at once
    nobody.begin(green.backend())
    nobody.on_blocked('low on disk')
    nobody.on_unblocked()
    assert nobody.blocked_reason is None


def test_a_turn_of_the_hub_is_due_after_so_many_bytes_or_when_something_has_arrived(flow: FlowControl) -> None:
    assert not flow.turn_due()
    flow.unlooked = BYTES_PER_LOOK
    assert flow.turn_due()  # nobody has let others run yet
    assert not flow.turn_due()
    flow.link.has_unread_input = True
    assert flow.turn_due()


def test_a_slow_handler_of_a_connection_that_is_being_opened_again_is_no_error(owner: Owner, flow: FlowControl) -> None:
    """There was one call too many; by the time one returns, there is no socket to make it for."""
    waiting, ended = green.Event(greenlets.backend), list[Any]()

    def handle(*args: Any) -> None:
        waiting.wait()
        ended.append(args)

    owner.on_blocked = owner.on_unblocked = handle
    for _ in range(CALLS_AT_ONCE):
        flow.on_blocked('low on disk')
        flow.on_unblocked()
    greenlets.sleep(0)
    calls = inside.calls_about_blocking(flow)
    flow.begin(green.backend())
    waiting.set()
    greenlets.wait_until(lambda: all(call.dead for call in calls))
    assert len(ended) == CALLS_AT_ONCE
    assert all(getattr(call, 'exception', None) is None for call in calls)  # gevent keeps what ended a greenlet
