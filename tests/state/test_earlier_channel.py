"""EarlierChannel: which deliveries are for the channel that had the number before."""

from __future__ import annotations

from gamqp.state.earlier_channel import DIRECT_REPLIES, EarlierChannel


def opened(numbered: bool = True) -> EarlierChannel:
    earlier = EarlierChannel(numbered)
    assert earlier.awaits_ok
    earlier.awaits_ok = False
    return earlier


def test_the_first_delivery_has_tag_1_and_each_other_one_the_next() -> None:
    earlier = opened()
    for tag in (1, 2, 3):
        assert not earlier.is_for_it(tag)
        earlier.note_arrival(tag, 'jobs')


def test_every_other_tag_is_one_of_the_earlier_channel() -> None:
    earlier = opened()
    assert earlier.is_for_it(17)
    earlier.note_arrival(1, 'jobs')
    assert earlier.is_for_it(1)
    assert earlier.is_for_it(18)
    assert not earlier.is_for_it(2)


def test_what_has_no_tag_cannot_be_told_by_it() -> None:
    """A returned message, for one."""
    earlier = opened()
    earlier.note_arrival(1, 'jobs')
    assert not earlier.is_for_it(0)
    earlier.note_arrival(0, 'jobs')
    assert not earlier.is_for_it(2)


def test_after_a_direct_reply_tags_tell_nothing() -> None:
    earlier = opened()
    earlier.note_arrival(1, DIRECT_REPLIES)
    assert not earlier.is_for_it(1)
    assert not earlier.is_for_it(17)


def test_tags_tell_nothing_of_a_broker_that_may_leave_gaps() -> None:
    earlier = opened(numbered=False)
    assert not earlier.is_for_it(17)
    earlier.note_arrival(17, 'jobs')
    assert not earlier.is_for_it(4)
