"""A message: what it tells, and when it decodes."""

from __future__ import annotations

import codecs
import copy
import gc
import pickle
import sys
import weakref
from typing import Any

import inside
import pytest
from golden import load

import gamqp
from gamqp import exceptions
from gamqp import wire as loaded
from gamqp.wire.content import TEXT_ENCODINGS
from gamqp.wire.spec import PROPERTY_NAMES

DELIVER = (60, 60)


class Message(loaded.Content):
    """What the layers above do: a plain Python subclass with attributes of its own."""

    def __init__(self, body: Any = b'', **properties: Any) -> None:
        super().__init__(body, properties)
        self.note = 'local'


def deliver(wire: Any, properties: Any = None, body: bytes = b'body', cls: Any = None) -> Any:
    data = wire.encode_content(5, DELIVER, ('tag', 9, True, 'ex', 'key'), properties, body, 0)
    (content,) = wire.Decoder(cls or wire.Content).feed(data)
    return content


def test_a_delivery(wire: Any) -> None:
    content = deliver(wire, {'priority': 3, 'application_headers': {'k': 1}})
    assert type(content) is wire.Content
    assert (content.channel, inside.channel_id_of(content), inside.method_of(content)) == (None, 5, DELIVER)
    assert (content.delivery_tag, content.consumer_tag, content.redelivered) == (9, 'tag', True)
    assert (content.body, inside.size_of(content), inside.decodes(content)) == (b'body', 4, False)
    assert content.properties == {'priority': 3, 'application_headers': {'k': 1}}
    assert content.headers == {'k': 1}
    assert content.delivery_info == {
        'consumer_tag': 'tag',
        'delivery_tag': 9,
        'redelivered': True,
        'exchange': 'ex',
        'routing_key': 'key',
    }


