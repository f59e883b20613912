"""Confirms: the verdict on each publish, once, whatever the broker says in whatever order."""

from __future__ import annotations

import random
from typing import Any

import publishing
import pytest
from publishing import publish

from gamqp.state.confirm_matching import Confirms
from gamqp.wire import Content, Decoder, encode_content, encode_publish
from gamqp.wire.spec import Basic


class Waiter:
    """What a slot is to this layer; it must be told exactly once."""

    _awaited = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def succeed(self, verdict: bool) -> None:
        self.told.append(verdict)

    def fail(self, make_error: Any) -> None:
        self.told.append(make_error())

    _settle, _lose = succeed, fail  # of a publish, and those above of a barrier


def published(count: int) -> tuple[Confirms, dict[int, Waiter]]:
    confirms = Confirms()
    waiters = {}
    for number in range(1, count + 1):
        waiter = Waiter()
        assert publish(confirms, waiter) == number
        waiters[number] = waiter
    return confirms, waiters


def told(waiters: dict[int, Waiter]) -> dict[int, list[Any]]:
    return {tag: waiter.told for tag, waiter in waiters.items() if waiter.told}


def test_one_tag_settles_one_publish() -> None:
    confirms, waiters = published(3)
    assert confirms.settle(2, False, True) == 1
    assert told(waiters) == {2: [True]}
    assert len(confirms) == 2


def test_multiple_settles_up_to_and_with_its_tag() -> None:
    confirms, waiters = published(5)
    confirms.settle(2, False, False)
    assert confirms.settle(4, True, True) == 3
    assert told(waiters) == {1: [True], 2: [False], 3: [True], 4: [True]}


def test_tag_zero_with_multiple_settles_everything_outstanding() -> None:
    confirms, waiters = published(3)
    assert confirms.settle(0, True, False) == 3
    assert told(waiters) == {1: [False], 2: [False], 3: [False]}
    assert len(confirms) == 0


@pytest.mark.parametrize(('tag', 'multiple'), [(0, False), (4, False), (99, False), (1, False)])
def test_tags_that_are_not_outstanding_settle_nothing(tag: int, multiple: bool) -> None:
    confirms, waiters = published(3)
    confirms.settle(1, False, True)
    assert confirms.settle(tag, multiple, True) == 0
    assert told(waiters) == {1: [True]}


def test_multiple_beyond_what_was_published_settles_what_there_is() -> None:
    confirms, _waiters = published(2)
    assert confirms.settle(50, True, True) == 2
    assert publish(confirms, Waiter()) == 3


def test_a_publish_on_which_nobody_waits_counts() -> None:
    confirms = Confirms()
    assert publish(confirms) == 1
    assert confirms.settle(1, False, True) == 1


def test_the_end_is_told_once_to_those_who_wait() -> None:
    confirms, waiters = published(3)
    publish(confirms)
    confirms.settle(2, False, True)
    assert list(confirms.fail_all(ValueError)) == [True, True, False]
    assert told(waiters)[2] == [True]
    assert all(isinstance(waiters[tag].told[0], ValueError) for tag in (1, 3))
    assert list(confirms.fail_all(ValueError)) == []
    assert confirms.settle(1, False, True) == 0


@pytest.mark.parametrize('seed', range(20))
def test_random_conversations_agree_with_a_naive_model(seed: int) -> None:
    rng = random.Random(seed)
    confirms, waiters = Confirms(), dict[int, Waiter]()
    model: dict[int, bool] = {}
    outstanding: list[int] = []
    for _ in range(3000):
        if rng.random() < 0.5:
            waiter = Waiter()
            tag = publish(confirms, waiter)
            waiters[tag] = waiter
            outstanding.append(tag)
            continue
        tag = rng.choice([0, rng.randint(0, len(waiters) + 2), *outstanding[:3], *outstanding[-3:]])
        multiple, ok = rng.random() < 0.2, rng.random() < 0.7
        if multiple:
            spoken_of = [one for one in outstanding if one <= tag or tag == 0]
        else:
            spoken_of = [one for one in outstanding if one == tag]
        assert confirms.settle(tag, multiple, ok) == len(spoken_of)
        for one in spoken_of:
            model[one] = ok
            outstanding.remove(one)
        assert len(confirms) == len(outstanding)
    assert told(waiters) == {tag: [ok] for tag, ok in model.items()}


