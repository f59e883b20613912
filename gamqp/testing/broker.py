"""``Broker``: an AMQP 0-9-1 broker for tests, in a thread of this process.

Layer 5. Does not belong here: the protocol, see ``state``; several nodes, see ``cluster``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

from ..green.os_threads import original
from .certificates import Certificates
from .io.io_thread import Listener
from .service import Service
from .state.server import Node

__all__ = ('Broker',)

_MIB = 1024 * 1024


class Broker(Service):
    """An AMQP broker that behaves like RabbitMQ, for any client: ``with Broker() as broker: connect(broker.url)``.

    It listens on a port of its own from ``start`` (or ``with``) to ``stop``, keeps everything in memory, and can do
    wrong on purpose. It runs in a thread of the operating system, so clients may block, or live in gevent, eventlet or
    asyncio. All methods may be called from any thread; none switches greenlets, except ``wait_until``.

    like: 'rabbitmq-4.3' or 'rabbitmq-3.10', whose refusals and defaults it has. host, port: where it listens; 0 is a
    free port. users: names and passwords, each may do everything; guest/guest if not given. vhosts: the virtual hosts.
    tls: also listen on ``tls_port``, with certificates made on the spot (needs ``cryptography``). verify_clients: with
    TLS, let in only who has a certificate of ``certificates``. heartbeat (seconds, 0: none), frame_max (bytes),
    channel_max: what it offers. max_message_size: bytes; None: as RabbitMQ. deprecated_features: False has a broker
    like 4.3 refuse transient queues that are not exclusive, as RabbitMQ 4.3 does when its operator forbids them; it
    permits them by default. consumer_timeout: seconds that a delivery may be unacked; None: for ever. history: about
    how many bytes of what was published are kept for ``published``.
    Raises ValueError for a *like* that is not known; ``start`` raises OSError when the port is not free.
    """

    def __init__(
        self,
        like: str = 'rabbitmq-4.3',
        *,
        host: str = '127.0.0.1',
        port: int = 0,
        users: Mapping[str, str] | None = None,
        vhosts: Iterable[str] = ('/',),
        tls: bool = False,
        verify_clients: bool = False,
        heartbeat: int = 60,
        frame_max: int = 131072,
        channel_max: int = 2047,
        max_message_size: int | None = None,
        deprecated_features: bool = True,
        consumer_timeout: float | None = 1800.0,
        history: int = 256 * _MIB,
    ) -> None:
        super().__init__(
            like,
            users,
            vhosts,
            heartbeat,
            frame_max,
            channel_max,
            max_message_size,
            deprecated_features,
            consumer_timeout,
            history,
            'gamqp.testing',
        )
        self._credentials = next(iter(({'guest': 'guest'} if users is None else users).items()), ('guest', 'guest'))
        self.host = host
        #: The port, from ``start`` on.
        self.port = port
        #: The port with TLS, from ``start`` on; 0 without TLS.
        self.tls_port = 0
        self._tls = tls or verify_clients
        self._verify_clients = verify_clients
        #: The authority and the certificates of a broker with TLS.
        self.certificates: Certificates | None = None
        self._node = Node('gamqp-testing@localhost')
        self._server.nodes.append(self._node)
        self._listeners: list[Listener] = []
        self._started = False

    def __repr__(self) -> str:
        return f'<Broker like {self.like} on {self.host}:{self.port}>'

    # Life.

    def start(self) -> Broker:
        """Listen; returns the broker itself.

        Raises OSError when the port is not free, RuntimeError if it was started.
        """
        if self._started:
            raise RuntimeError('this broker was started already')
        self._io.start(self._listen)
        self._started = True
        return self

    def stop(self) -> None:
        """Close all connections and the port. Idempotent.

        Raises the first error that the broker itself had, if there was one: a bug of ours.
        """
        if self._started:
            self._started = False
            self._io.stop()
            if self.certificates is not None:
                self.certificates._close()
            if self._io.failure is not None:
                raise self._io.failure

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> None:
        plain = self._io.listen(self._node, self.host, self.port)
        self.port = plain.port
        self._listeners = [plain]
        if self._tls:
            if self.certificates is None:
                self.certificates = Certificates()
            encrypted = self._io.listen(self._node, self.host, self.tls_port, self._context())
            self.tls_port = encrypted.port
            self._listeners.append(encrypted)

    def _context(self) -> Any:
        assert self.certificates is not None
        context = original('ssl', 'SSLContext')(original('ssl', 'PROTOCOL_TLS_SERVER'))
        context.load_cert_chain(self.certificates.certfile, self.certificates.keyfile)
        context.load_verify_locations(self.certificates.ca_certs)
        modes = original('ssl', 'CERT_REQUIRED'), original('ssl', 'CERT_OPTIONAL')
        context.verify_mode = modes[0 if self._verify_clients else 1]
        return context

    # Where it is.

    @property
    def url(self) -> str:
        """The AMQP URL of the first virtual host, with the first user."""
        return self._url('amqp', self.port)

    @property
    def tls_url(self) -> str:
        """The same with TLS; trust ``certificates.ca_certs``."""
        if not self._tls:
            raise RuntimeError('this broker has no TLS: Broker(tls=True)')
        return self._url('amqps', self.tls_port)

    def _url(self, scheme: str, port: int) -> str:
        user, password = (quote(part, safe='') for part in self._credentials)
        host = f'[{self.host}]' if ':' in self.host else self.host
        vhost = quote(next(iter(self._server.vhosts)), safe='')
        return f'{scheme}://{user}:{password}@{host}:{port}/{vhost}'

    # Faults of the whole.

    def restart(self, keep: str = 'durable', abrupt: bool = False) -> None:
        """Stop and start again, on the same port, before this returns.

        keep: 'durable' (durable exchanges and queues, with their persistent messages), 'all' or 'nothing'. abrupt: cut
        the connections without connection.close, as a crash does. Raises ValueError for another *keep*.
        """
        if keep not in ('durable', 'all', 'nothing'):
            raise ValueError(f"keep: 'durable', 'all' or 'nothing' is expected, not {keep!r}")
        with self._io.lock:
            self._leave(abrupt, maintenance=False)
            self._server.forget(keep)
            self._node.listening = True
            self._listen()
        self._io.wake()

    def maintenance(self) -> None:
        """Put the node into maintenance mode: all connections are closed, and none is taken until ``revive``."""
        with self._io.lock:
            self._leave(abrupt=False, maintenance=True)
        self._io.wake()

    def revive(self) -> None:
        """End the maintenance."""
        with self._io.lock:
            if not self._node.listening:
                self._node.listening = True
                self._listen()
        self._io.wake()

    def _leave(self, abrupt: bool, maintenance: bool) -> None:
        self._node.listening = False
        for listener in self._listeners:
            self._io.close_listener(listener)
        if not abrupt:
            self._server.close_all(None, maintenance)
        for session in list(self._server.sessions):
            if abrupt:
                session.end_at_once(reset=True)
            self._io.drop(session)