@pytest.mark.parametrize(
    ('sig', 'args', 'info', 'tag'),
    [
        (
            (60, 71),
            (2**63, False, 'e', 'k', 7),
            {'delivery_tag': 2**63, 'redelivered': False, 'exchange': 'e', 'routing_key': 'k', 'message_count': 7},
            2**63,
        ),
        (
            (60, 50),
            (312, 'NO_ROUTE', 'e', 'k'),
            {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': 'e', 'routing_key': 'k'},
            None,
        ),
        (
            (60, 40),
            (0, 'e', 'k', True, False),
            {'exchange': 'e', 'routing_key': 'k', 'mandatory': True, 'immediate': False},
            None,
        ),
    ],
)
def test_the_other_methods(wire: Any, sig: Any, args: Any, info: Any, tag: Any) -> None:
    (content,) = wire.Decoder().feed(wire.encode_content(1, sig, args, {}, b'x', 0))
    assert inside.method_of(content) == sig
    assert content.delivery_info == info
    assert (content.delivery_tag, content.consumer_tag, content.redelivered) == (tag, None, False)
    assert content.properties == {}
    assert content.headers == {}


def test_properties_as_they_arrived(wire: Any) -> None:
    content = deliver(wire, {'priority': 3, 'application_headers': {'k': 1}})
    assert wire.decode_properties(inside.header_of(content), 0) == content.properties
    assert inside.header_of(deliver(wire)) == b'\0\0'
    assert inside.header_of(wire.Content(b'x', {'priority': 3})) == b''


def test_a_delivery_is_one_object_with_two_bytes_objects(wire: Any) -> None:
    decoder, count = wire.Decoder(), 1000
    args = [('tag', 1000 + number, True, 'ex', 'key') for number in range(count)]
    data = b''.join(wire.encode_content(5, DELIVER, each, {'priority': 3}, b'body', 0) for each in args)
    decoder.feed(data[: len(data) // count])
    gc.collect()
    before = sys.getallocatedblocks()
    contents = decoder.feed(data)
    blocks = (sys.getallocatedblocks() - before) / count
    assert len(contents) == count
    # The object, its body, its method's arguments with its properties, and the number that is its tag.
    assert blocks < 4.1


def test_properties_are_attributes(wire: Any) -> None:
    content = deliver(wire, {'priority': 3, 'type': 'x', 'application_headers': {}})
    assert (content.priority, content.type, content.application_headers) == (3, 'x', {})
    for name in PROPERTY_NAMES - {'priority', 'type', 'application_headers'}:
        assert not hasattr(content, name)
        with pytest.raises(AttributeError, match=f"^'Content' object has no attribute '{name}'$") as info:
            getattr(content, name)
        assert (info.value.name, info.value.obj) == (name, content)
    for name in PROPERTY_NAMES:
        with pytest.raises(AttributeError, match=f"^type object 'Content' has no attribute '{name}'$"):
            getattr(wire.Content, name)
    assert not hasattr(content, 'nothing')


def test_attributes_are_looked_up_as_python_does(wire: Any) -> None:
    """A __getattr__ in the class would make each attribute and each method of its messages slower."""
    assert not hasattr(wire.Content, '__getattr__')
    assert not hasattr(gamqp.Message, '__getattr__')


def test_decoded_once_and_kept(wire: Any) -> None:
    content = deliver(wire, {'application_headers': {'k': 1}})
    assert content.properties is content.properties
    assert content.headers is content.headers
    assert content.delivery_info is content.delivery_info


def test_everything_can_be_set(wire: Any) -> None:
    content = deliver(wire)
    for name in (
        'channel',
        '_method',
        'delivery_tag',
        'consumer_tag',
        'body',
        'properties',
        'delivery_info',
    ):
        value = {'new': name}
        setattr(content, name, value)
        assert getattr(content, name) == value
    for name in ('_channel_id', '_size', '_weight'):
        setattr(content, name, 7)
        assert getattr(content, name) == 7
    content.redelivered = True
    inside.auto_decode(content)
    assert content.redelivered is True


def test_local(wire: Any) -> None:
    content = wire.Content(b'abc', {'priority': 1})
    assert (content.body, inside.size_of(content), content.properties) == (b'abc', 3, {'priority': 1})
    assert (inside.method_of(content), content.delivery_tag, content.consumer_tag) == (None, None, None)
    assert content.delivery_info == {}
    content.delivery_info['mine'] = 1
    assert content.delivery_info == {'mine': 1}
    empty = wire.Content()
    assert (empty.body, inside.size_of(empty), empty.properties, empty.headers) == (b'', 0, {}, {})


def test_subclasses(source: Any) -> None:
    builds = [(source, type('Message', (source.Content,), {'__doc__': 'a subclass'})), (loaded, Message)]
    for wire, cls in builds:
        message = deliver(wire, {'priority': 3}, cls=cls)
        assert type(message) is cls
        assert message.properties == {'priority': 3}
        message.anything = 5
        assert message.anything == 5
        message.priority = 9  # hides the property, and does not change it
        assert (message.priority, message.properties) == (9, {'priority': 3})
        assert not hasattr(message, 'note'), 'the decoder does not call __init__'
    local = Message('text', priority=3)
    assert (local.body, local.note, local.properties) == ('text', 'local', {'priority': 3})


@pytest.mark.parametrize(
    ('encoding', 'body', 'expected'),
    [
        ('utf-8', b'gr\xc3\xbc', 'grü'),
        ('latin-1', b'gr\xfc', 'grü'),
        ('utf-8', b'\xff', b'\xff'),
        ('gzip', b'abc', b'abc'),
        ('no such', b'abc', b'abc'),
        ('hex', b'6162', b'6162'),
        ('UTF_8', b'gr\xc3\xbc', 'grü'),
        ('ISO 8859_1', b'gr\xfc', 'grü'),
        ('Windows-1252', b'\x80', '€'),
        (b'utf-8', b'gr\xc3\xbc', 'grü'),
        (b'\xff', b'abc', b'abc'),
        ('gb18030', '队'.encode('gb18030'), '队'),
        ('punycode', b'abc-', b'abc-'),
        ('idna', b'abc', b'abc'),
        ('unicode_escape', b'abc', b'abc'),
        ('utf-7', b'abc', b'abc'),
        ('', b'abc', b'abc'),
        (None, b'abc', b'abc'),
    ],
)
def test_auto_decode(wire: Any, encoding: Any, body: bytes, expected: Any) -> None:
    for content_type in (None, 'text/plain'):
        content = deliver(wire, {'content_encoding': encoding, 'content_type': content_type}, body)
        assert content.body == body
        inside.auto_decode(content)
        assert content.body == expected
        assert content.body == expected
        assert inside.size_of(content) == len(body)


def test_names_that_the_sender_invents_are_not_looked_up(wire: Any) -> None:
    """Python keeps each name it was ever asked for."""
    asked = []
    search = asked.append  # and finds nothing
    codecs.register(search)
    try:
        for encoding in ('not-a-codec-1', 'not_a_codec_2', 'punycode'):
            content = deliver(wire, {'content_encoding': encoding})
            inside.auto_decode(content)
            assert content.body == b'body'
    finally:
        codecs.unregister(search)
    assert asked == []


def test_every_encoding_that_is_decoded_is_one_of_python() -> None:
    assert len(TEXT_ENCODINGS) > 50
    for name in TEXT_ENCODINGS:
        assert 'a'.encode(name).decode(name) == 'a'
        assert name == name.lower().replace('_', '-').replace(' ', '-')


def test_auto_decode_of_local_messages_and_of_what_was_set(wire: Any) -> None:
    content = wire.Content(b'abc', {'content_encoding': 'utf-8'})
    inside.auto_decode(content)
    assert content.body == 'abc'
    content.body = b'abc'
    assert content.body == b'abc'


def test_malformed_properties_are_found_at_access(wire: Any) -> None:
    data = bytearray(deliver_bytes(wire, {'content_encoding': 'utf-8', 'message_id': 'abc'}))
    at = data.index(b'\x05utf-8')
    data[at] = 0xFF
    (content,) = wire.Decoder().feed(data)
    assert content.body == b'body'
    for _ in range(2):
        for name in ('properties', 'headers'):
            with pytest.raises(exceptions.FrameSyntaxError):
                getattr(content, name)
    inside.auto_decode(content)
    assert content.body == b'body'


def deliver_bytes(wire: Any, properties: Any) -> bytes:
    return bytes(wire.encode_content(5, DELIVER, ('tag', 9, True, 'ex', 'key'), properties, b'body', 0))


def test_malformed_delivery_info_is_found_at_access(wire: Any) -> None:
    data = bytearray(deliver_bytes(wire, {}))
    data[data.index(b'\x02ex')] = 0xFF
    (content,) = wire.Decoder().feed(data)
    assert content.delivery_tag == 9
    with pytest.raises(exceptions.FrameSyntaxError, match='malformed basic'):
        content.delivery_info  # noqa: B018


def test_repr(wire: Any) -> None:
    assert repr(deliver(wire)) == '<Content basic.deliver channel=5 tag=9 size=4>'
    assert repr(wire.Content(b'ab')) == '<Content local channel=0 size=2>'


@pytest.mark.parametrize('through', [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies(through: Any) -> None:
    message = deliver(loaded, {'priority': 3, 'content_encoding': 'utf-8'}, cls=Message)
    message.note = 'mine'
    inside.auto_decode(message)
    twin = through(message)
    assert type(twin) is Message
    assert twin.note == 'mine'
    assert (twin.body, inside.size_of(twin), twin.properties) == ('body', 4, message.properties)
    assert twin.delivery_info == message.delivery_info
    assert (twin.delivery_tag, twin.consumer_tag, inside.method_of(twin)) == (9, 'tag', DELIVER)


def test_no_message_is_kept_alive(wire: Any) -> None:
    cls = type('Message', (wire.Content,), {})
    decoder = wire.Decoder(cls)
    (content,) = decoder.feed(load('deliver-task'))
    content.properties, content.delivery_info  # noqa: B018
    content.self = content
    gone = weakref.ref(content)
    del content
    gc.collect()
    assert gone() is None
