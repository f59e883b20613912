"""The jobs with a socket alone: bytes that were encoded before are sent, what comes is read and not looked at.

It is what the broker and the system can do: no client is faster. With GREEN=gevent a socket of gevent.
"""

from __future__ import annotations

import importlib
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from canned_frames import EMPTY_TABLE, content, method, replay, short
from timing import ECHO, SINK, Broker, Job, main


class Raw:
    """A connection with one open channel."""

    def __init__(self, broker: Broker) -> None:
        sockets: Any = importlib.import_module('gevent.socket') if 'GREEN' in os.environ else socket
        self._socket: socket.socket = sockets.create_connection((broker.host, broker.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 18)
        self.send(b'AMQP\x00\x00\x09\x01')
        self.read()
        login = b'\x00%b\x00%b' % (broker.user.encode(), broker.password.encode())
        start_ok = EMPTY_TABLE + short(b'PLAIN') + struct.pack('>I', len(login)) + login + short(b'en_US')
        self.send(method(0, (10, 11), start_ok))
        self.read()
        self.send(method(0, (10, 31), struct.pack('>HIH', 2047, 131072, 0)))
        for request in (
            method(0, (10, 40), short(broker.vhost.encode()) + bytes(2)),
            method(1, (20, 10), b'\x00'),
        ):
            self.send(request)
            self.read()

    def send(self, octets: bytes | bytearray | memoryview) -> None:
        self._socket.sendall(octets)

    def read(self, octets: int = 1) -> None:
        """Read at least so many bytes."""
        while octets > 0:
            got = self._socket.recv_into(self._buffer)
            if not got:
                raise ConnectionError('the broker has closed the connection')
            octets -= got

    def read_frames(self, count: int) -> int:
        """Read so many frames, and return their length; nothing may come behind them."""
        got, at = b'', 0
        while count:
            while len(got) < at + 7 or len(got) < at + 8 + struct.unpack_from('>I', got, at + 3)[0]:
                got += self._socket.recv(65536)
            at += 8 + struct.unpack_from('>I', got, at + 3)[0]
            count -= 1
        return at

    def consume(self, queue: str) -> None:
        self.send(method(1, (60, 20), bytes(2) + short(queue.encode()) + short(b'tag') + b'\x02' + EMPTY_TABLE))

    def close(self) -> None:
        self._socket.close()


def publishes(routing_key: str, count: int, size: int, reply_to: bytes = b'') -> bytes:
    """So many publishes, as bytes."""
    publish = method(1, (60, 40), bytes(2) + short(b'') + short(routing_key.encode()) + b'\x00')
    return (publish + content(1, size, reply_to=reply_to)) * count


def consume(broker: Broker, job: Job) -> None:
    octets = sum(map(len, replay(1, b'tag', 1, job.size))) * job.count
    raw = Raw(broker)
    job.start()
    raw.consume(job.queue)
    raw.read(octets + len(method(1, (60, 21), short(b'tag'))))
    job.stop()
    raw.close()


def publish(broker: Broker, job: Job) -> None:
    together = min(job.count, max(1, (1 << 17) // (job.size + 300)))
    raw, octets = Raw(broker), publishes(SINK, together, job.size)
    one = len(octets) // together
    job.start()
    for first in range(0, job.count, together):
        raw.send(octets[: min(together, job.count - first) * one])
    job.stop()
    raw.close()


def confirm(broker: Broker, job: Job) -> None:
    raw, octets = Raw(broker), publishes(SINK, 1, job.size)
    raw.send(method(1, (85, 10), b'\x00'))
    raw.read(12)
    job.start()
    for _ in range(job.count):
        raw.send(octets)
        raw.read(21)
    job.stop()
    raw.close()


def rpc(broker: Broker, job: Job) -> None:
    """All replies are equally long: the first one is read frame by frame, and measured."""
    raw, octets = Raw(broker), publishes(ECHO, 1, job.size, b'amq.rabbitmq.reply-to')
    raw.consume('amq.rabbitmq.reply-to')
    raw.read_frames(1)
    raw.send(octets)
    reply = raw.read_frames(3)
    job.start()
    for _ in range(job.count):
        raw.send(octets)
        raw.read(reply)
    job.stop()
    raw.close()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'large'), consume),
        'publish': publish,
        'confirm': confirm,
        'rpc': rpc,
    }
    main('a gevent socket' if 'GREEN' in os.environ else 'a socket', '', jobs)
