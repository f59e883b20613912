"""The heartbeat thread and TLS: one session, two threads, and never half a record of either inside the other's."""

from __future__ import annotations

import random
import socket
import ssl
from typing import Any

import greenlets
import inside
import pytest
from certificates import Certificates
from hub_blocking import Eager, Listening, burn
from script import ScriptedBroker
from tls_proxy import Front

import gamqp

SEED = 20267
HELD = 4.5  # seconds; with a heartbeat of one second the broker gives up after two to three
QUICK = (10, 131072, 1)

each_version = pytest.mark.parametrize(
    'version',
    [pytest.param(ssl.TLSVersion.TLSv1_2, marks=pytest.mark.slow), ssl.TLSVersion.TLSv1_3],
    ids=['1.2', '1.3'],
)


@pytest.mark.any_broker
@each_version
def test_the_broker_keeps_the_connection_while_the_hub_is_held(secure: Any, version: ssl.TLSVersion) -> None:
    options = {**secure.trust, 'tls_minimum_version': version, 'tls_maximum_version': version}
    with gamqp.connect(secure.url, ssl=options, heartbeat=1, heartbeat_thread=True) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        body = bytes(range(256)) * 32768  # 8 MiB: the kernel takes a part, and the thread finishes it
        channel.basic_publish(gamqp.Message(body), '', queue)
        burn(HELD)
        assert channel.basic_get(queue, no_ack=True).body == body


@each_version
def test_both_threads_in_every_state_of_one_session(
    peer: ScriptedBroker, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """The thread beats all the time; the hub sends and receives, and the peer stops reading now and then."""
    source = random.Random(SEED)
    print('seed', SEED)
    with Front(peer.port, certificates.server, version=version, buffer=32 * 1024) as front:
        client = peer.open(QUICK, host=front.host, ssl={'ca_certs': certificates.trust}, heartbeat_thread=True)
        channel = peer.open_channel(client)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        with Listening(peer, beats=True) as listening, Eager(client):
            for number in range(60):
                if number % 3 == 0:
                    front.reading.clear()
                channel.basic_publish(gamqp.Message(bytes(source.randrange(200_000))), '', str(number))
                burn(0.03)
                front.reading.set()
                if number % 4 == 0:
                    greenlets.sleep(0.01)
            greenlets.wait_until(lambda: len(listening.stream.published) == 60)
            assert [key for _, key, _ in listening.stream.published] == [str(number) for number in range(60)]
            assert listening.stream.heartbeats >= 5
        assert listening.stream.whole
        assert client.connected
        assert not inside.writer(client).pending
        client.collect()


def test_a_record_of_which_the_kernel_took_a_part_is_finished_first(
    peer: ScriptedBroker, certificates: Certificates
) -> None:
    with Front(peer.port, certificates.server, buffer=32 * 1024) as front:
        client = peer.open(QUICK, host=front.host, ssl={'ca_certs': certificates.trust}, heartbeat_thread=True)
        channel = peer.open_channel(client)
        with Listening(peer, beats=True) as listening:
            front.reading.clear()
            channel.basic_publish(gamqp.Message(bytes(6_000_000)), '', 'large')
            assert inside.writer(client).pending
            burn(1)
            front.reading.set()
            deadline = gamqp.green.Deadline(30)
            while not listening.stream.heartbeats and not deadline.passed:
                burn(0.1)  # and all the other threads share what it leaves
            assert listening.stream.published == [(1, 'large', 6_000_000)]
            assert listening.stream.heartbeats >= 1
            greenlets.wait_until(lambda: not inside.writer(client).pending)
        assert client.connected
        client.collect()