# -- returns -------------------------------------------------------------------------------------------------


def publish_mandatory(confirms: Confirms, waiter: Any, key: str, body: bytes = b'', **properties: Any) -> int:
    """As the channel does: numbered together with the frames of the message."""
    sent = encode_publish(1, 'ex', key, True, False, properties, body, 131072)
    return publishing.publish_mandatory(confirms, waiter, 'ex', key, body, sent)


def returned(key: str, body: bytes = b'', **properties: Any) -> Content:
    """The message as it comes back from the broker."""
    sent = encode_content(1, Basic.Return, (312, 'NO_ROUTE', 'ex', key), properties, body, 131072)
    return Decoder().feed(sent)[0]


def come_back(confirms: Confirms, message: Content) -> bool:
    info = message.delivery_info
    return confirms.come_back(info['exchange'], info['routing_key'], message)


def test_a_return_is_the_verdict_when_the_ack_comes() -> None:
    confirms, waiter = Confirms(), Waiter()
    publish_mandatory(confirms, waiter, 'k', b'body')
    message = returned('k', b'body')
    assert come_back(confirms, message)
    assert waiter.told == []
    confirms.settle(1, False, True)
    assert waiter.told == [message]


def test_a_nack_after_a_return_does_not_hide_it() -> None:
    confirms, waiter = Confirms(), Waiter()
    publish_mandatory(confirms, waiter, 'k')
    message = returned('k')
    come_back(confirms, message)
    confirms.settle(0, True, False)
    assert waiter.told == [message]


@pytest.mark.parametrize(
    ('key', 'body'),
    [('other', b'body'), ('k', b'longer body'), ('k', b'BODY')],
    ids=['another key', 'another size', 'another body'],
)
def test_a_return_of_no_publish_is_nobodys(key: str, body: bytes) -> None:
    confirms, waiter = Confirms(), Waiter()
    publish_mandatory(confirms, waiter, 'k', b'body')
    assert not come_back(confirms, returned(key, body))
    confirms.settle(1, False, True)
    assert waiter.told == [True]


def test_a_publish_that_is_not_mandatory_cannot_come_back() -> None:
    confirms, waiter = Confirms(), Waiter()
    publish(confirms, waiter)
    assert not come_back(confirms, returned('k'))
    confirms.settle(1, False, True)
    assert waiter.told == [True]


def test_a_return_on_which_nobody_waits_still_belongs_to_its_own_publish() -> None:
    confirms, waiter = Confirms(), Waiter()
    publish_mandatory(confirms, None, 'k')
    publish_mandatory(confirms, waiter, 'k')
    assert not come_back(confirms, returned('k'))
    assert come_back(confirms, returned('k'))


def test_what_is_settled_cannot_come_back_any_more() -> None:
    confirms, waiter = Confirms(), Waiter()
    publish_mandatory(confirms, Waiter(), 'k')
    publish_mandatory(confirms, waiter, 'k')
    confirms.settle(1, False, True)
    message = returned('k')
    assert come_back(confirms, message)
    assert not come_back(confirms, returned('k'))
    confirms.settle(2, False, True)
    assert waiter.told == [message]


@pytest.mark.parametrize(
    'properties',
    [
        lambda number: {'message_id': str(number)},
        lambda number: {'correlation_id': str(number)},
        lambda number: {'type': str(number)},
        lambda number: {'priority': number},
        lambda number: {'application_headers': {'number': number}},
        lambda number: {'application_headers': {'deep': {'er': ['x', number]}}},
    ],
    ids=['message_id', 'correlation_id', 'type', 'priority', 'header', 'deep header'],
)
def test_publishes_alike_but_for_one_property(properties: Any) -> None:
    confirms, waiters = Confirms(), {}
    for number in range(20):
        waiter = Waiter()
        waiters[publish_mandatory(confirms, waiter, 'k', b'same', **properties(number))] = waiter
    back = {number + 1: returned('k', b'same', **properties(number)) for number in (13, 4, 19)}
    for message in back.values():
        come_back(confirms, message)
    confirms.settle(0, True, True)
    assert told(waiters) == {tag: [back.get(tag, True)] for tag in waiters}


