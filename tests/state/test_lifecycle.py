"""Lifecycle: the table of states, and the reason of an end that anybody may raise."""

from __future__ import annotations

import pytest

from gamqp import exceptions
from gamqp.state import lifecycle
from gamqp.state.lifecycle import TRANSITIONS, Lifecycle, Reason

EVENTS = {event for row in TRANSITIONS.values() for event in row}


def lost(text: str = 'lost', clean: bool = False) -> Reason:
    return Reason(exceptions.RecoverableConnectionError(text), clean)


def in_state(state: str) -> Lifecycle:
    life = Lifecycle()
    life.state = state
    return life


def test_a_whole_life() -> None:
    life = Lifecycle()
    seen = [life.state]
    for event in ('open', 'opened', 'reopen', 'opened', 'close'):
        life.move(event)
        seen.append(life.state)
    assert life.end(lost())
    assert seen == ['new', 'opening', 'open', 'opening', 'open', 'closing']
    assert life.state == lifecycle.CLOSED
    life.move('open')
    assert (life.state, life.reason) == (lifecycle.OPENING, None)


@pytest.mark.parametrize('state', TRANSITIONS)
@pytest.mark.parametrize('event', sorted(EVENTS))
def test_an_event_without_a_row_says_so_and_changes_nothing(state: str, event: str) -> None:
    life = in_state(state)
    if event in TRANSITIONS[state]:
        life.move(event)
        assert life.state == TRANSITIONS[state][event]
    else:
        with pytest.raises(RuntimeError, match=f"no event '{event}' in state '{state}'"):
            life.move(event)
        assert life.state == state


@pytest.mark.parametrize('state', [state for state in TRANSITIONS if state != lifecycle.CLOSED])
def test_every_state_can_end(state: str) -> None:
    life = in_state(state)
    assert life.end(lost())
    assert life.state == lifecycle.CLOSED


def test_the_first_reason_wins() -> None:
    life = in_state(lifecycle.OPEN)
    first = lost('first')
    assert life.end(first)
    assert not life.end(lost('second'))
    assert life.reason is first


def test_the_error_for_a_call_is_the_reason_or_what_the_caller_says() -> None:
    life = Lifecycle()
    with pytest.raises(exceptions.RecoverableConnectionError, match='too early'):
        raise life.error_maker('too early')()
    life.end(Reason(exceptions.NotFound('gone')))
    with pytest.raises(exceptions.NotFound, match='gone'):
        raise life.error_maker('too late')()


def test_a_reason_makes_a_fresh_error_each_time() -> None:
    original = exceptions.NotFound('gone', (50, 10), reply_code=404)
    cause = OSError('broken')
    original.__cause__ = cause
    try:
        raise original
    except exceptions.NotFound:
        pass
    reason = Reason(original)
    first, second = reason.make_error(), reason.make_error()
    assert first is not second
    assert first is not original
    assert type(first) is exceptions.NotFound
    assert str(first) == str(original) == str(reason)
    assert first.__cause__ is cause
    assert first.__traceback__ is None
    with pytest.raises(exceptions.NotFound):
        reason.throw()


@pytest.mark.parametrize('error', [OSError(104, 'reset'), KeyError('x'), TimeoutError('late')])
def test_a_reason_may_be_any_exception(error: BaseException) -> None:
    made = Reason(error).make_error()
    assert type(made) is type(error)
    assert made.args == error.args
