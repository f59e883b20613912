"""The parts that queues and exchanges are made of, without a broker around them."""

from __future__ import annotations

import random
import re
from typing import Any

import inside
import pytest

from gamqp.testing.state.clock import Clock
from gamqp.testing.state.hashing import by_modulus, by_weight
from gamqp.testing.state.header_matching import matches
from gamqp.testing.state.message import Entry, facts_of, made_locally
from gamqp.testing.state.ready import ByPriority, Fifo
from gamqp.testing.state.topic_trie import TopicTrie


def entry(number: int, **properties: Any) -> Entry:
    return Entry(made_locally('', 'q', str(number).encode(), properties), number, None)


def numbers(ready: Fifo | ByPriority) -> list[int]:
    return [one.number for one in ready]


def as_expression(pattern: str) -> re.Pattern[str]:
    """What a topic pattern means, said otherwise: words are followed by a dot each."""
    words = pattern.split('.') if pattern else []
    parts = {'*': r'[^.]*\.', '#': r'(?:[^.]*\.)*'}
    return re.compile(''.join(parts.get(word, re.escape(word) + r'\.') for word in words))


def test_topics_match_as_their_meaning_says() -> None:
    chance = random.Random(1)
    trie = TopicTrie()
    patterns = {'.'.join(chance.choices(('a', 'b', '*', '#', ''), k=chance.randrange(0, 5))) for _ in range(300)}
    for pattern in patterns:
        trie.add(pattern, pattern)
    for _ in range(500):
        words = chance.choices(('a', 'b', 'c', ''), k=chance.randrange(0, 6))
        key = '.'.join(words)
        dotted = ''.join(f'{word}.' for word in (key.split('.') if key else []))
        assert set(trie.match(key)) == {one for one in patterns if as_expression(one).fullmatch(dotted)}, key
    for pattern in patterns:
        trie.discard(pattern, pattern)
    assert trie.match('a') == [] and inside.is_empty(trie)


def test_many_hashes_do_not_take_for_ever() -> None:
    trie = TopicTrie()
    trie.add('.'.join(['#', 'a'] * 30), 'x')
    assert trie.match('.'.join(['a', 'b'] * 60)) == []


def test_a_message_that_is_put_back_gets_its_place() -> None:
    chance = random.Random(2)
    ready = Fifo()
    taken: list[Entry] = []
    number = 0
    for _ in range(3000):
        choice = chance.random()
        if choice < 0.4:
            number += 1
            ready.add(entry(number))
        elif choice < 0.7 and ready:
            taken.append(ready.take())
        elif taken:
            ready.put_back(taken.pop(chance.randrange(len(taken))))
        assert numbers(ready) == sorted(numbers(ready))
        assert ready.bytes == sum(len(one.message.body) for one in ready)


def test_priorities_come_first_and_equals_in_their_order() -> None:
    ready = ByPriority(5)
    for number, priority in enumerate((1, 9, None, 5, 0, 1)):
        ready.add(entry(number, priority=priority))
    assert [ready.take().number for _ in range(6)] == [1, 3, 0, 5, 2, 4]


@pytest.mark.parametrize('typed', [True, False])
def test_headers_of_other_types_differ(typed: bool) -> None:
    assert matches({'a': 1}, {'a': 1, 'b': 2}, typed)
    assert not matches({'a': 1}, {'a': True}, typed) and not matches({'a': 1}, {'a': '1'}, typed)
    assert matches({'a': 1}, {'a': 1.0}, typed) is not typed
    assert matches({'x-match': 'any', 'a': 1, 'b': 2}, {'b': 2}, typed)
    assert not matches({'x-match': 'any'}, {}, typed) and matches({}, {}, typed)


def test_hashes_are_stable_and_keep_weights() -> None:
    choices = [('one', 1), ('three', 3)]
    chosen = [by_weight(str(number).encode(), choices) for number in range(2000)]
    assert chosen == [by_weight(str(number).encode(), choices) for number in range(2000)]
    assert 0.65 < chosen.count('three') / 2000 < 0.85
    assert {by_modulus(str(number).encode(), ['a', 'b', 'c']) for number in range(100)} == {'a', 'b', 'c'}
    assert by_weight(b'', []) is None and by_modulus(b'', []) is None


def test_the_clock_runs_what_is_due_in_order() -> None:
    now, ran = [100.0], list[tuple[str, float]]()
    clock = Clock(lambda: now[0], lambda: now[0])

    def again() -> None:
        ran.append(('again', clock.now()))
        if len(ran) < 4:
            clock.call_later(10, again)

    clock.call_later(10, again)
    clock.call_later(15, lambda: ran.append(('once', clock.now())))
    clock.call_later(15, lambda: ran.append(('never', 0))).cancel()
    clock.advance(25)
    assert ran == [('again', 110), ('once', 115), ('again', 120)]
    assert clock.now() == 125 and clock.next_due() == 5
    now[0] += 5
    clock.run_due()
    assert ran[-1] == ('again', 130)


def test_facts_are_read_from_properties() -> None:
    header = made_locally('', '', b'', {'expiration': '+5', 'delivery_mode': 2, 'priority': 3}).header
    facts = facts_of(header)
    assert (facts.ttl, facts.odd_expiration, facts.persistent, facts.priority) == (5, True, True, 3)
    assert facts_of(header) is facts


@pytest.mark.parametrize('mode', [None, 1, 2])
def test_the_delivery_mode_is_found_behind_other_properties(mode: int | None) -> None:
    for others in (
        {},
        {'content_type': 'text/plain'},
        {'content_type': 'a', 'content_encoding': 'b', 'application_headers': {'x': ['y'] * 100}},
        {'application_headers': {'CC': ['q']}, 'message_id': 'm', 'timestamp': 5, 'app_id': 'a'},
    ):
        properties = {**others, **({} if mode is None else {'delivery_mode': mode})}
        facts = facts_of(made_locally('', '', b'', properties).header)
        assert facts.persistent is (mode == 2)
        assert facts.carbon_copies is ('CC' in others.get('application_headers', {}))
