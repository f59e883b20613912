"""A canned broker: it costs so little for a message that what is measured beside it is the client.

What it sends is encoded before it is needed. Of what it receives it takes the first publish apart; those that begin
with the same bytes are counted and passed over. The names of queues say what it does:

    replay-COUNT-SIZE-HEADERS   a consumer gets so many messages of so many bytes with so many headers
    flood-SIZE                  a consumer gets messages without end
    spread-COUNT-SIZE           the consumers of the connection get so many messages, in turn
    echo                        what is published to it comes back to the last consumer, with its own properties

All else is answered and forgotten; after confirm.select publishes are acked, those of one read together. It reads and
sends in turn, so a client that does not read holds up only itself.

    python canned_broker.py [--tls CERTFILE KEYFILE]

prints its port, and ends with its stdin. Each connection has a process of its own. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator

from canned_frames import EMPTY_TABLE, START, TUNE, delivery, method, replay, short, spread

__all__ = ('Session', 'main')

_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PUBLISH, _ACK = (60, 40), b'\x00\x3c\x00\x50'


class Session:
    """One connection, from the client's protocol header to its end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._chunk = bytearray(1 << 18)
        self._received = bytearray()
        self._out = bytearray()  # replies
        self._batches: deque[Iterator[bytearray]] = deque()  # deliveries, sent when there is no reply to send
        self._sending = memoryview(b'')
        self._greeted = self._ends = False
        self._consumers: list[tuple[int, bytes]] = []
        # The publish that the client repeats: how it begins, its length, its channel; and what is to come of it.
        self._known, self._known_length, self._known_channel = b'', 0, 0
        self._skip = 0
        self._acks = b''
        self._message: list[bytes] = []
        self._body_left = 0
        self._published: dict[int, int] = {}  # channel in confirm mode -> messages
        self._confirmed: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the client is gone."""
        self._sock.setblocking(False)
        poll = select.poll()
        sends = None
        while not (self._ends and not self._out and not self._sending):
            if sends != (wanted := bool(self._sending or self._out or self._batches)):
                poll.register(self._sock, select.POLLIN | (select.POLLOUT if wanted else 0))
                sends = wanted
            events = poll.poll()[0][1]
            if events & ~select.POLLOUT and not self._receive():
                return
            self._send()

    # -- to the client ---------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what there is, at most one batch: the client is then looked after again."""
        for _ in range(2):
            if not self._sending:
                if self._out:
                    self._sending, self._out = memoryview(self._out), bytearray()
                else:
                    self._sending = self._next_batch()
            while self._sending:
                try:
                    sent = self._sock.send(self._sending)
                except _WAIT:
                    return
                self._sending = self._sending[sent:]

    def _next_batch(self) -> memoryview:
        while self._batches:
            batch = next(self._batches[0], None)
            if batch is not None:
                return memoryview(batch)
            self._batches.popleft()
        return memoryview(b'')

    # -- from the client -------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Read once, and answer. False when the client is gone."""
        while True:
            try:
                count = self._sock.recv_into(self._chunk)
            except _WAIT:
                return True
            except OSError:
                return False
            if not count:
                return False
            self._take(memoryview(self._chunk)[:count])
            if not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                break
        self._confirm()
        return True

    def _take(self, octets: memoryview) -> None:
        if self._skip:
            used = min(self._skip, len(octets))
            self._skip -= used
            if self._skip:
                return
            self._count(self._known_channel)
            octets = octets[used:]
        self._received += octets
        if not self._greeted:
            if len(self._received) < 8:
                return
            del self._received[:8]
            self._greeted = True
            self._out += START
        del self._received[: self._parse(self._received)]

    def _parse(self, received: bytearray) -> int:
        """Handle the frames of what was received. Returns how many bytes are done with."""
        at, end = 0, len(received)
        while True:
            if self._known and received.startswith(self._known, at):
                if end - at < self._known_length:
                    self._skip = self._known_length - (end - at)
                    return end
                self._count(self._known_channel)
                at += self._known_length
                continue
            if self._acks and received.startswith(self._acks, at) and end - at >= 21:
                at += 21
                continue
            if end - at < 7:
                return at
            kind, channel, size = struct.unpack_from('>BHI', received, at)
            if end - at < size + 8:
                return at
            self._frame(kind, channel, bytes(received[at : at + size + 8]))
            at += size + 8

    def _frame(self, kind: int, channel: int, frame: bytes) -> None:
        if kind == 1:
            numbers = struct.unpack_from('>HH', frame, 7)
            if numbers == _PUBLISH:
                self._message = [frame]
            elif frame.startswith(_ACK, 7):
                self._acks = frame[:11]
            else:
                self._method(channel, numbers, frame[11:-1])
        elif kind == 2:
            self._message.append(frame)
            self._body_left = struct.unpack_from('>Q', frame, 11)[0]
            if not self._body_left:
                self._publish(channel)
        elif kind == 3:
            self._message.append(frame)
            self._body_left -= len(frame) - 8
            if not self._body_left:
                self._publish(channel)

    # -- messages --------------------------------------------------------------------------------

    def _publish(self, channel: int) -> None:
        """A message that was taken apart is complete."""
        self._count(channel)
        message, self._message = self._message, []
        at = 13 + 1 + message[0][13]
        if message[0][at + 1 : at + 1 + message[0][at]] == b'echo':
            if self._consumers:
                to, consumer_tag = self._consumers[-1]
                content = b''.join(frame[:1] + struct.pack('>H', to) + frame[3:] for frame in message[1:])
                self._out += delivery(to, consumer_tag, 1, b'echo') + content
        else:
            self._known, self._known_channel = message[0] + message[1], channel
            self._known_length = sum(map(len, message))

    def _count(self, channel: int) -> None:
        if channel in self._published:
            self._published[channel] += 1

    def _confirm(self) -> None:
        for channel, published in self._published.items():
            new = published - self._confirmed[channel]
            if new:
                self._confirmed[channel] = published
                self._out += method(channel, (60, 80), struct.pack('>QB', published, new > 1))

    # -- methods ---------------------------------------------------------------------------------

    def _method(self, channel: int, numbers: tuple[int, ...], arguments: bytes) -> None:
        answer = _ANSWERS.get(numbers)
        if isinstance(answer, bytes):
            self._out += method(channel, (numbers[0], numbers[1] + 1), answer)
        elif answer is not None:
            answer(self, channel, arguments)

    def _start_ok(self, channel: int, arguments: bytes) -> None:
        self._out += TUNE

    def _close(self, channel: int, arguments: bytes) -> None:
        self._batches.clear()
        self._out += method(0, (10, 51))
        self._ends = True

    def _declare(self, channel: int, arguments: bytes) -> None:
        name = arguments[3 : 3 + arguments[2]] or b'named-by-the-broker'
        if not arguments[3 + arguments[2]] & 16:
            self._out += method(channel, (50, 11), short(name) + bytes(8))

    def _confirm_select(self, channel: int, arguments: bytes) -> None:
        self._published[channel] = self._confirmed[channel] = 0
        self._out += method(channel, (85, 11))

    def _consume(self, channel: int, arguments: bytes) -> None:
        at = 3 + arguments[2]
        queue, consumer_tag = arguments[3:at], arguments[at + 1 : at + 1 + arguments[at]]
        consumer_tag = consumer_tag or b'consumer-%d' % len(self._consumers)
        if not arguments[at + 1 + arguments[at]] & 8:
            self._out += method(channel, (60, 21), short(consumer_tag))
        self._consumers.append((channel, consumer_tag))
        what, _, numbers = queue.partition(b'-')
        if what == b'replay':
            self._batches.append(replay(channel, consumer_tag, *map(int, numbers.split(b'-'))))
        elif what == b'flood':
            self._batches.append(replay(channel, consumer_tag, None, int(numbers)))
        elif what == b'spread':
            count, size = map(int, numbers.split(b'-'))
            self._batches.append(spread(self._consumers, count, size))

    def _cancel(self, channel: int, arguments: bytes) -> None:
        self._out += method(channel, (60, 31), arguments[: 1 + arguments[0]])


