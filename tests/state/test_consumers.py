"""Consumers: fresh tags are fresh."""

from __future__ import annotations

from gamqp.state.consumers import Consumer, Consumers


def test_fresh_tags_differ_and_carry_the_channel() -> None:
    consumers = Consumers()
    tags = [consumers.fresh_tag(7) for _ in range(3)]
    assert len(set(tags)) == 3
    assert all('.7.' in tag for tag in tags)
    assert not set(tags) & {Consumers().fresh_tag(8)}


def test_a_fresh_tag_avoids_one_that_the_program_chose() -> None:
    tag = Consumers().fresh_tag(1)
    consumers = Consumers()
    consumers[tag] = Consumer(tag, None, None, False)
    assert consumers.fresh_tag(1) != tag


def test_a_tag_is_not_made_twice_although_its_consumer_has_gone() -> None:
    consumers = Consumers()
    tag = consumers.fresh_tag(1)
    consumers[tag] = Consumer(tag, None, None, False)
    del consumers[tag]
    assert consumers.fresh_tag(1) != tag
