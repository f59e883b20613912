"""What a broker can make us hold: for each kind a flood of it, and the memory that the client takes for it.

A new thing that the reader keeps, queues or starts because the peer said something is a new row of KINDS.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions, green
from gamqp.state.peer_memory_limit import LIMIT

# Bytes that may be held in these tests; what a flood takes beside it for a moment: the receive buffer, one batch of
# events, warnings on their way to the log.
HELD = 256 * 1024
BESIDE = 1024 * 1024
PIECE = 32 * 1024  # sent at once
FLOOD = 8 * 1024 * 1024
CHANNELS = 20
BODY = 512 * 1024  # the largest body that is accepted

HEADERS = {'application_headers': {'h': 'x' * 4000}}


def _without_end(name: str, number: int, parts: int, **args: Any) -> bytes:
    """The first *parts* frames of a content."""
    data = frames(name, number, **args)
    end = 0
    for _ in range(parts):
        end += int.from_bytes(data[end + 3 : end + 7], 'big') + 8
    return data[:end]


def on_channels_nobody_opened() -> Iterator[bytes]:
    for number in range(100, 100 + FLOOD // 4200):
        yield _without_end(
            'basic.deliver', number, 2, consumer_tag='t', delivery_tag=1, body=b'x', properties=HEADERS, limit=0
        )


def bodies_on_open_channels() -> Iterator[bytes]:
    for number in range(1, CHANNELS + 1):
        yield _without_end('basic.deliver', number, 4, consumer_tag='t', delivery_tag=1, body=bytes(BODY))


def headers_on_open_channels() -> Iterator[bytes]:
    large = {'application_headers': {'h': 'x' * 150_000}}
    for number in range(1, CHANNELS + 1):
        yield _without_end(
            'basic.deliver', number, 2, consumer_tag='t', delivery_tag=1, body=b'x', properties=large, limit=0
        )


def repeated(name: str, channel: int | None = None, **args: Any) -> Any:
    def pieces() -> Iterator[bytes]:
        piece = frames(name, channel, **args)
        for _ in range(FLOOD // 4 // len(piece)):
            yield piece

    return pieces


def blocked_and_not() -> Iterator[bytes]:
    piece = frames('connection.blocked', reason='r') + frames('connection.unblocked')
    for _ in range(FLOOD // 4 // len(piece)):
        yield piece


LARGE = {'reply_code': 312, 'body': bytes(20_000)}
TOO_MUCH = (exceptions.ResourceError, 'too much is held for the broker')
NOT_PUBLISHED = (exceptions.UnexpectedFrame, 'came back, and 0 were published')
NO_SUCH_CONFIRM = (exceptions.UnexpectedFrame, 'confirm of publish')

# What the peer sends, and the error with which the connection ends, if it does.
KINDS: dict[str, tuple[Any, Any]] = {
    'contents on channels that nobody opened': (on_channels_nobody_opened, TOO_MUCH),
    'bodies that do not end': (bodies_on_open_channels, TOO_MUCH),
    'contents of which the header alone has come': (headers_on_open_channels, TOO_MUCH),
    'channel.flow': (repeated('channel.flow', 1, active=True), TOO_MUCH),
    'channel.close on channels that nobody opened': (repeated('channel.close', 77, reply_code=404), TOO_MUCH),
    'channel.close on an open channel': (repeated('channel.close', 1, reply_code=404), TOO_MUCH),
    'basic.cancel': (repeated('basic.cancel', 1, consumer_tag='t'), TOO_MUCH),
    'deliveries that nobody consumes': (
        repeated('basic.deliver', 1, consumer_tag='t', delivery_tag=1, body=b''),
        TOO_MUCH,
    ),
    'connection.blocked and unblocked': (blocked_and_not, None),
    'returned messages': (repeated('basic.return', 1, reply_code=312), NOT_PUBLISHED),
    'large returned messages': (repeated('basic.return', 1, **LARGE), NOT_PUBLISHED),
    'returned messages that a handler is to get': (repeated('basic.return', 2, reply_code=312), NOT_PUBLISHED),
    'large ones of those': (repeated('basic.return', 2, **LARGE), NOT_PUBLISHED),
    'confirms': (repeated('basic.ack', 2, delivery_tag=1), NO_SUCH_CONFIRM),
    'heartbeats': (lambda: [b'\x08\0\0\0\0\0\0\xce'] * 10_000, None),
}


def pour(peer: ScriptedBroker, client: gamqp.Connection, data: bytes) -> None:
    """Send it in pieces that the client takes one by one, so that none of its batches is large."""
    taken = client.stats()['bytes_in']
    for at in range(0, len(data), PIECE):
        piece = data[at : at + PIECE]
        taken += len(piece)
        with contextlib.suppress(OSError):
            peer.pour(piece, 1.0)
        greenlets.wait_until(lambda until=taken: not client.connected or client.stats()['bytes_in'] >= until)
        if not client.connected:
            break


def _do_nothing(*args: Any) -> None:
    pass


@pytest.fixture
def log_kept_by_nobody() -> Iterator[None]:
    logger = logging.getLogger('gamqp')
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(handler)


@pytest.mark.usefixtures('log_kept_by_nobody')
@pytest.mark.parametrize(('pieces', 'ends'), KINDS.values(), ids=KINDS)
def test_memory_is_bounded(pieces: Any, ends: Any) -> None:
    data = b''.join(pieces())
    with ScriptedBroker(buffer=4096) as peer:
        client = peer.open(
            max_inbound_body=BODY,
            on_blocked=_do_nothing,
            on_unblocked=_do_nothing,
        )
        # Answers wait with the client, not with the kernel.
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for number in range(1, CHANNELS + 1):
            peer.open_channel(client, number)
        for event in ('basic_return', 'basic_ack', 'basic_nack'):
            client.channels[2].events[event].add(_do_nothing)
        inside.peer_memory(client).limit = HELD
        gc.collect()
        tracemalloc.start()
        try:
            pour(peer, client, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < HELD + BODY + BESIDE, f'{peak} bytes for {len(data)}'
        if ends:
            with pytest.raises(ends[0], match=ends[1]):
                client.channel()
        else:
            assert client.connected


def test_the_limit_is_far_from_what_brokers_do(peer: ScriptedBroker) -> None:
    """A thousand channels that close, deliveries of consumers that have gone: as long as the peer reads."""
    client = peer.open()
    peer.open_channel(client)
    assert inside.peer_memory(client).limit == LIMIT
    inside.peer_memory(client).limit = HELD
    for _ in range(10):
        peer.raw(frames('channel.flow', 1, active=True) * 200)
        for _ in range(200):
            peer.expect('channel.flow-ok')
    assert client.connected


def test_a_message_in_pieces_leaves_nothing_behind(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    channel = peer.open_channel(client)
    for _ in range(3):
        getting = greenlets.spawn(channel.basic_get, 'q', TOO_MUCH)
        peer.expect('basic.get')
        data = frames('basic.get-ok', 1, delivery_tag=1, body=bytes(300_000), properties=HEADERS)
        peer.raw(data[:100_000])
        greenlets.wait_until(lambda: inside.peer_memory(client).held)
        peer.raw(data[100_000:])
        assert len(getting.get().body) == 300_000
        assert inside.peer_memory(client).held == 0


def test_calls_of_on_blocked_are_few_and_the_last_is_true(peer: ScriptedBroker) -> None:
    """Handlers that wait are not started without limit; when they end, the state of then is told."""
    calls: list[str | None] = []
    gate = green.Gate(greenlets.backend)

    def on_blocked(reason: str) -> None:
        calls.append(reason)
        if len(calls) <= 16:
            gate.wait()

    client = peer.open(on_blocked=on_blocked, on_unblocked=lambda: calls.append(None))
    for number in range(40):
        peer.send('connection.blocked', reason=str(number))
    greenlets.wait_until(lambda: inside.flow_control(client).blocked_reason == '39' and len(calls) == 16)
    assert calls == [str(number) for number in range(16)]
    gate.wake_all()
    greenlets.wait_until(lambda: len(calls) > 16)
    assert calls[16] == '39'
    peer.send('connection.unblocked')
    greenlets.wait_until(lambda: calls[-1] is None)
