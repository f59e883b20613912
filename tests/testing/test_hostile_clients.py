"""Clients that send nonsense: the broker closes their connections, has no error of its own, and loses no message."""

from __future__ import annotations

import random

import inside
import pytest
from conversations import BrokerTalker
from random_talk import converse

from gamqp import testing
from gamqp.testing.state.server import Node
from gamqp.testing.state.session import Session


class Recorder(BrokerTalker):
    """Keeps what it sends."""

    def __init__(self, broker: testing.Broker) -> None:
        self.bytes = bytearray()
        super().__init__(broker, 'h-')

    def raw(self, data: bytes) -> None:
        self.bytes += data
        super().raw(data)


@pytest.fixture(scope='module')
def conversations() -> list[bytes]:
    """What clients send in some random conversations."""
    found = []
    with testing.Broker() as broker:
        for seed in range(10):
            talk = Recorder(broker)
            converse(talk, seed, 25)
            found.append(bytes(talk.bytes))
    return found


def damaged(chance: random.Random, data: bytes) -> bytes:
    octets = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(octets))
        kind = chance.randrange(3)
        if kind == 0:
            octets[at] = chance.randrange(256)
        elif kind == 1:
            del octets[at : at + chance.randrange(1, 5)]
        else:
            octets[at:at] = chance.randbytes(chance.randrange(1, 5))
    return bytes(octets)


@pytest.mark.parametrize('seed', range(8))
def test_damaged_conversations(conversations: list[bytes], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        broker = testing.Broker(chance.choice(('4.3', '3.10')))
        session = Session(inside.server(broker), Node('here'), 'somebody')
        inside.server(broker).sessions.append(session)
        data = damaged(chance, chance.choice(conversations))
        at = 0
        while at < len(data):  # in pieces, and what is answered goes at once
            size = chance.randrange(1, 3000)
            session.receive(data[at : at + size])
            at += size
            session.sent(session.out_size)
            session.out.clear()
        session.ended()
        assert not broker.connections
        for queue in inside.server(broker).vhosts['/'].queues.values():
            assert queue.unacked == 0


def test_malformed_properties_close_the_connection(broker: testing.Broker) -> None:
    talk = BrokerTalker(broker, '')
    talk.open(1)
    publish = b'\x01\0\x01\0\0\0\x09\0\x3c\0\x28\0\0\0\0\0\xce'
    header = b'\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\0\x90\x00\x09\xce'  # a content type of 9 bytes, none there
    talk.raw(publish + header)
    _, name, values = talk.settle()[0]
    assert (name, values['reply_code']) == ('connection.close', 502)
