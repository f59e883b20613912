"""A peer that breaks the protocol: the connection ends with that error, and the peer is told its code."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from named_methods import split
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import exceptions

DELIVER = frames('basic.deliver', consumer_tag='tag', delivery_tag=1, body=b'body')


METHOD, HEADER, BODY = split(DELIVER)
LONG = split(frames('basic.deliver', body=b'x' * 200_000))[1]

LIMIT = 300_000  # bytes of a body

# name, what the peer sends, the error, its code on the wire
BREACHES: list[Any] = [
    ('a reply that nobody asked for', frames('queue.purge-ok'), exceptions.UnexpectedFrame, 505),
    ('a method for brokers', frames('queue.declare', queue='q'), exceptions.UnexpectedFrame, 505),
    ('a reply on channel 0', frames('queue.purge-ok', 0), exceptions.InvalidCommand, 503),
    ('connection.close on a channel', frames('connection.close', 1), exceptions.InvalidCommand, 503),
    ('an unknown method', b'\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\xff\xce', exceptions.InvalidCommand, 503),
    ('an unknown class', b'\x01\x00\x01\x00\x00\x00\x04\x01\x00\x00\x0a\xce', exceptions.InvalidCommand, 503),
    ('a method cut short', b'\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x1f\x09\xce', exceptions.FrameSyntaxError, 502),
    ('a wrong frame end', METHOD[:-1] + b'\xcd', exceptions.FrameError, 501),
    ('an unknown frame type', b'\x07\x00\x00\x00\x00\x00\x00\xce', exceptions.FrameError, 501),
    ('a body frame above frame_max', METHOD + LONG + b'\x03\x00\x01\x00\x02\x00\x00', exceptions.FrameError, 501),
    ('a method frame above 16 MiB', b'\x01\x00\x01\x01\x00\x00\x01', exceptions.FrameError, 501),
    ('a header frame above 16 MiB', METHOD + b'\x02\x00\x01\x01\x00\x00\x01', exceptions.FrameError, 501),
    (
        'a body above max_inbound_body',
        frames('basic.deliver', body=b'x' * (LIMIT + 1)),
        exceptions.InboundBodyTooLarge,
        501,
    ),
    ('a header without a method', HEADER, exceptions.UnexpectedFrame, 505),
    ('a body without a header', METHOD + BODY, exceptions.UnexpectedFrame, 505),
    ('a method amid a content', METHOD + METHOD, exceptions.UnexpectedFrame, 505),
    (
        'more body than announced',
        METHOD + HEADER + BODY[:6] + b'\x09' + b'123456789\xce',
        exceptions.UnexpectedFrame,
        505,
    ),
    ('a heartbeat on a channel', b'\x08\x00\x01\x00\x00\x00\x00\xce', exceptions.FrameError, 501),
]


@pytest.mark.parametrize(('breach', 'error', 'code'), [row[1:] for row in BREACHES], ids=[row[0] for row in BREACHES])
def test_ends_the_connection_for_everybody(
    peer: ScriptedBroker, breach: bytes, error: type[exceptions.AMQPError], code: int
) -> None:
    client = peer.open(max_inbound_body=LIMIT)
    channel = peer.open_channel(client)
    other = peer.open_channel(client, 2)
    draining = greenlets.spawn(client.drain_events)
    confirming = greenlets.spawn(other.basic_publish_confirm, gamqp.Message(b'x'), '', 'q')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.raw(breach)
    caught = []
    for task in (draining, confirming):
        with pytest.raises(error) as info:
            task.get()
        caught.append(info.value)
    assert caught[0] is not caught[1]
    said = peer.expect('connection.close')
    assert said.reply_code == code
    assert said.reply_text
    peer.expect_end()
    with pytest.raises(error):
        channel.basic_ack(1)
    assert not client.connected


def test_what_came_before_the_breach_is_delivered(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    peer.raw(frames('queue.declare-ok', queue='q') + b'nonsense')
    assert declaring.get().queue == 'q'


def test_a_wrong_reply_is_told_to_the_caller_who_waits(peer: ScriptedBroker, channel: gamqp.Channel) -> None:
    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    peer.send('queue.purge-ok')
    with pytest.raises(exceptions.UnexpectedFrame, match=r'while Queue\.declare_ok was due'):
        declaring.get()
    assert peer.expect('connection.close').reply_code == 505


def test_a_malformed_property_section_is_an_error_of_the_one_who_looks(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    # Flags announce a content type that does not come.
    header = HEADER[:19] + b'\x80\x00' + HEADER[21:]
    peer.raw(METHOD + header + BODY)
    client.drain_events(timeout=30)
    assert got[0].body == b'body'
    with pytest.raises(exceptions.FrameSyntaxError):
        _ = got[0].properties
    assert client.connected


def test_a_text_of_the_peer_that_is_too_long_to_be_sent_back_is_cut(
    peer: ScriptedBroker, channel: gamqp.Channel
) -> None:
    draining = greenlets.spawn(channel.connection.drain_events)
    greenlets.sleep(0)
    peer.raw(b'\xc3\xbc' * 4000)
    with pytest.raises(exceptions.FrameError):
        draining.get()
    assert len(peer.expect('connection.close').reply_text.encode()) <= 255
