"""Replies: the line of what the broker owes us, with and without those who asked."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state.expected_replies import Expected, Replies

A, B, C = (50, 11), (50, 31), (60, 72)


class Waiter:
    """What a slot is to this layer."""

    def __init__(self) -> None:
        self.outcome: list[Any] = []

    def succeed(self, value: Any = None) -> None:
        self.outcome.append(value)

    def fail(self, make_error: Any) -> None:
        self.outcome.append(make_error())


def ask(replies: Replies, *sigs: tuple[int, int], **hooks: Any) -> tuple[Expected, Waiter]:
    waiter = Waiter()
    expected = Expected(sigs, waiter, **hooks)
    replies.expect(expected)
    return expected, waiter


def test_replies_go_to_those_who_asked_in_order() -> None:
    replies = Replies()
    (_, first), (_, second) = ask(replies, A), ask(replies, A)
    replies.match(A).arrive(1)
    assert (first.outcome, second.outcome) == ([1], [])
    replies.match(A).arrive(2)
    assert (first.outcome, second.outcome) == ([1], [2])
    assert len(replies) == 0


def test_one_of_several_replies_may_come_and_is_noted() -> None:
    replies = Replies()
    expected, _ = ask(replies, A, C)
    assert replies.match(C) is expected
    assert expected.sig == C


def test_a_reply_to_nothing_is_an_unexpected_frame() -> None:
    with pytest.raises(exceptions.UnexpectedFrame, match='nobody asked for') as caught:
        Replies().match(A)
    assert caught.value.method_sig == A


def test_a_wrong_reply_names_what_was_due_and_stays_due() -> None:
    replies = Replies()
    expected, _ = ask(replies, A, C)
    with pytest.raises(exceptions.UnexpectedFrame, match=r'while Queue.declare_ok or Basic.get_empty was due'):
        replies.match(B)
    assert replies.match(A) is expected


def test_a_reply_to_an_abandoned_question_is_undone_and_reaches_nobody() -> None:
    replies, undone, noted = Replies(), [], []
    first, waiter = ask(replies, A, undo=undone.append, arrived=noted.append)
    _, second = ask(replies, A)
    first.abandon()
    replies.match(A).arrive('late')
    replies.match(A).arrive('in time')
    assert (noted, undone, waiter.outcome, second.outcome) == (['late'], ['late'], [], ['in time'])


def test_a_caller_killed_between_reply_and_waking_has_it_undone_once() -> None:
    replies, undone = Replies(), []
    expected, _ = ask(replies, A, undo=undone.append)
    replies.match(A).arrive('unseen')
    assert undone == []
    expected.abandon()
    expected.abandon()
    assert undone == ['unseen']


def test_a_reply_of_none_is_undone_too() -> None:
    undone: list[Any] = []
    expected = Expected((A,), Waiter(), undo=undone.append)
    expected.arrive(None)
    expected.abandon()
    assert undone == [None]


def test_the_hook_sees_the_reply_before_the_caller() -> None:
    order: list[str] = []

    class Told(Waiter):
        def succeed(self, value: Any = None) -> None:
            order.append('caller')

    Expected((A,), Told(), lambda reply: order.append('hook')).arrive(1)
    assert order == ['hook', 'caller']


def test_a_question_without_a_caller_is_only_noted() -> None:
    noted: list[Any] = []
    Expected((A,), None, noted.append).arrive(1)
    assert noted == [1]


def test_the_end_is_told_to_those_who_wait_each_by_an_error_of_its_own() -> None:
    replies, undone = Replies(), []
    (_, first), (gone, _), (_, third) = ask(replies, A), ask(replies, B, undo=undone.append), ask(replies, C)
    replies.expect(Expected((A,), None))
    gone.abandon()
    assert replies.awaited
    assert len(list(replies.fail_all(lambda: exceptions.NotFound('x')))) == 4
    assert isinstance(first.outcome[0], exceptions.NotFound)
    assert first.outcome[0] is not third.outcome[0]
    assert (len(replies), undone) == (0, [])


def test_the_end_may_spare_what_will_still_come() -> None:
    replies = Replies()
    (_, first), (_, second), (kept, waiter) = ask(replies, A), ask(replies, A), ask(replies, B)
    assert len(list(replies.fail_all(ValueError, but=B))) == 2
    assert (len(first.outcome), len(second.outcome), waiter.outcome) == (1, 1, [])
    assert replies.match(B) is kept


def test_a_reply_with_a_tag_may_be_overtaken_by_those_behind_it() -> None:
    replies = Replies()
    (_, consuming), (_, cancelling), (_, asking) = (
        ask(replies, A, tag='one'),
        ask(replies, A, tag='two'),
        ask(replies, B),
    )
    replies.match(B, ('queue', 0, 0)).arrive('asked')
    replies.match(A, ('two',)).arrive('cancelled')
    assert (consuming.outcome, cancelling.outcome, asking.outcome) == ([], ['cancelled'], ['asked'])
    replies.match(A, ('one',)).arrive('consumed')
    assert consuming.outcome == ['consumed'] and not len(replies)


def test_nothing_overtakes_a_reply_without_a_tag() -> None:
    replies = Replies()
    ask(replies, B)
    ask(replies, A, tag='one')
    with pytest.raises(exceptions.UnexpectedFrame):
        replies.match(A, ('one',))


def test_a_tag_that_nobody_asked_about_is_unexpected() -> None:
    replies = Replies()
    ask(replies, A, tag='one')
    with pytest.raises(exceptions.UnexpectedFrame):
        replies.match(A, ('other',))
