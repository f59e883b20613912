"""VoidDeliveries: what has arrived and must not be handed out any more."""

from __future__ import annotations

import inside
import pytest

from gamqp import Message
from gamqp.state.consumers import ConsumerRecord
from gamqp.state.void_deliveries import VoidDeliveries


def delivery(tag: int, incarnation: int = 0) -> Message:
    message = Message(b'x')
    message.delivery_tag = tag
    inside.set_incarnation(message, incarnation)
    return message


def consumer(no_ack: bool = False, has_inbox: bool = False, era: int = 0) -> ConsumerRecord:
    record = ConsumerRecord('tag', None if has_inbox else print, None, no_ack, object() if has_inbox else None)
    record.era = era
    return record


def test_at_first_nothing_is_void() -> None:
    assert not VoidDeliveries().covers(consumer(), delivery(1), 0)


def test_what_a_multiple_has_settled_is_void() -> None:
    void = VoidDeliveries()
    void.settle_to(5)
    void.settle_to(3)
    assert void.covers(consumer(), delivery(5), 0)
    assert not void.covers(consumer(), delivery(6), 0)


def test_a_multiple_settles_nothing_that_needs_no_ack() -> None:
    void = VoidDeliveries()
    void.settle_to(5)
    assert not void.covers(consumer(no_ack=True), delivery(5), 0)


def test_what_the_broker_has_taken_back_is_void() -> None:
    void = VoidDeliveries()
    assert void.covers(consumer(), delivery(7, incarnation=0), incarnation=1)
    assert not void.covers(consumer(), delivery(7, incarnation=1), incarnation=1)
    assert not void.covers(consumer(no_ack=True), delivery(7, incarnation=0), incarnation=1)


@pytest.mark.parametrize(
    ('no_ack', 'has_inbox', 'is_void'),
    [(False, False, True), (False, True, True), (True, False, True), (True, True, False)],
)
def test_after_the_end_of_a_channel_only_an_inbox_without_acks_goes_on(
    no_ack: bool, has_inbox: bool, is_void: bool
) -> None:
    void = VoidDeliveries()
    before = consumer(no_ack, has_inbox, era=void.era)
    void.end_era()
    assert void.covers(before, delivery(1), 0) is is_void
    assert not void.covers(consumer(no_ack, has_inbox, era=void.era), delivery(1), 0)


def test_the_next_channel_numbers_its_deliveries_anew() -> None:
    void = VoidDeliveries()
    void.settle_to(100)
    void.end_era()
    assert not void.covers(consumer(era=void.era), delivery(1), 0)


def test_a_channel_that_begins_anew_without_consumers_numbers_its_deliveries_anew() -> None:
    void = VoidDeliveries()
    void.settle_to(100)
    void.restart_tags()
    assert not void.covers(consumer(), delivery(1, incarnation=1), 1)
    assert void.covers(consumer(), delivery(100), 1)
    assert not void.covers(consumer(no_ack=True), delivery(100), 1)
