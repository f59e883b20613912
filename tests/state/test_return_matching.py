"""MandatoryPublishes: which publish a returned message belongs to."""

from __future__ import annotations

from typing import Any

from gamqp import Message
from gamqp.state.return_matching import MandatoryPublishes
from gamqp.wire import Decoder, encode_publish


def published(publishes: MandatoryPublishes, tag: int, body: bytes, key: str = 'k', **properties: Any) -> None:
    frames = encode_publish(1, '', key, True, False, properties, body, 4096)
    publishes.add(tag, '', key, len(body), frames)


def come_back(
    publishes: MandatoryPublishes, body: bytes, key: str = 'k', settled_to: int = 0, **properties: Any
) -> int:
    (message,) = Decoder(Message).feed(encode_publish(1, '', key, True, False, properties, body, 4096))
    return publishes.take('', key, message, settled_to)


def test_it_is_the_one_with_its_body() -> None:
    publishes = MandatoryPublishes()
    for tag, body in enumerate((b'a', b'b', b'c'), 1):
        published(publishes, tag, body)
    assert come_back(publishes, b'b') == 2
    assert come_back(publishes, b'b') == 0


def test_of_equal_ones_the_oldest_comes_first() -> None:
    publishes = MandatoryPublishes()
    for tag in (1, 2):
        published(publishes, tag, b'x')
    assert [come_back(publishes, b'x') for _ in range(3)] == [1, 2, 0]


def test_properties_tell_between_equal_bodies_also_when_the_broker_has_changed_some() -> None:
    publishes = MandatoryPublishes()
    for tag in (1, 2):
        published(publishes, tag, b'x', message_id=str(tag), application_headers={'BCC': ['other']})
    assert come_back(publishes, b'x', message_id='2') == 2


def test_another_routing_key_is_another_message() -> None:
    publishes = MandatoryPublishes()
    published(publishes, 1, b'x', 'k')
    assert come_back(publishes, b'x', 'other') == 0
    assert come_back(publishes, b'x', 'k') == 1


def test_what_a_multiple_has_settled_does_not_come_back() -> None:
    publishes = MandatoryPublishes()
    for tag in (1, 2, 3):
        published(publishes, tag, b'x')
    assert come_back(publishes, b'x', settled_to=2) == 3
    assert come_back(publishes, b'x') == 0


def test_whoever_forgets_the_last_one_learns_that() -> None:
    publishes = MandatoryPublishes()
    published(publishes, 1, b'x')
    published(publishes, 2, b'y')
    assert not publishes.forget(1)
    assert not publishes.forget(1)
    assert publishes.forget(2)
    assert publishes.forget(7)
