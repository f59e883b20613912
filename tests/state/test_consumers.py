"""Consumers: fresh tags are fresh."""

from __future__ import annotations

from gamqp import exceptions
from gamqp.state.consumer_views import Callbacks, CancelCallbacks
from gamqp.state.consumers import REMEMBERED, ConsumerRecord, ConsumerTable
from gamqp.state.expected_replies import Expected
from gamqp.state.lifecycle import Reason


def test_fresh_tags_differ_and_carry_the_channel() -> None:
    consumers = ConsumerTable()
    tags = [consumers.fresh_tag(7) for _ in range(3)]
    assert len(set(tags)) == 3
    assert all('.7.' in tag for tag in tags)
    assert not set(tags) & {ConsumerTable().fresh_tag(8)}


def test_a_fresh_tag_avoids_one_that_the_program_chose() -> None:
    tag = ConsumerTable().fresh_tag(1)
    consumers = ConsumerTable()
    consumers[tag] = ConsumerRecord(tag, None, None, False)
    assert consumers.fresh_tag(1) != tag


def test_a_tag_is_not_made_twice_although_its_consumer_has_gone() -> None:
    consumers = ConsumerTable()
    tag = consumers.fresh_tag(1)
    consumers[tag] = ConsumerRecord(tag, None, None, False)
    del consumers[tag]
    assert consumers.fresh_tag(1) != tag


def test_what_has_left_is_remembered_for_a_while_and_only_so_many() -> None:
    consumers = ConsumerTable()
    for number in range(REMEMBERED + 1):
        tag = f'{number}'
        consumers[tag] = ConsumerRecord(tag, None, None, number % 2 == 0)
        consumers[tag].queue = f'queue {number}'
        assert consumers.leave(tag) is not None
    assert consumers.queue_of('0') == consumers.queue_of('never') == ''
    assert not consumers.needs_no_ack('0')
    assert (consumers.queue_of('1'), consumers.needs_no_ack('1')) == ('queue 1', False)
    assert (consumers.queue_of('2'), consumers.needs_no_ack('2')) == ('queue 2', True)
    consumers['2'] = ConsumerRecord('2', None, None, False)
    consumers['2'].queue = 'another'
    assert (consumers.queue_of('2'), consumers.needs_no_ack('2')) == ('another', False)
    consumers.clear()
    assert consumers.queue_of('3') == ''


def test_views_of_the_callbacks_follow_the_consumers() -> None:
    consumers = ConsumerTable()
    callbacks, on_cancels = Callbacks(consumers), CancelCallbacks(consumers)
    for tag in 'abc':
        consumers.enter(ConsumerRecord(tag, print, repr if tag == 'b' else None, False))
    assert callbacks == {'a': print, 'b': print, 'c': print}
    assert on_cancels == {'b': repr}
    assert ('a' in callbacks, 'a' in on_cancels, len(callbacks), len(on_cancels)) == (True, False, 3, 1)
    assert on_cancels.get('a') is None
    seen = []
    for tag, callback in callbacks.items():
        seen.append((tag, callback))
        consumers.remove('b')
    assert seen == [('a', print), ('c', print)]
    assert (list(callbacks.values()), repr(on_cancels)) == ([print, print], '{}')


# -- between basic.consume and consume-ok ---------------------------------------------------


def expected() -> Expected:
    return Expected(((60, 31),), slot=object())


def test_a_consumer_is_starting_until_its_consume_ok() -> None:
    table = ConsumerTable()
    assert not table.is_starting('a')
    table.note_starting('a')
    table.note_starting('b')
    assert table.is_starting('a')
    assert table.note_started('a') == []
    assert not table.is_starting('a')
    assert table.is_starting('b')
    assert table.note_started('never') == []


def test_a_cancel_waits_until_the_consumer_has_started() -> None:
    table, cancel = ConsumerTable(), expected()
    table.note_starting('a')
    assert not table.has_cancel_waiting('a')
    assert not table.awaits_cancels
    table.cancel_when_started('a', cancel)
    assert table.has_cancel_waiting('a')
    assert table.awaits_cancels
    assert table.note_started('a') == [cancel]
    assert not table.has_cancel_waiting('a')
    assert not table.awaits_cancels


def test_a_cancel_whose_caller_has_gone_is_awaited_by_nobody() -> None:
    table, cancel = ConsumerTable(), expected()
    table.note_starting('a')
    table.cancel_when_started('a', cancel)
    cancel.abandon()
    assert not table.awaits_cancels


def test_cancels_that_wait_survive_the_consumers_of_a_channel_that_ends() -> None:
    """The channel clears the table first, and gives their callers the error then."""
    table, cancel = ConsumerTable(), expected()
    table.note_starting('a')
    table.cancel_when_started('a', cancel)
    table.clear()
    assert list(table.take_cancels()) == [cancel]
    assert not table.is_starting('a')


# -- the term ---------------------------------------------------------------------------------


def test_all_consumers_of_an_open_channel_learn_of_its_end_at_once() -> None:
    table, reason = ConsumerTable(), Reason(exceptions.RecoverableConnectionError('the end'))
    assert not table.end_term(reason)  # nobody has asked for it
    term = table.term
    assert table.term is term
    assert term.reason is None
    assert table.end_term(reason)
    assert term.reason is reason
    assert table.term is not term
    assert table.term.reason is None
