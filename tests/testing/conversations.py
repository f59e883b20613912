"""Conversations with a broker, frame by frame: what it answers, modulo names and time.

A ``Talker`` is a client that sends what it has to, waits until nothing more comes, and keeps what came. The same
conversation with two brokers gives two records to compare. Does not belong here: a client's own ideas of the protocol.
"""

from __future__ import annotations

import datetime
import re
import select
import socket
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import inside
from named_methods import described, frames

from gamqp import testing
from gamqp.wire import PROTOCOL_HEADER, Content, Decoder

__all__ = ('OPEN', 'BrokerTalker', 'Talker')

_MADE = re.compile(r'amq\.(gen|ctag|rabbitmq\.reply-to)[-.][\w\-=.+/]+')
_PATIENCE = 10.0
#: The talkers that are not closed yet; after a test that has failed, too.
OPEN: list[Talker] = []


class Talker:
    """A raw client. quiet: seconds without a byte after which everything counts as answered."""

    def __init__(self, url: str, prefix: str, quiet: float) -> None:
        parts = urlsplit(url)
        self.user, self.password = unquote(parts.username or 'guest'), unquote(parts.password or 'guest')
        self.vhost = unquote(parts.path[1:]) or '/'
        self.prefix = prefix
        self.quiet = quiet
        self.record: list[Any] = []
        self._made: dict[str, str] = {}
        self._sock = socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = Decoder(Content, 0)
        OPEN.append(self)
        self.ended = False
        self.sent = self.received = 0

    # Sending.

    def raw(self, data: bytes) -> None:
        """Send these bytes."""
        try:
            self._sock.sendall(data)
            self.sent += len(data)
        except OSError:
            self.ended = True

    def send(self, name: str, ch: int | None = None, **args: Any) -> None:
        """Send a method; names that begin with '~' get the prefix of this conversation."""
        self.raw(frames(name, ch, **self._named(args)))

    def _named(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith('~'):
            return self.prefix + value[1:]
        if isinstance(value, dict):
            return {key: self._named(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._named(one) for one in value]
        return value

    def ask(self, name: str, ch: int | None = None, **args: Any) -> list[Any]:
        """Send a method and wait until all is answered; returns what came."""
        self.send(name, ch, **args)
        return self.settle()

    def publish(self, exchange: str, key: str, body: bytes = b'x', ch: int = 1, **properties: Any) -> None:
        """Send basic.publish."""
        flags = {name: properties.pop(name) for name in ('mandatory', 'immediate') if name in properties}
        self.send('basic.publish', ch, exchange=exchange, routing_key=key, body=body,
                  properties=self._named(properties), **flags)  # fmt: skip

    def open(self, *channels: int, tune: dict[str, int] | None = None, vhost: str | None = None) -> None:
        """Open the connection, and these channels."""
        self.raw(PROTOCOL_HEADER)
        self.wait_for('connection.start')
        capabilities = dict.fromkeys(('consumer_cancel_notify', 'connection.blocked', 'basic.nack'), True)
        capabilities['authentication_failure_close'] = True
        response = f'\0{self.user}\0{self.password}'.encode()
        self.send('connection.start-ok', client_properties={'capabilities': capabilities}, mechanism='PLAIN',
                  response=response, locale='en_US')  # fmt: skip
        if not self.wait_for('connection.tune'):
            return
        self.send('connection.tune-ok', **(tune or {'channel_max': 2047, 'frame_max': 131072, 'heartbeat': 0}))
        self.send('connection.open', virtual_host=self.vhost if vhost is None else vhost)
        self.wait_for('connection.open-ok')
        for channel in channels:
            self.send('channel.open', channel)
            self.wait_for('channel.open-ok')

    # Receiving.

    def wait_for(self, name: str) -> bool:
        """Wait for a method of the handshake. False if something else came."""
        deadline = time.monotonic() + _PATIENCE
        while not self.ended and time.monotonic() < deadline:
            for event in self.read(0.5) or ():
                self.record.append(event)
                return event[1] == name
        return False

    def settle(self, quiet: float | None = None) -> list[Any]:
        """Take what comes until nothing does for a while. Returns it."""
        came: list[Any] = []
        while not self.ended:
            events = self.read(self.quiet if quiet is None else quiet)
            if events is None:
                break
            came += events
        self.record += came
        return came

    def read(self, seconds: float) -> Any:
        """What arrives within that time: events; None if nothing does."""
        if not select.select([self._sock], [], [], seconds)[0]:
            return None
        try:
            data = self._sock.recv(1 << 18)
        except OSError:
            data = b''
        self.received += len(data)
        if not data:
            self.ended = True
            return [(0, 'the end', {})]
        events = [described(event) for event in self.decoder.feed(data)]
        for event in events:
            self._answer(event)
        return [self._plain(event) for event in events]

    def _answer(self, event: Any) -> None:
        """What every client has to answer. A channel that the broker closes is opened again."""
        if event.name == 'channel.close':
            self.send('channel.close-ok', event.channel)
            self.send('channel.open', event.channel)
        elif event.name == 'connection.close':
            self.send('connection.close-ok')

    def _plain(self, event: Any) -> tuple[int, str, Any]:
        values = {key: self._scrubbed(value) for key, value in vars(event).items() if key not in ('name', 'channel')}
        values.pop('server_properties', None)
        values.pop('mechanisms', None)
        if event.name == 'connection.tune':
            values.pop('heartbeat')
        return event.channel, event.name, values

    def _scrubbed(self, value: Any) -> Any:
        if isinstance(value, str):
            if self.prefix:
                value = value.replace(self.prefix, '~')
            value = value.replace(f"vhost '{self.vhost}'", "vhost '/'")
            return _MADE.sub(lambda found: self._made.setdefault(found[0], f'{found[1]}-{len(self._made)}'), value)
        if isinstance(value, dict):
            return {key: self._scrubbed(one) for key, one in sorted(value.items())}
        if isinstance(value, list):
            return [self._scrubbed(one) for one in value]
        if isinstance(value, datetime.datetime):
            return 'a time'
        return value

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._sock.close()
        if self in OPEN:
            OPEN.remove(self)

    def by_channel(self) -> dict[int, list[Any]]:
        """What came, channel by channel: between channels RabbitMQ promises no order."""
        found: dict[int, list[Any]] = {}
        for channel, name, values in self.record:
            found.setdefault(channel, []).append((name, values))
        return found


class BrokerTalker(Talker):
    """The same with a ``testing.Broker``: it waits for no time, since the broker knows what it has read and sent."""

    def __init__(self, broker: testing.Broker | testing.Cluster, prefix: str, url: str | None = None) -> None:
        super().__init__(url or broker.url, prefix, 0.0)
        self._broker = broker
        host, port = self._sock.getsockname()
        self._name = f'{host}:{port} '

    def settle(self, quiet: float | None = None) -> list[Any]:
        came = self._sync()
        if quiet is not None:
            self._broker.clock.advance(quiet)
            came += self._sync()
        self.record += came
        return came

    def _sync(self) -> list[Any]:
        came: list[Any] = []
        deadline = time.monotonic() + _PATIENCE
        while not self.ended and not self._in_step():
            assert time.monotonic() < deadline, 'the broker does not answer'
            came += self.read(0.001) or ()
        return came

    def _in_step(self) -> bool:
        """Whether each has read what the other has sent."""
        with inside.broker_lock(self._broker):
            for session in inside.server(self._broker).sessions:
                if session.name.startswith(self._name):
                    read = session.received_bytes >= self.sent
                    return read and not session.out and session.sent_bytes <= self.received and not session.ending
        return False