def test_objects_that_change_after_the_publish_do_not_mislead() -> None:
    confirms, waiters, headers = Confirms(), {}, {'number': 0}
    body = bytearray(b'0')
    for number in range(5):
        headers['number'] = number
        body[:] = b'%d' % number
        waiter = Waiter()
        sent = encode_publish(1, 'ex', 'k', True, False, {'application_headers': headers}, body, 131072)
        waiters[publishing.publish_mandatory(confirms, waiter, 'ex', 'k', body, sent)] = waiter
    message = returned('k', b'3', application_headers={'number': 3})
    assert come_back(confirms, message)
    confirms.settle(0, True, True)
    assert told(waiters) == {tag: [message if tag == 4 else True] for tag in waiters}


def test_a_header_that_the_broker_took_away_or_added_does_not_mislead() -> None:
    confirms, waiters = Confirms(), {}
    for number in range(5):
        waiter = Waiter()
        headers = {'BCC': ['other'], 'number': number}
        waiters[publish_mandatory(confirms, waiter, 'k', b'x', application_headers=headers)] = waiter
    message = returned('k', b'x', application_headers={'number': 3, 'timestamp_in_ms': 1})
    come_back(confirms, message)
    confirms.settle(0, True, True)
    assert told(waiters) == {tag: [message if tag == 4 else True] for tag in waiters}


def test_those_that_look_the_same_come_back_oldest_first() -> None:
    confirms, waiters = Confirms(), [Waiter() for _ in range(3)]
    for waiter in waiters:
        publish_mandatory(confirms, waiter, 'k', b'x')
    first, second = returned('k', b'x'), returned('k', b'x')
    come_back(confirms, first)
    come_back(confirms, second)
    confirms.settle(0, True, True)
    assert [waiter.told for waiter in waiters] == [[first], [second], [True]]


# -- barriers ------------------------------------------------------------------------------------------------


def test_a_barrier_waits_for_all_before_it_and_none_after() -> None:
    confirms, _ = published(3)
    everything = Waiter()
    confirms.barrier(everything)
    publish(confirms, Waiter())
    confirms.settle(3, False, True)
    confirms.settle(1, False, True)
    confirms.settle(4, False, False)
    assert everything.told == []
    confirms.settle(2, False, True)
    assert everything.told == [True]
    assert confirms.take_refused()  # of number 4, for the next who asks
    assert not confirms.take_refused()


def test_a_barrier_hears_of_a_nack() -> None:
    confirms, _ = published(3)
    everything = Waiter()
    confirms.barrier(everything)
    confirms.settle(2, True, False)
    confirms.settle(3, False, True)
    assert everything.told == [False]
    assert not confirms.refused


def test_a_barrier_hears_of_a_return() -> None:
    confirms, everything = Confirms(), Waiter()
    publish_mandatory(confirms, None, 'k')
    confirms.barrier(everything)
    come_back(confirms, returned('k'))
    confirms.settle(1, False, True)
    assert everything.told == [False]


def test_a_barrier_hears_of_what_was_refused_before_it() -> None:
    confirms, _ = published(2)
    confirms.settle(1, False, False)
    everything, next_time = Waiter(), Waiter()
    confirms.barrier(everything)
    confirms.settle(2, False, True)
    assert everything.told == [False]
    publish(confirms)
    confirms.barrier(next_time)
    confirms.settle(3, False, True)
    assert next_time.told == [True]


def test_who_leaves_a_barrier_leaves_its_bad_news_behind() -> None:
    confirms, _ = published(3)
    barrier = confirms.barrier(Waiter())
    confirms.settle(1, False, False)
    confirms.leave(barrier)
    confirms.leave(barrier)
    everything = Waiter()
    confirms.barrier(everything)
    confirms.settle(0, True, True)
    assert everything.told == [False]


@pytest.mark.parametrize('ok', [True, False])
def test_bad_news_that_reached_nobody_is_told_to_the_next(ok: bool) -> None:
    """Decided, and then its waiter was interrupted before it ran."""
    confirms, _ = published(1)
    barrier = confirms.barrier(Waiter())
    confirms.settle(1, False, ok)
    confirms.leave(barrier)
    assert confirms.take_refused() is not ok


