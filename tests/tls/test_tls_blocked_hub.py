"""A hub that gets no turn, over TLS: the sending thread encrypts and sends in its place."""

from __future__ import annotations

import time
from typing import Any

import pytest
from certificates import Certificates
from hub_blocking import Listening, burn, sees
from script import ScriptedBroker
from tls_proxy import Front

import gamqp


def sees_all(listening: Listening, count: int, wait: Any) -> bool:
    return sees(listening, lambda stream: len(stream.published) == count and stream.whole, wait)


@pytest.mark.parametrize('wait', [time.sleep, burn], ids=['asleep', 'computing'])
def test_publishes_arrive_while_nothing_cooperative_runs(
    peer: ScriptedBroker, certificates: Certificates, wait: Any
) -> None:
    with Front(peer.port, certificates.server) as front:
        client = peer.open(host=front.host, ssl={'ca_certs': certificates.trust})
        channel = peer.open_channel(client)
        with Listening(peer) as listening:
            count = 0
            for burst in (1, 1, 5, 200):
                for _ in range(burst):
                    channel.basic_publish(gamqp.Message(bytes(1000)), '', 'q')
                count += burst
                assert sees_all(listening, count, wait)
            client.flush(30)
            channel.basic_publish(gamqp.Message(bytes(300_000)), '', 'q')
            channel.basic_publish(gamqp.Message(b'x'), '', 'q')
            assert sees_all(listening, count + 2, wait)
        assert client.connected
        client.collect()
