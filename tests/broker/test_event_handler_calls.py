"""The calls of a channel's event handlers that are due, as an object: who runs them, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlets
import inside
import pytest

import gamqp
from gamqp import green
from gamqp.channel.event_handler_calls import EventHandlerCalls


@pytest.fixture
def calls(client: gamqp.Connection, channel: gamqp.Channel) -> EventHandlerCalls:
    """Those of a channel that has nothing to tell."""
    assert inside.has_no_handler_calls(channel)
    return inside.handler_calls(channel)


@pytest.fixture
def publisher(client: gamqp.Connection) -> green.Slot:
    return green.Slot(greenlets.backend)


def note(got: list[Any], what: str) -> Callable[[], None]:
    return lambda: got.append(what)


def stop() -> None:
    raise KeyError('a handler')


def test_drain_events_runs_what_is_due_in_order(
    client: gamqp.Connection, calls: EventHandlerCalls, got: list[Any]
) -> None:
    for what in 'abc':
        calls.pending.add_call(note(got, what))
        calls.flag()
    assert bool(calls)
    client.drain_events(timeout=30)
    assert got == ['a', 'b', 'c']
    assert not calls
    with pytest.raises(TimeoutError):  # there was one notice for the three
        client.drain_events(timeout=0)


def test_one_that_raises_leaves_the_rest_to_the_next_drain_events(
    client: gamqp.Connection, calls: EventHandlerCalls, got: list[Any]
) -> None:
    for call in (note(got, 'a'), stop, note(got, 'b')):
        calls.pending.add_call(call)
    calls.flag()
    with pytest.raises(KeyError, match='a handler'):
        client.drain_events(timeout=30)
    assert (got, calls.running) == (['a'], False)
    client.drain_events(timeout=30)
    assert got == ['a', 'b']


def test_no_handler_runs_inside_another(client: gamqp.Connection, calls: EventHandlerCalls, got: list[Any]) -> None:
    def first() -> None:
        got.append('first begins')
        calls.run()
        got.append('first ends')

    calls.pending.add_call(first)
    calls.pending.add_call(note(got, 'second'))
    calls.run()
    assert got == ['first begins', 'first ends', 'second']


def test_while_one_greenlet_runs_them_another_has_nothing_to_do(
    client: gamqp.Connection, calls: EventHandlerCalls, got: list[Any]
) -> None:
    go_on = green.Event(greenlets.backend)

    def first() -> None:
        got.append('first')
        assert go_on.wait(60)

    calls.pending.add_call(first)
    calls.pending.add_call(note(got, 'second'))
    running = greenlets.spawn(calls.run)
    greenlets.wait_until(lambda: calls.running)
    calls.run()
    assert got == ['first']
    go_on.set()
    running.get()
    assert got == ['first', 'second']


def test_a_publisher_runs_its_own_and_nobody_elses(
    client: gamqp.Connection, calls: EventHandlerCalls, publisher: green.Slot, got: list[Any]
) -> None:
    calls.pending.add_own(publisher, note(got, 'own'))
    calls.pending.add_own(green.Slot(greenlets.backend), note(got, "another's"))
    calls.pending.add_call(note(got, 'of drain_events'))
    calls.run_own(publisher)
    assert got == ['own']


@pytest.mark.parametrize('how', ['one raises', 'the publisher has gone'])
def test_what_a_publisher_does_not_run_is_for_drain_events(
    client: gamqp.Connection, calls: EventHandlerCalls, publisher: green.Slot, got: list[Any], how: str
) -> None:
    if how == 'one raises':
        calls.pending.add_own(publisher, stop)
        calls.pending.add_own(publisher, note(got, 'own'))
        with pytest.raises(KeyError, match='a handler'):
            calls.run_own(publisher)
    else:
        calls.pending.add_own(publisher, note(got, 'own'))
        calls.leave_own(publisher)
    assert got == []
    client.drain_events(timeout=30)
    assert got == ['own']


def test_a_handler_that_publishes_has_returned_when_those_of_its_message_run(
    client: gamqp.Connection, calls: EventHandlerCalls, publisher: green.Slot, got: list[Any]
) -> None:
    def publishing() -> None:
        calls.pending.add_own(publisher, note(got, 'of its message'))
        calls.run_own(publisher)
        got.append('it returns')

    calls.pending.add_call(publishing)
    calls.run()
    assert got == ['it returns', 'of its message']