_Answer = bytes | Callable[[Session, int, bytes], None]
#: Method -> the arguments of the method that answers it, whose number is the next one; or who does it.
_ANSWERS: dict[tuple[int, ...], _Answer] = {
    (10, 11): Session._start_ok,
    (10, 40): b'\x00',
    (10, 50): Session._close,
    (20, 10): EMPTY_TABLE,
    (20, 40): b'',
    (40, 10): b'',
    (50, 10): Session._declare,
    (50, 20): b'',
    (50, 40): EMPTY_TABLE,
    (60, 10): b'',
    (60, 20): Session._consume,
    (60, 30): Session._cancel,
    (85, 10): Session._confirm_select,
}


def _serve(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Accept until stdin ends; a process for each connection."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == 0 and not os.read(0, 1024):
                return
            if descriptor == listener.fileno():
                sock, _ = listener.accept()
                if not os.fork():
                    _child(listener, sock, tls)
                sock.close()


def _child(listener: socket.socket, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
    status = 1
    try:
        listener.close()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Session(sock if tls is None else tls.wrap_socket(sock, server_side=True)).run()
        status = 0
    except (OSError, KeyboardInterrupt):
        status = 0  # the client is gone
    finally:
        os._exit(status)


def main(arguments: list[str]) -> None:
    """Print the port, and serve."""
    tls = None
    if arguments[:1] == ['--tls']:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*arguments[1:3])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    listener = socket.create_server(('127.0.0.1', 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    try:
        _serve(listener, tls)
    except KeyboardInterrupt:
        pass


if __name__ == '__main__':
    main(sys.argv[1:])