def test_the_end_is_told_to_barriers() -> None:
    confirms, _ = published(1)
    everything = Waiter()
    confirms.barrier(everything)
    assert confirms.has_barriers
    assert list(confirms.fail_all(ValueError)) == [True, False]
    assert isinstance(everything.told[0], ValueError)


# -- everything together -------------------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(30))
def test_whatever_happens_each_waiter_is_told_once_and_right(seed: int) -> None:
    """Acks, nacks, multiples, returns, people who no longer wait, barriers, and at last the end."""
    rng = random.Random(seed)
    confirms = Confirms()
    waiters, expected, observed = dict[int, Waiter](), dict[int, Any](), dict[int, list[Any]]()
    outstanding, mandatory, back = list[int](), dict[int, tuple[str, bytes, str]](), dict[int, Content]()
    barriers, asked = list[tuple[Waiter, int]](), dict[Waiter, int]()
    last_asked = 0
    for _ in range(1500):
        dice = rng.random()
        if dice < 0.5:
            waiter = Waiter()
            key, body = rng.choice('ab'), rng.choice([b'', b'one', b'two', b'three'])
            name = str(len(waiters))
            if rng.random() < 0.6:
                tag = publish_mandatory(confirms, waiter, key, body, message_id=name)
                mandatory[tag] = key, body, name
            else:
                tag = publish(confirms, waiter)
            waiters[tag] = waiter
            if rng.random() < 0.5:
                confirms.observe(tag, observed.setdefault(tag, []).append)
            outstanding.append(tag)
        elif dice < 0.65 and mandatory:
            tag = rng.choice(sorted(mandatory))
            key, body, name = mandatory.pop(tag)
            back[tag] = returned(key, body, message_id=name)
            assert come_back(confirms, back[tag])
        elif dice < 0.68 and outstanding:
            everything = Waiter()
            confirms.barrier(everything)
            barriers.append((everything, last_asked))
            asked[everything] = last_asked = len(waiters)
        elif outstanding:
            tag = rng.choice([0, rng.randint(0, len(waiters) + 2), *outstanding[:3], *outstanding[-3:]])
            multiple, ok = rng.random() < 0.2, rng.random() < 0.8
            gone = [one for one in outstanding if one == tag or (multiple and (one < tag or tag == 0))]
            assert confirms.settle(tag, multiple, ok) == len(gone)
            for one in gone:
                outstanding.remove(one)
                mandatory.pop(one, None)
                expected[one] = back.pop(one, ok)
    for tag, waiter in waiters.items():
        assert waiter.told == ([expected[tag]] if tag in expected else []), tag
    for everything, since in barriers:
        covered = [tag for tag in waiters if since < tag <= asked[everything]]
        if any(tag in outstanding for tag in range(1, asked[everything] + 1)):
            assert everything.told == []
        elif not all(expected[tag] is True for tag in covered):
            assert everything.told == [False]
        else:
            assert everything.told in ([True], [False])  # False: an older one was refused meanwhile
    list(confirms.fail_all(ValueError))
    for tag, waiter in waiters.items():
        assert len(waiter.told) == 1
        assert (tag in expected) != isinstance(waiter.told[0], ValueError)
    for tag, outcomes in observed.items():
        (told_to_waiter,) = waiters[tag].told
        if isinstance(told_to_waiter, ValueError):
            assert [type(one) for one in outcomes] == [ValueError]
        else:
            assert outcomes == [told_to_waiter]
    assert all(len(everything.told) == 1 for everything, _ in barriers)


def test_a_hundred_thousand_are_settled_in_no_time() -> None:
    """One after the other, with somebody who waits for all: a walk over those that went before would take minutes."""
    confirms, everything = Confirms(), Waiter()
    for _ in range(100_000):
        publish(confirms)
    confirms.barrier(everything)
    for tag in range(1, 100_001, 2):
        confirms.settle(tag, False, True)
        confirms.settle(tag + 1, True, True)
    assert everything.told == [True]
