"""AMQP over TLS with a peer that cuts, mixes and stalls the stream as no well-meaning server does."""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
from typing import Any

import greenlets
import inside
import pytest
from certificates import Certificates
from script import ScriptedBroker
from tls_proxy import Front

import gamqp
from gamqp import exceptions

VERSIONS = pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
SEED = 20261


@pytest.fixture
def trust(certificates: Certificates) -> dict[str, Any]:
    return {'ca_certs': certificates.trust}


def bodies(count: int, size: int) -> list[bytes]:
    source = random.Random(SEED)
    return [source.randbytes(size) for _ in range(count)]


def publish(peer: ScriptedBroker, channel: Any, body: bytes) -> None:
    """It must arrive as it is."""
    task = greenlets.spawn(channel.basic_publish, gamqp.Message(body), '', 'q')
    event = peer.expect('basic.publish')
    task.get()
    assert event.body == body


def get(peer: ScriptedBroker, channel: Any, body: bytes) -> None:
    """The same the other way."""
    task = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-ok', delivery_tag=1, body=body)
    assert task.get().body == body


CUTS = [
    {'record': 1},
    {'segment': 1},
    {'record': 1, 'segment': 1, 'fine': 8_000},
    {'record': 7, 'segment': 3},
    {'record': 16384, 'segment': 1000, 'fine': 10**9},
]


@VERSIONS
@pytest.mark.parametrize('cut', CUTS, ids=str)
def test_records_and_segments_of_any_size(
    peer: ScriptedBroker,
    certificates: Certificates,
    trust: dict[str, Any],
    version: ssl.TLSVersion,
    cut: dict[str, int],
) -> None:
    with Front(peer.port, certificates.server, version=version, **cut) as front:
        connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
        channel = peer.open_channel(connection)
        for body in (*bodies(1, 1200), b'', b'x'):
            get(peer, channel, body)
            publish(peer, channel, body)
        closing = greenlets.spawn(connection.close)
        peer.agree_to_close()
        closing.get()
        assert [ssl.TLSVersion[name.replace('.', '_')] for name in front.versions] == [version]


@pytest.mark.parametrize('segment', [0, 1])
def test_session_tickets_right_after_the_handshake(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any], segment: int
) -> None:
    """They come before any AMQP, and are no input for us."""
    with Front(peer.port, certificates.server, version=ssl.TLSVersion.TLSv1_3, tickets=20, segment=segment) as front:
        connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
        channel = peer.open_channel(connection)
        get(peer, channel, b'x')
        connection.collect()
        assert not front.errors


def test_large_messages_both_ways_at_once(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0))
    channel = peer.open_channel(connection)
    got: list[str] = []
    consuming = greenlets.spawn(
        lambda: channel.basic_consume('q', 't', no_ack=True, callback=lambda m: got.append(digest(m.body)))
    )
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', consumer_tag='t')
    consuming.get()
    ours, theirs = bodies(8, 1_000_000), bodies(16, 500_000)
    publishing = greenlets.spawn(lambda: [channel.basic_publish(gamqp.Message(body), '', 'q') for body in ours])
    draining = greenlets.spawn(lambda: [connection.drain_events(timeout=30) for _ in theirs])
    sent = []
    for number, body in enumerate(ours):
        for tag, answer in enumerate(theirs[2 * number : 2 * number + 2]):
            peer.send('basic.deliver', consumer_tag='t', delivery_tag=2 * number + tag + 1, body=answer)
        sent.append(peer.expect('basic.publish').body == body)
    publishing.get()
    draining.get()
    assert sent == [True] * len(ours)
    assert got == [digest(body) for body in theirs]
    connection.collect()


def digest(body: Any) -> str:
    return hashlib.sha256(body).hexdigest()


# -- a peer that does not read ---------------------------------------------------------------


def fill(connection: Any, channel: Any, body: bytes = bytes(100_000)) -> None:
    """Publish until neither the kernel nor the queue takes more."""
    while not inside.writer(connection).full:
        channel.basic_publish(gamqp.Message(body), '', 'q')


def test_a_peer_that_does_not_read_stops_publishers_and_loses_nothing(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    with Front(peer.port, certificates.server, buffer=8192) as front:
        connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0))
        channel = peer.open_channel(connection)
        connection.rpc_timeout = 0.2
        front.reading.clear()
        with pytest.raises(TimeoutError, match='send queue was full'):
            while True:  # a slow peer takes some more after the queue was full for the first time
                fill(connection, channel)
                channel.basic_publish(gamqp.Message(bytes(100_000)), '', 'q')
        with pytest.raises(TimeoutError, match='flush'):
            connection.flush(timeout=0.1)
        assert connection.connected
        front.reading.set()
        patient = greenlets.spawn(connection.flush, 60)
        arrived = 0
        while not patient.done:
            assert peer.expect('basic.publish').body == bytes(100_000)
            arrived += 1
        assert arrived > 10
        patient.get()
        assert not inside.writer(connection).pending
        connection.collect()


