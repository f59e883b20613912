"""Publishes that have much in common are encoded from what is kept of an earlier one: the bytes are the same.

What was encoded anew is a bytearray, what was made of kept parts is bytes: so a test sees which of the two it was,
without a clock. The expected frames come from ``encode_content``, which keeps nothing.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from gamqp import exceptions

TRACE = {'trace': 'a', 'deep': {'n': 1, 'list': None}}
PROPERTIES = {'content_type': 'text/plain', 'delivery_mode': 2, 'application_headers': TRACE}


def publish(wire: Any, body: Any, properties: Any, key: Any = 'key', frame_max: int = 0, **other: Any) -> Any:
    options = {'channel_id': 1, 'exchange': 'ex', 'mandatory': False, 'immediate': False}
    return wire.encode_publish(
        properties=properties, body=body, routing_key=key, frame_max=frame_max, **(options | other)
    )


def anew(wire: Any, body: Any, properties: Any, key: Any = 'key', frame_max: int = 0, **other: Any) -> Any:
    """The same frames from the general encoder."""
    args = (0, other.get('exchange', 'ex'), key, other.get('mandatory', False), False)
    return wire.encode_content(other.get('channel_id', 1), (60, 40), args, properties, body, frame_max)


def check(wire: Any, *args: Any, **others: Any) -> bool:
    """Whether it was made of kept parts."""
    made = publish(wire, *args, **others)
    assert made == anew(wire, *args, **others)
    return type(made) is bytes


def test_the_second_with_the_same_properties_is_not_encoded_again(wire: Any) -> None:
    publish(wire, b'first', dict(PROPERTIES), 'new place')
    for body in (b'', b'x', b'y' * 300, b'z' * 100_000):
        assert check(wire, body, dict(PROPERTIES), 'new place')
    assert check(wire, b'x', {**PROPERTIES, 'application_headers': {**TRACE, 'deep': {**TRACE['deep']}}}, 'new place')  # type: ignore[dict-item]
    assert check(wire, bytearray(b'x'), dict(PROPERTIES), 'new place')
    assert check(wire, 'text', dict(PROPERTIES), 'new place')


@pytest.mark.parametrize('others', [0, 20, 45, 60])
def test_places_that_alternate(wire: Any, others: int) -> None:
    for n in range(others):
        publish(wire, b'', {}, f'other.{others}.{n}')
    places = [{'key': f'key.{n}'} for n in range(20)]
    places += [{'exchange': 'other'}, {'channel_id': 2}, {'mandatory': True}]
    # However many places were known before, all are forgotten once at most while these are added.
    for _ in range(2):
        for place in places:
            check(wire, b'', {'priority': 1}, **place)
    for place in places:
        assert check(wire, b'', {'priority': 1}, **place)
    assert check(wire, b'', {'priority': 1}, key=''.join(['key.', '7'])), 'an equal name is the same place'


def test_what_is_kept_has_a_limit(wire: Any) -> None:
    for n in range(1000):
        check(wire, b'', {}, f'limit.{n}')
    assert not check(wire, b'', {}, 'limit.0'), 'forgotten'
    assert not check(wire, b'', {'app_id': 'x' * 255, 'application_headers': {'x': 'y' * 1000}}, 'large')
    assert not check(wire, b'', {'app_id': 'x' * 255, 'application_headers': {'x': 'y' * 1000}}, 'large')


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ({'delivery_mode': 2}, {'delivery_mode': 1}),
        ({'delivery_mode': 2}, {'priority': 2}),
        ({'delivery_mode': 2}, {}),
        ({'delivery_mode': 2}, {'delivery_mode': 2, 'priority': 1}),
        ({'application_headers': {'x': 1}}, {'application_headers': {'x': True}}),
        ({'application_headers': {'x': 1}}, {'application_headers': {'x': 1.0}}),
        ({'application_headers': {'x': 0.0}}, {'application_headers': {'x': -0.0}}),
        ({'application_headers': {'x': {'y': 1}}}, {'application_headers': {'x': {'y': True}}}),
        ({'application_headers': {'x': 'a'}}, {'application_headers': {'x': b'a'}}),
        ({'application_headers': {}}, {'application_headers': None}),
        ({'application_headers': {'x': None}}, {'application_headers': {'y': None}}),
        ({'application_headers': {'x': 1, 'y': 2}}, {'application_headers': {'y': 2, 'x': 1}}),
    ],
)
def test_properties_that_differ_or_are_only_equal(wire: Any, one: Any, other: Any) -> None:
    for properties in (one, other, one, one, other, other):
        check(wire, b'body', properties, 'differ')


def test_headers_that_the_program_changes(wire: Any) -> None:
    headers: dict[str, Any] = {'n': 0, 'deep': {'n': 0}}
    properties = {'application_headers': headers}
    for n in range(5):
        headers['n'] = n
        check(wire, b'', properties, 'changed')
        headers['deep']['n'] = n
        check(wire, b'', properties, 'changed')
    headers['more'] = 1
    assert any(check(wire, b'', properties, 'changed') for _ in range(80))


@pytest.mark.parametrize('value', [[1], (1,), bytearray(b'x')])
def test_values_that_may_change_are_not_kept(wire: Any, value: Any) -> None:
    properties = {'application_headers': {'x': value}}
    for _ in range(3):
        assert not check(wire, b'', properties, 'mutable')


def test_names_that_may_change_are_not_kept(wire: Any) -> None:
    place = bytearray(b'abc')
    assert publish(wire, b'', {}, place) == anew(wire, b'', {}, 'abc')
    place[:] = b'xyz'
    assert publish(wire, b'', {}, place) == anew(wire, b'', {}, 'xyz')


def test_an_id_for_each_message(wire: Any) -> None:
    """Such properties are not kept each time; and soon after they stay the same they are."""
    for n in range(200):
        assert not check(wire, b'', {'message_id': str(n)}, 'ids')
    same = [check(wire, b'', {'message_id': 'same'}, 'ids') for _ in range(80)]
    assert same == sorted(same)
    assert same[-1]


def test_limits_of_frames(wire: Any) -> None:
    properties = {'app_id': 'x' * 200}
    publish(wire, b'', properties, 'limited')
    assert check(wire, b'', properties, 'limited', frame_max=4096)
    assert check(wire, b'x' * 4088, properties, 'limited', frame_max=4096)
    assert not check(wire, b'x' * 4089, properties, 'limited', frame_max=4096), 'two frames'
    with pytest.raises(exceptions.EncodeError, match='the connection allows 100'):
        publish(wire, b'', properties, 'limited', frame_max=100)


def test_any_sequence(wire: Any) -> None:
    chance = random.Random(5)
    headers = [{}, {'a': 1}, {'a': True}, {'a': 1.0}, {'a': {'b': 'c'}}, {'a': [1]}, {'a': None, 'b': 1}, None]
    for _ in range(3000):
        names = chance.sample(['content_type', 'reply_to', 'type'], chance.randrange(3))
        properties: dict[str, Any] = {name: chance.choice(['x', 'y']) for name in names}
        if chance.random() < 0.7:
            properties['application_headers'] = chance.choice(headers)
        size = chance.choice([0, 1, 100, 5000])
        place = {'exchange': chance.choice(['', 'ex']), 'channel_id': chance.choice([1, 300])}
        limit = chance.choice([0, 4096, 131072])
        check(wire, b'b' * size, properties, chance.choice(['', 'k', 'key']), limit, **place)
