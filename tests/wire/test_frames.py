"""The decoder: every feeding gives the same events, every violation its own text."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise
from typing import Any

import inside
import pytest
from golden import EXPECTED, NAMES, load, meaning

from gamqp import exceptions

DELIVER = (60, 60)
ARGS = ('tag', 9, False, 'ex', 'key')


def frame(kind: int, channel_id: int, payload: bytes, end: int = 0xCE) -> bytes:
    return bytes([kind]) + channel_id.to_bytes(2, 'big') + len(payload).to_bytes(4, 'big') + payload + bytes([end])


def header(channel_id: int, size: int, properties: bytes = b'\0\0', class_id: int = 60) -> bytes:
    return frame(2, channel_id, class_id.to_bytes(2, 'big') + b'\0\0' + size.to_bytes(8, 'big') + properties)


def method(wire: Any, channel_id: int, sig: Any = DELIVER, args: Any = ARGS) -> bytes:
    return bytes(wire.encode_method(channel_id, sig, args))


def deliver(wire: Any, channel_id: int = 1, body: bytes = b'body', properties: Any = None) -> bytes:
    return bytes(wire.encode_content(channel_id, DELIVER, ARGS, properties or {'priority': 1}, body, 0))


@pytest.mark.parametrize('name', sorted(EXPECTED))
def test_what_a_broker_sent(wire: Any, feedings: Any, name: str) -> None:
    data = load(name)
    for decoder, events in feedings(wire, data):
        assert [meaning(event) for event in events] == EXPECTED[name]
        assert decoder.error is None
        assert not decoder.pending
    for decoder, events in feedings(wire, data + data[:5]):
        assert [meaning(event) for event in events] == EXPECTED[name]
        assert decoder.pending


def test_all_of_it_in_a_row(wire: Any, feedings: Any) -> None:
    data = b''.join(load(name) for name in sorted(EXPECTED))
    expected = [event for name in sorted(EXPECTED) for event in EXPECTED[name]]
    for decoder, events in feedings(wire, data):
        assert [meaning(event) for event in events] == expected
        assert decoder.heartbeats == 1


def test_every_capture_is_tested() -> None:
    assert set(NAMES) == set(EXPECTED) | {'get-ok-split', 'protocol-header'}


def test_a_body_in_several_frames(wire: Any, feedings: Any) -> None:
    data = load('get-ok-split')
    for decoder, (content,) in feedings(wire, data, frame_max=4096):
        assert content.body == b'ab' * 2500
        assert inside.size_of(content) == 5000
        assert content.delivery_tag == 1
        assert decoder.error is None
    decoder = wire.Decoder(frame_max=4095)
    assert decoder.feed(data) == []
    assert '4096 bytes, agreed on are 4095' in str(decoder.error)


def test_a_refused_version(wire: Any, feedings: Any) -> None:
    for data in (load('protocol-header'), load('protocol-header') + b'and more'):
        for decoder, events in feedings(wire, data):
            assert events == []
            assert type(decoder.error) is exceptions.FrameError
            assert 'offers version 0-9-1' in str(decoder.error)
    decoder = wire.Decoder()
    decoder.feed(b'AMQP\0\0\x09')
    assert decoder.error is None
    assert decoder.pending


def test_channels_interleave(wire: Any, feedings: Any) -> None:
    data = (
        method(wire, 1)
        + method(wire, 2)
        + header(2, 4)
        + header(1, 6)
        + frame(3, 1, b'abc')
        + frame(8, 0, b'')
        + frame(3, 2, b'12')
        + deliver(wire, 3)
        + frame(3, 1, b'def')
        + method(wire, 0, (10, 61), ())
        + frame(3, 2, b'34')
        + method(wire, 1)
        + header(1, 0)
    )
    for decoder, events in feedings(wire, data):
        got = [event if isinstance(event, tuple) else (inside.channel_id_of(event), event.body) for event in events]
        assert got == [(3, b'body'), (1, b'abcdef'), (0, (10, 61), ()), (2, b'1234'), (1, b'')]
        assert decoder.heartbeats == 1
        assert not decoder.pending


def test_bodies_in_frames_of_any_size(wire: Any, feedings: Any) -> None:
    body = bytes(range(256)) * 20
    cuts = [0, 0, 1, 2, 3, 1500, 1500, 1501, 3000, len(body)]
    parts = [body[start:end] for start, end in pairwise(cuts)]
    data = method(wire, 1) + header(1, len(body)) + b''.join(frame(3, 1, part) for part in parts)
    for _, (content,) in feedings(wire, data):
        assert content.body == body
        assert type(content.body) is bytes


def test_values_of_a_method(wire: Any) -> None:
    assert wire.Decoder().feed(method(wire, 7, (60, 80), (2**63, True))) == [(7, (60, 80), (2**63, True))]
    assert wire.Decoder().feed(method(wire, 7, (60, 120), (5, True, False))) == [(7, (60, 120), (5, True, False))]


# name -> (bytes behind one good delivery, class, text)
VIOLATIONS: dict[str, tuple[Any, type[Exception], str]] = {
    'end': (lambda w: frame(8, 0, b'', 0xCD), exceptions.FrameError, 'ends in 0xcd, not in 0xce'),
    'end of method': (lambda w: method(w, 1)[:-1] + b'\0', exceptions.FrameError, 'ends in 0x00'),
    'end of header': (lambda w: method(w, 1) + header(1, 1)[:-1] + b'\0', exceptions.FrameError, 'ends in 0x00'),
    'end of body': (lambda w: deliver(w)[:-1] + b'\0', exceptions.FrameError, 'ends in 0x00'),
    'frame type': (lambda w: frame(4, 1, b'abc'), exceptions.FrameError, 'unknown frame type 4'),
    'http': (lambda w: b'HTTP/1.1 400 Bad Request\r\n', exceptions.FrameError, 'unknown frame type 72.*HTTP'),
    'heartbeat channel': (lambda w: frame(8, 1, b''), exceptions.FrameError, 'heartbeat on channel 1'),
    'heartbeat payload': (lambda w: frame(8, 0, b'x'), exceptions.FrameError, 'heartbeat on channel 0 with 1 bytes'),
    'header alone': (lambda w: header(1, 1), exceptions.UnexpectedFrame, 'header on channel 1 without a method'),
    'body alone': (lambda w: frame(3, 1, b'x'), exceptions.UnexpectedFrame, 'body frame on channel 1 without a method'),
    'body before header': (
        lambda w: method(w, 1) + frame(3, 1, b'x'),
        exceptions.UnexpectedFrame,
        'body frame on channel 1 without a header',
    ),
    'body after the end': (
        lambda w: deliver(w) + frame(3, 1, b'x'),
        exceptions.UnexpectedFrame,
        'without a method',
    ),
    'two headers': (
        lambda w: method(w, 1) + header(1, 5) + header(1, 5),
        exceptions.UnexpectedFrame,
        'second content header on channel 1; 5 bytes',
    ),
    'method for header': (
        lambda w: method(w, 1) + method(w, 1),
        exceptions.UnexpectedFrame,
        'method frame on channel 1 amid a basic.deliver: its header',
    ),
    'method for body': (
        lambda w: method(w, 1) + header(1, 5) + frame(3, 1, b'ab') + method(w, 1, (20, 41), ()),
        exceptions.UnexpectedFrame,
        'amid a basic.deliver: 3 more bytes',
    ),
    'header class': (
        lambda w: method(w, 1) + header(1, 5, class_id=50),
        exceptions.UnexpectedFrame,
        'header of class 50 on channel 1 after basic.deliver',
    ),
    'body too long': (
        lambda w: method(w, 1) + header(1, 3) + frame(3, 1, b'ab') + frame(3, 1, b'cd'),
        exceptions.UnexpectedFrame,
        'body frame of 2 bytes on channel 1, only 1',
    ),
    'body longer at once': (
        lambda w: method(w, 1) + header(1, 3) + frame(3, 1, b'abcd'),
        exceptions.UnexpectedFrame,
        'body frame of 4 bytes on channel 1, only 3',
    ),
    'header too short': (lambda w: method(w, 1) + frame(2, 1, b'\0<\0\0'), exceptions.FrameSyntaxError, 'only 4 bytes'),
    'no method': (lambda w: frame(1, 1, b'\0<'), exceptions.FrameSyntaxError, 'too short to name a method'),
    'unknown method': (lambda w: frame(1, 3, b'\0<\0c'), exceptions.InvalidCommand, r'unknown method \(60, 99\).* 3'),
    'unknown class': (lambda w: frame(1, 0, b'\0\x63\0\x0a'), exceptions.InvalidCommand, r'unknown method \(99, 10\)'),
    'connection elsewhere': (
        lambda w: method(w, 1, (10, 61), ()),
        exceptions.InvalidCommand,
        'connection.unblocked on channel 1',
    ),
    'channel 0': (lambda w: method(w, 0, (60, 80), (1, True)), exceptions.InvalidCommand, 'basic.ack on channel 0'),
    'delivery on channel 0': (lambda w: deliver(w, 0), exceptions.InvalidCommand, 'basic.deliver on channel 0'),
    'arguments': (lambda w: frame(1, 1, b'\0<\0\x15\x05ab'), exceptions.FrameSyntaxError, 'malformed basic.consume-ok'),
    'short ack': (lambda w: frame(1, 1, b'\0<\0\x50\0\0'), exceptions.FrameSyntaxError, 'malformed basic.ack'),
    'short delivery': (
        lambda w: frame(1, 1, b'\0<\0<\x03tag\0'),
        exceptions.FrameSyntaxError,
        'malformed basic.deliver',
    ),
    'empty delivery': (lambda w: frame(1, 1, b'\0<\0<'), exceptions.FrameSyntaxError, 'malformed basic.deliver'),
    'short get-ok': (lambda w: frame(1, 1, b'\0<\0\x47\0'), exceptions.FrameSyntaxError, 'malformed basic.get-ok'),
    'frame_max': (lambda w: deliver(w, body=b'x' * 193), exceptions.FrameError, 'has 201 bytes, agreed on are 200'),
    'max_body': (lambda w: method(w, 1) + header(1, 1001), exceptions.InboundBodyTooLarge, 'body of 1001.* are 1000'),
    'declared 2**62': (lambda w: method(w, 1) + header(1, 2**62), exceptions.InboundBodyTooLarge, str(2**62)),
    'declared 2**64 - 1': (lambda w: method(w, 1) + header(1, 2**64 - 1), exceptions.InboundBodyTooLarge, '1844'),
}


@pytest.mark.parametrize('name', VIOLATIONS)
def test_violations(wire: Any, feedings: Any, name: str) -> None:
    make, error, text = VIOLATIONS[name]
    data = deliver(wire, 9) + make(wire)
    texts = set()
    for decoder, events in feedings(wire, data + deliver(wire, 9), frame_max=200, max_body=1000):
        assert [inside.channel_id_of(event) for event in events if not isinstance(event, tuple)][:1] == [9]
        assert all(inside.channel_id_of(event) != 9 for event in events[1:])
        assert type(decoder.error) is error
        assert decoder.error.__traceback__ is None
        assert decoder.error.reply_code == error.code  # type: ignore[attr-defined]
        texts.add(str(decoder.error))
        assert not decoder.pending
        assert decoder.feed(deliver(wire)) == []
        assert decoder.commit(5) == []
        assert not decoder.pending
    assert len(texts) == 1
    assert re.search(text, texts.pop())


def test_errors_about_a_method_name_it(wire: Any) -> None:
    decoder = wire.Decoder()
    decoder.feed(frame(1, 1, b'\0<\0\x15\x05ab'))
    assert decoder.error.method_sig == (60, 21)


def test_a_frame_is_judged_by_its_head(wire: Any) -> None:
    for data in (
        b'\x01\0\x01\x01\0\0\x01',
        b'\x02\0\x01\x7f\xff\xff\xff',
        b'\x01\0\x01\xff\xff\xff\xff',
        b'\x04\0\0\0\0\0\1',
    ):
        decoder = wire.Decoder(frame_max=4096)
        decoder.feed(data)
        assert decoder.error is not None


def test_frame_max_binds_bodies_only(wire: Any, feedings: Any) -> None:
    """RabbitMQ neither splits nor limits a header, whatever was agreed on."""
    large = {'application_headers': {'x-death': ['x' * 10_000] * 2}}
    for body in (b'', b'x' * 4000, b'x' * 9000):
        data = bytes(wire.encode_content(1, DELIVER, ARGS, large, body, 0))
        if len(body) > 4088:
            data = (
                data[: -len(body) - 8]
                + frame(3, 1, body[:4088])
                + frame(3, 1, body[4088:8176])
                + frame(3, 1, body[8176:])
            )
        for decoder, (content,) in feedings(wire, data, frame_max=4096):
            assert decoder.error is None
            assert content.body == body
            assert content.properties == large


def test_without_frame_max_only_bodies_may_be_large(wire: Any) -> None:
    decoder = wire.Decoder()
    decoder.feed(b'\x01\0\x01\x00\xff\xff\xff')
    assert decoder.error is None
    decoder = wire.Decoder()
    decoder.feed(b'\x01\0\x01\x01\x00\x00\x01')
    assert 'accepted are 16777216' in str(decoder.error)
    decoder = wire.Decoder()
    decoder.feed(method(wire, 1) + header(1, 2**28) + b'\x03\0\x01\x10\x00\x00\x00')
    assert decoder.error is None


def test_limits_may_be_set_later(wire: Any) -> None:
    decoder = wire.Decoder(frame_max=4096, max_body=100)
    assert (decoder.frame_max, decoder.max_body) == (4096, 100)
    decoder.frame_max, decoder.max_body = 0, 10_000
    (content,) = decoder.feed(deliver(wire, body=b'x' * 9000))
    assert inside.size_of(content) == 9000
    decoder.frame_max = 4096
    assert decoder.feed(deliver(wire, body=b'x' * 9000)) == []
    assert type(decoder.error) is exceptions.FrameError


def test_forget(wire: Any) -> None:
    decoder = wire.Decoder()
    decoder.feed(method(wire, 1) + header(1, 5) + frame(3, 1, b'ab') + method(wire, 2))
    decoder.forget(1)
    decoder.forget(2)
    decoder.forget(77)
    # What is left of them must come, and is not delivered.
    assert decoder.feed(frame(3, 1, b'cde')) == []
    assert decoder.feed(method(wire, 1, (20, 41), ())) == [(1, (20, 41), ())]
    assert decoder.pending
    assert decoder.feed(header(2, 0)) == []
    assert not decoder.pending
    (content,) = decoder.feed(method(wire, 2) + header(2, 5) + frame(3, 2, b'ab') + frame(3, 2, b'cde'))
    assert content.body == b'abcde'


def test_of_channels_that_are_not_open_nothing_is_kept(wire: Any) -> None:
    channels = {1: object()}
    decoder = wire.Decoder(channels=channels)
    part = bytes(100_000)
    for number in (1, 2):
        assert decoder.feed(method(wire, number) + header(number, 300_000)) == []
    assert decoder.feed(frame(3, 2, part)) == []  # from now on the buffer has its size
    tracemalloc.start()
    try:
        assert decoder.feed(frame(3, 2, part)) == []
        assert tracemalloc.get_traced_memory()[0] < len(part)
    finally:
        tracemalloc.stop()
    assert decoder.feed(frame(3, 2, part)) == []
    (content,) = decoder.feed(frame(3, 1, part) * 3)
    assert content.body == part * 3
    assert decoder.error is None


@pytest.mark.parametrize('pieces', [False, True])
def test_large_properties_weigh(wire: Any, pieces: bool) -> None:
    def decoded(headers: Any) -> Any:
        data = deliver(wire, body=b'body', properties={'application_headers': headers})
        decoder, step = wire.Decoder(), 1 if pieces else len(data)
        return [content for at in range(0, len(data), step) for content in decoder.feed(data[at : at + step])]

    (light,) = decoded({'key': 'x' * 100})
    assert (inside.size_of(light), inside.weight_of(light)) == (4, 4)
    (heavy,) = decoded({'key': 'x' * 1000})
    assert inside.size_of(heavy) == 4
    assert 1004 < inside.weight_of(heavy) < 1050


def test_room_and_commit(wire: Any) -> None:
    decoder = wire.Decoder()
    data = deliver(wire) * 3
    room = decoder.room()
    assert len(room) >= 8 * 1024
    room[: len(data)] = data
    assert len(decoder.commit(len(data) - 1)) == 2
    decoder.room()[0:1] = data[-1:]
    assert len(decoder.commit(1)) == 1
    assert decoder.commit(0) == []
    for n in (-1, len(decoder.room()) + 1):
        with pytest.raises(ValueError, match='commit'):
            decoder.commit(n)


def fill(decoder: Any, data: bytes) -> list[Any]:
    """Receive *data* as from a socket that has all of it, as much at a time as there is room."""
    events = []
    while data:
        room = decoder.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        events += decoder.commit(count)
        data = data[count:]
    return events


def test_the_buffer_grows_with_what_arrives_and_shrinks_again(wire: Any) -> None:
    decoder = wire.Decoder()
    fill(decoder, deliver(wire) * 10_000)
    usual = len(decoder.room())
    body = b'x' * 3_000_000
    data = deliver(wire, body=body)
    biggest = 0
    for at in range(0, len(data), 50_000):
        events = decoder.feed(data[at : at + 50_000])
        biggest = max(biggest, len(decoder.room()))
        assert len(decoder.room()) >= 64 * 1024
    assert events[0].body == body
    assert biggest < 4 * len(data)
    assert len(decoder.room()) == usual


def test_the_buffer_is_small_until_much_arrives_at_once(wire: Any) -> None:
    decoder = wire.Decoder()
    small = len(decoder.room())
    assert small <= 16 * 1024
    message = deliver(wire, body=b'x' * 1000)
    for _ in range(100):
        assert len(fill(decoder, message * 7)) == 7
        assert len(decoder.room()) == small
    for _ in range(100):  # in pieces, of which each leaves a part of a message behind
        assert len(fill(decoder, message[:900]) + fill(decoder, message[900:] + message[:100])) == 1
        assert small // 2 <= len(decoder.room()) <= small
        assert len(fill(decoder, message[100:])) == 1
    count = 2 * small // len(message)
    assert len(fill(decoder, message * count)) == count
    assert len(decoder.room()) >= 64 * 1024, 'a receive has filled it'
    # Most of a large frame, which has come little by little, is a reason too.
    decoder = wire.Decoder()
    half = deliver(wire, body=b'x' * (small - 1000))
    for at in range(0, len(half) - 200, 500):
        assert not fill(decoder, half[at : min(at + 500, len(half) - 200)])
    assert len(decoder.room()) >= 64 * 1024
    assert len(fill(decoder, half[-200:])) == 1


def test_a_view_that_somebody_kept_does_no_harm(wire: Any) -> None:
    decoder = wire.Decoder()
    kept = [decoder.room()]
    for _ in range(30):
        events = decoder.feed(deliver(wire, body=b'x' * 100_000))
        kept.append(decoder.room())
        assert events[0].body == b'x' * 100_000


def test_interrupted(wire: Any) -> None:
    class Stop(BaseException):
        pass

    class Message(wire.Content):  # type: ignore[misc, name-defined]
        def __new__(cls) -> Any:
            raise Stop

    decoder = wire.Decoder(Message)
    with pytest.raises(Stop):
        decoder.feed(deliver(wire))
    assert 'interrupted by Stop' in str(decoder.error)
    assert decoder.feed(deliver(wire)) == []


def test_repr(wire: Any) -> None:
    decoder = wire.Decoder()
    decoder.feed(method(wire, 1) + b'\x02')
    assert repr(decoder) == '<Decoder 1 bytes held, 1 contents incomplete>'
    decoder.feed(b'\xff' * 10)
    assert repr(decoder) == '<Decoder failed, 0 contents incomplete>'