def test_ciphertext_that_is_stuck_goes_out_when_there_is_room(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    """The writer's own queue is empty, and what is encrypted still waits for the kernel: flush knows of both."""
    with Front(peer.port, certificates.server, buffer=8192) as front:
        connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0))
        channel = peer.open_channel(connection)
        front.reading.clear()
        transport, writer = inside.transport(connection), inside.writer(connection)
        count = stuck = 0
        while stuck < 6:  # on a busy machine the kernel may take some more a while later
            if not transport.unsent:
                channel.basic_publish(gamqp.Message(bytes(10_000)), '', 'q')
                writer.flush()
                count += 1
            try:
                connection.flush(timeout=0.05)
                stuck = 0
            except TimeoutError:
                stuck += 1
        assert not writer.queued
        assert writer.pending
        with pytest.raises(TimeoutError):
            connection.flush(timeout=0.05)
        front.reading.set()
        flushing = greenlets.spawn(connection.flush, 60)
        for _ in range(count):
            assert peer.expect('basic.publish').body == bytes(10_000)
        flushing.get()
        assert not transport.unsent
        connection.collect()


def test_write_timeout_ends_a_connection_whose_peer_takes_nothing(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    with Front(peer.port, certificates.server, buffer=8192) as front:
        connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0), write_timeout=0.3)
        channel = peer.open_channel(connection)
        front.reading.clear()
        fill(connection, channel)
        greenlets.wait_until(lambda: not connection.connected, 60)
        with pytest.raises(exceptions.RecoverableConnectionError, match='write timeout'):
            connection.channel()


def test_a_peer_that_reads_slowly_is_no_write_timeout(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    """A chunk of ciphertext takes many times as long as the timeout, and all that time the kernel takes bytes."""
    with Front(peer.port, certificates.server, buffer=4096) as front:
        connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0), write_timeout=1.5)
        shrink(connection)
        channel = peer.open_channel(connection)
        front.pace(2048, 0.04)
        channel.basic_publish(gamqp.Message(bytes(150_000)), '', 'q', timeout=30)
        connection.flush(30)
        assert connection.connected
        connection.collect()


def shrink(connection: Any) -> None:
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


# -- the end ---------------------------------------------------------------------------------------


def test_a_peer_that_never_answers_close_notify(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    closing = greenlets.spawn(connection.close)
    said = peer.expect('connection.close')
    peer.send('connection.close-ok')
    closing.get()
    assert said.reply_code in (0, 200)
    assert not connection.connected
    # Ours was sent: the server can tell the end from a cut.
    greenlets.wait_until(lambda: front.goodbyes == 1)


def test_a_peer_that_takes_nothing_does_not_hold_up_the_close(
    peer: ScriptedBroker, certificates: Certificates, trust: dict[str, Any]
) -> None:
    with Front(peer.port, certificates.server, buffer=8192) as front:
        connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 0))
        channel = peer.open_channel(connection)
        front.reading.clear()
        fill(connection, channel)
        connection.collect()
        assert connection.sock is None


def test_an_end_without_close_notify_is_an_end(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0)
    front.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError, match='the broker closed the socket'):
        waiting.get()


def test_an_end_with_close_notify_is_an_end(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0)
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError, match='the broker closed the socket'):
        waiting.get()


def test_the_last_words_before_the_end_are_read(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0)
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - maintenance')
    peer.hang_up()
    with pytest.raises(exceptions.ConnectionForced, match='maintenance'):
        waiting.get()


def test_the_last_words_before_rubbish_are_read(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0)
    front.append = b'\x17\x03\x03\x00\x20' + bytes(32)
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - maintenance')
    with pytest.raises(exceptions.ConnectionForced, match='maintenance'):
        waiting.get()


def test_a_forged_record_ends_the_connection_and_says_tls(
    peer: ScriptedBroker, front: Front, trust: dict[str, Any]
) -> None:
    connection = peer.open(host=front.host, ssl=trust, connect_timeout=60)
    channel = peer.open_channel(connection)
    front.forge = True
    peer.send('basic.cancel', consumer_tag='x')
    waiting = greenlets.spawn(channel.queue_declare, 'q')
    with pytest.raises(exceptions.RecoverableConnectionError, match='TLS session failed') as caught:
        waiting.get()
    assert isinstance(caught.value.__cause__, ssl.SSLError)


# -- heartbeats ---------------------------------------------------------------------------------------


def test_heartbeats_go_both_ways(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 1))
    for _ in range(3):
        peer.expect_nothing_before_beat()
        peer.raw(bytes(gamqp.wire.HEARTBEAT))
    assert connection.connected
    connection.collect()


def test_a_silent_peer_is_found_dead(peer: ScriptedBroker, front: Front, trust: dict[str, Any]) -> None:
    connection = peer.open(host=front.host, ssl=trust, tune=(10, 131072, 1))
    with pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
        connection.drain_events(timeout=30)
