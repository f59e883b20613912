"""end_of_run and note_run: deliveries to one consumer that follow one another are handled together."""

from __future__ import annotations

import random
from typing import Any

import inside
import pytest

from gamqp.wire import buffer

DELIVER, GET_OK, RETURN = (60, 60), (60, 71), (60, 50)


def delivery(
    wire: Any, number: int, tag: Any = 'tag', channel: int = 1, redelivered: bool = False, size: int = 1
) -> Any:
    return wire.encode_content(channel, DELIVER, (tag, number, redelivered, '', 'key'), {}, bytes(size), 4096)


def runs(wire: Any, events: list[Any]) -> list[int]:
    """The length of each run; 0 stands for a method."""
    at, lengths = 0, []
    while at < len(events):
        stop = at if type(events[at]) is tuple else wire.end_of_run(events, at)
        lengths.append(stop - at)
        at = max(stop, at + 1)
    return lengths


def test_deliveries_to_one_consumer_are_a_run(wire: Any) -> None:
    events = wire.Decoder().feed(b''.join(delivery(wire, number) for number in range(1, 301)))
    assert runs(wire, events) == [300]
    # One object is the tag of all.
    assert len({id(event.consumer_tag) for event in events}) == 1
    assert events[0].consumer_tag == 'tag'


@pytest.mark.parametrize(
    'between',
    [
        lambda wire: delivery(wire, 1, tag='tab'),
        lambda wire: delivery(wire, 1, tag='ta'),
        lambda wire: delivery(wire, 1, tag='tag2'),
        lambda wire: delivery(wire, 1, tag=''),
        lambda wire: delivery(wire, 1, channel=2),
        lambda wire: wire.encode_content(1, GET_OK, (1, False, '', 'key', 0), {}, b'x', 4096),
        lambda wire: wire.encode_content(1, RETURN, (312, 'no route', '', 'key'), {}, b'x', 4096),
    ],
    ids=['other tag', 'shorter tag', 'longer tag', 'no tag', 'other channel', 'get-ok', 'return'],
)
def test_what_ends_a_run(wire: Any, between: Any) -> None:
    data = delivery(wire, 1) + delivery(wire, 2) + between(wire) + delivery(wire, 3) + delivery(wire, 4)
    events = wire.Decoder().feed(data)
    assert runs(wire, events) == [2, 1, 2]
    assert [event.consumer_tag for event in events if event is not events[2]] == ['tag'] * 4


def test_a_method_ends_a_run(wire: Any) -> None:
    ack = wire.encode_method(1, (60, 80), (7, False))
    assert runs(wire, wire.Decoder().feed(delivery(wire, 1) + ack + delivery(wire, 2))) == [1, 0, 1]


def test_messages_without_a_delivery_are_never_a_run(wire: Any) -> None:
    got = wire.encode_content(1, GET_OK, (1, False, '', 'key', 0), {}, b'x', 4096)
    assert runs(wire, wire.Decoder().feed(got * 3)) == [1, 1, 1]


def test_tags_of_any_kind_are_told_apart(wire: Any) -> None:
    """Each delivery gets its own tag, in whatever order they come and however the bytes are cut."""
    chance = random.Random(5)
    tags: list[Any] = ['', 'a', 'aa', 'aaa', 'b', 'é', 'x' * 255, 'x' * 254, b'\xff\xfe', b'\xff', '\0', '\0\0']
    sent = [chance.choice(tags) for _ in range(500)]
    data = b''.join(delivery(wire, number, tag) for number, tag in enumerate(sent, 1))
    decoder, events = wire.Decoder(), []
    while data:
        size = chance.choice([1, 7, 50, 400, 5000])
        events += decoder.feed(data[:size])
        data = data[size:]
    assert [event.consumer_tag for event in events] == sent
    assert [event.delivery_tag for event in events] == list(range(1, 501))
    lengths = runs(wire, events)
    # Never more than what belongs together; where a message had come in pieces a run may be shorter.
    at = 0
    for length in lengths:
        assert length and len(set(sent[at : at + length])) == 1
        at += length
    assert at == len(sent)


@pytest.mark.parametrize('unacked', [{}, None], ids=['ack', 'no_ack'])
def test_a_run_is_noted(wire: Any, unacked: dict[int, Any] | None) -> None:
    data = b''.join(delivery(wire, number, redelivered=number % 3 == 0, size=number) for number in range(1, 11))
    events, channel, entry = wire.Decoder().feed(data), object(), ('tag', 5.0)
    weight, redelivered = wire.note_run(events, channel, False, unacked, entry)
    assert (weight, redelivered) == (55, 3)
    assert weight == sum(inside.weight_of(event) for event in events)
    assert all(event.channel is channel for event in events)
    if unacked is not None:
        assert list(unacked) == list(range(1, 11))
        assert all(one is entry for one in unacked.values())


def test_a_run_says_whether_bodies_are_text(wire: Any) -> None:
    properties = {'content_encoding': 'utf-8'}
    data = wire.encode_content(1, DELIVER, ('tag', 1, False, '', 'key'), properties, 'é'.encode(), 4096)
    for auto_decode, expected in ((True, 'é'), (False, 'é'.encode())):
        events = wire.Decoder().feed(data)
        wire.note_run(events, None, auto_decode, None, None)
        assert events[0].body == expected


def test_compiled_no_batch_is_copied(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a message is copied out of the receive buffer once, and the buffer as a whole never."""
    decoder = compiled.Decoder()
    room = decoder.room()

    def copied(self: Any) -> bytes:
        raise AssertionError('the whole batch was copied')

    monkeypatch.setattr(buffer.Buffer, 'copy', copied)
    data = b''.join(delivery(compiled, number, size=100) for number in range(1, 21))
    room[: len(data)] = data
    events = decoder.commit(len(data))
    assert [event.delivery_tag for event in events] == list(range(1, 21))
    # What is decoded does not change with the buffer, into which more is received.
    decoder.room()[: len(data)] = bytes(len(data))
    assert all(event.body == bytes(100) and event.delivery_info['routing_key'] == 'key' for event in events)
