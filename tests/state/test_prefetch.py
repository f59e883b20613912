"""The limits of unacked deliveries on one channel."""

from __future__ import annotations

from gamqp.state.prefetch import NO_PREFETCH


def test_what_the_program_asks_for_is_what_the_broker_knows():
    prefetch = NO_PREFETCH.ask_for(10)
    assert (prefetch.wanted, prefetch.sent, prefetch.of_channel) == (10, 10, 0)
    assert not prefetch.differs_from(10)
    assert prefetch.differs_from(0)


def test_a_consumer_with_a_limit_of_its_own_leaves_what_the_program_wants():
    prefetch = NO_PREFETCH.ask_for(10).note_sent(100)
    assert (prefetch.wanted, prefetch.sent) == (10, 100)
    assert prefetch.differs_from(prefetch.wanted)
    assert not prefetch.note_sent(10).differs_from(10)


def test_without_a_word_there_is_no_limit():
    assert not NO_PREFETCH.differs_from(0)
    assert NO_PREFETCH.differs_from(1)
    # 0 was said then, which a channel that is given to somebody else shows.
    assert NO_PREFETCH.ask_for(0).sent == 0
    assert NO_PREFETCH.sent is None


def test_a_limit_of_the_channel_is_reported_once():
    prefetch = NO_PREFETCH.ask_for(5).limit_channel(7)
    assert (prefetch.wanted, prefetch.of_channel, prefetch.unreported) == (5, 7, 7)
    prefetch = prefetch.report()
    assert (prefetch.of_channel, prefetch.unreported) == (7, 0)
    assert prefetch.limit_channel(8).unreported == 8


def test_a_change_leaves_the_others_alone():
    NO_PREFETCH.ask_for(3).limit_channel(4)
    assert NO_PREFETCH == (0, None, 0, 0)
