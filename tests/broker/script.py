"""A broker that does what a test tells it, step by step, at the other end of a real TCP connection.

The test is the broker: it says what it expects and what it sends, while the client's calls run in
Tasks. It is built on gamqp.wire, which knows both directions. Every step has a deadlock guard, so a
client that does not do what it should is an AssertionError that tells what was awaited and what
came instead. A peer that is not asked to do anything does not read either. What must not enter:
behaviour of its own; a broker that answers by itself is the real one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

import greenlets
from named_methods import described, frames

import gamqp
from gamqp import green
from gamqp.wire import PROTOCOL_HEADER, Content, Decoder

__all__ = ('CAPABILITIES', 'PATIENCE', 'ScriptedBroker', 'frames')

# Seconds a step may take before it counts as stuck; only a failing test ever waits so long.
PATIENCE = 30.0

CAPABILITIES = {
    'authentication_failure_close': True,
    'basic.nack': True,
    'connection.blocked': True,
    'consumer_cancel_notify': True,
    'exchange_exchange_bindings': True,
    'publisher_confirms': True,
}
PROPERTIES = {'product': 'Script', 'version': '1', 'capabilities': CAPABILITIES}

_CHUNK = 256 * 1024


class ScriptedBroker:
    """``with ScriptedBroker() as peer:`` listens; ``open()`` makes an open Connection to it."""

    def __init__(self, address: str = '127.0.0.1', buffer: int | None = None) -> None:
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        self._listener = greenlets.backend.socket_class()(family, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        if buffer is not None:  # of the kernel, and inherited by what is accepted
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self._listener.bind((address, 0))
        self._listener.listen(5)
        self.port: int = self._listener.getsockname()[1]
        self.host = f'[{address}]:{self.port}' if ':' in address else f'{address}:{self.port}'
        self.sock: Any = None  # to the present client
        self._ready: Any = None
        self._clients: list[gamqp.Connection] = []
        self._reset()

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.hang_up()
        self._listener.close()
        for connection in self._clients:
            connection.collect()  # those that live: an end that failed half-way is left for the leak check
        self._clients.clear()

    def _reset(self) -> None:
        self.decoder = Decoder(Content, 0)
        self._events: list[Any] = []
        self._ended = False
        self._seen_beats = 0
        self.start_ok: Any = None
        self.tune_ok: Any = None
        self.opening: Any = None

    # -- one connection ------------------------------------------------------------

    def client(self, **arguments: Any) -> gamqp.Connection:
        """A Connection that is not connected yet; the peer keeps it until its own end.

        It sends a frame for each ack, unless it is asked to combine them: which of them go out together depends on how
        fast the hub is, and tests of other matters say which acks they expect.
        """
        connection = gamqp.Connection(**{'host': self.host, 'combine_acks': False, **arguments})
        self._clients.append(connection)
        return connection

    def let_go(self) -> None:
        """Keep the clients no longer: nobody ends those that the test forgets."""
        self._clients.clear()

    def open(self, tune: tuple[int, int, int] = (2047, 131072, 60), **arguments: Any) -> gamqp.Connection:
        """An open Connection to this peer."""
        connection = self.client(**arguments)
        opening = greenlets.spawn(connection.connect)
        self.handshake(tune=tune)
        opening.get()
        return connection

    def open_channel(self, connection: gamqp.Connection, number: int = 1) -> gamqp.Channel:
        opening = greenlets.spawn(connection.channel, number)
        self.expect('channel.open', number)
        self.send('channel.open-ok', number)
        return opening.get()

    def turn_confirms_on(self, channel: gamqp.Channel) -> None:
        selecting = greenlets.spawn(channel.confirm_select)
        self.expect('confirm.select')
        self.send('confirm.select-ok', channel.channel_id)
        selecting.get()

    def reopen(self, number: int = 1) -> None:
        """The client must open a channel again that the peer has closed."""
        self.expect('channel.close-ok', number)
        self.expect('channel.open', number)
        self.send('channel.open-ok', number)

    def accept(self, patience: float = PATIENCE) -> None:
        """Take the next connection and read its protocol header."""
        self._reset()
        deadline = green.Deadline(patience)
        self.sock = self._accepted(deadline)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces are sent as pieces
        self._ready = greenlets.backend.Readiness(self.sock.fileno())
        header = b''
        while len(header) < len(PROTOCOL_HEADER):
            chunk = self.recv(len(PROTOCOL_HEADER) - len(header), 'the protocol header', deadline)
            assert chunk, f'the client hung up after {header!r}'
            header += chunk
        assert header == PROTOCOL_HEADER

    def dismiss(self) -> None:
        """Take the next connection and hang up, whatever it says."""
        self._accepted(green.Deadline(PATIENCE)).close()

    def _accepted(self, deadline: green.Deadline) -> Any:
        ready = greenlets.backend.Readiness(self._listener.fileno())
        try:
            assert ready.wait_readable(deadline.left()), 'the client did not connect'
        finally:
            ready.close()
        return self._listener.accept()[0]

    def handshake(
        self,
        until: str = '',
        mechanisms: bytes = b'PLAIN AMQPLAIN',
        properties: Any = None,
        tune: tuple[int, int, int] = (2047, 131072, 60),
        patience: float = PATIENCE,
    ) -> None:
        """Play the opening; *until* ('start', 'tune', 'open-ok') stops before that is sent.

        patience: seconds until the client has to have come, for one that is a process of its own.
        """
        self.accept(patience)
        if until != 'start':
            self.shake_hands(until, mechanisms, properties, tune)

    def shake_hands(
        self,
        until: str = '',
        mechanisms: bytes = b'PLAIN AMQPLAIN',
        properties: Any = None,
        tune: tuple[int, int, int] = (2047, 131072, 60),
    ) -> None:
        """What is left of the opening where ``handshake`` has stopped before start."""
        properties = PROPERTIES if properties is None else properties
        self.send(
            'connection.start', version_minor=9, server_properties=properties, mechanisms=mechanisms, locales=b'en_US'
        )
        self.start_ok = self.expect('connection.start-ok')
        if until == 'tune':
            return
        self.send('connection.tune', channel_max=tune[0], frame_max=tune[1], heartbeat=tune[2])
        self.tune_ok = self.expect('connection.tune-ok')
        self.opening = self.expect('connection.open')
        if until == 'open-ok':
            return
        self.send('connection.open-ok')

    def agree_to_close(self) -> Any:
        """The client says goodbye; returns what it said."""
        said = self.expect('connection.close')
        self.send('connection.close-ok')
        self.expect_end()
        return said

    # -- receiving ------------------------------------------------------------------

    def expect(self, name: str, channel: int | None = None) -> Any:
        """The next method from the client must be this one. Returns its arguments, ``channel``, and content."""
        event = self.next(f'{name} on channel {channel}')
        assert event is not None, f'the client hung up, {name} was awaited'
        assert event.name == name and channel in (None, event.channel), f'{name} on channel {channel} awaited: {event}'
        return event

    def next(self, what: str = 'anything') -> Any:
        """The next method, or None at the end of the stream."""
        deadline = green.Deadline(PATIENCE)
        while not self._events and not self._ended:
            self._read(what, deadline)
        return described(self._events.pop(0)) if self._events else None

    def expect_nothing_before_beat(self) -> None:
        """The next thing from the client must be a heartbeat: ``connection.send_heartbeat()`` as a full stop."""
        deadline = green.Deadline(PATIENCE)
        while self.decoder.heartbeats == self._seen_beats:
            self._read('a heartbeat', deadline)
        self._seen_beats = self.decoder.heartbeats
        assert not self._events, f'nothing but a heartbeat awaited: {[described(event) for event in self._events]}'

    def expect_nothing_more(self, client: gamqp.Connection) -> None:
        """The client must have said nothing that was not expected yet; the connection works."""
        # The peer may have what the sending thread has not counted yet; then a heartbeat would not be sent.
        greenlets.wait_until(lambda: not client.stats()['send_queue_bytes'])
        client.send_heartbeat()
        self.expect_nothing_before_beat()

    def read_some(self, size: int) -> None:
        """Take *size* bytes from the stream, or what there is, and forget them."""
        with contextlib.suppress(BlockingIOError):
            while size > 0:
                size -= len(self.sock.recv(min(size, _CHUNK)))

    def read_exactly(self, count: int, or_less: bool = False) -> None:
        """Read and decode so many bytes, as a broker does that reads no further. or_less: the client may hang up."""
        deadline = green.Deadline(PATIENCE)
        while count > 0:
            try:
                data = self.recv(min(count, _CHUNK), f'{count} more bytes', deadline)
            except ConnectionResetError:
                data = b''
            if not data and or_less:
                return
            assert data, 'the client hung up'
            count -= len(data)
            self._events += self.decoder.feed(data)
            assert self.decoder.error is None, f'the client broke the protocol: {self.decoder.error}'

    def take_what_came(self) -> list[Any]:
        """All methods that are there already, waiting for none."""
        while not self._ended:
            try:
                data = self.sock.recv(_CHUNK)
            except BlockingIOError:
                break
            self._ended = not data
            self._events += self.decoder.feed(data)
        events, self._events = self._events, []
        return [described(event) for event in events]

    def expect_end(self) -> None:
        """The client must hang up, and say nothing before."""
        event = self.next('the end')
        assert event is None, f'the end awaited: {event}'

    def _read(self, what: str, deadline: green.Deadline) -> None:
        try:
            data = self.recv(_CHUNK, what, deadline)
        except ConnectionResetError:
            data = b''
        if not data:
            self._ended = True
        self._events += self.decoder.feed(data)
        assert self.decoder.error is None, f'the client broke the protocol: {self.decoder.error}'
        if self._ended:
            assert not self.decoder.pending, 'the client hung up in the middle of a frame'

    def recv(self, size: int, what: str, deadline: green.Deadline | None = None) -> bytes:
        """Bytes of the client that no step has read: as many as there are, at most *size*; b'' at the end."""
        deadline = deadline or green.Deadline(PATIENCE)
        while True:
            try:
                data: bytes = self.sock.recv(size)
                return data
            except BlockingIOError:
                assert self._ready.wait_readable(deadline.left()), f'deadlock: {what} was awaited and nothing came'

    # -- sending --------------------------------------------------------------------

    def send(self, name: str, channel: int | None = None, **args: Any) -> None:
        """Send one method; see ``frames``."""
        self.raw(frames(name, channel, **args))

    def raw(self, data: bytes) -> None:
        """Send these very bytes."""
        sent = self.pour(data, PATIENCE)
        assert sent == len(data), f'deadlock: the client took {sent} of {len(data)} bytes'

    def pour(self, data: bytes, patience: float = 0.2) -> int:
        """Send until the client takes nothing more for *patience* seconds. Returns how many bytes went."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                if not self._ready.wait_writable(patience):
                    break
        return len(data) - len(view)

    # -- ending ---------------------------------------------------------------------

    def cut(self, reset: bool = False) -> None:
        """End the stream: a FIN after what was sent, or a reset, as a peer that vanished and came back."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            self.hang_up()
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Close the socket."""
        if self.sock is not None:
            self._ready.close()
            with contextlib.suppress(OSError):
                self.sock.close()
            self.sock = None
