"""What a broker and a cluster have in common: their state, their thread, and what a test sees of them.

Layer 5. Does not belong here: nodes and ports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from .assertions import Assertions
from .io.io_thread import IOThread
from .io.pause import wait_until
from .orders import Orders
from .state.clock import Clock
from .state.server import Server
from .state.versions import version_like
from .view import ConnectionView, QueueView, SeenMessage, seen

__all__ = ('Service', 'TestClock')

Name = str | bytes
_T = TypeVar('_T')
_POLL = 0.002  # seconds between two looks of wait_until


class TestClock:
    """The broker's clock, which a test can move: for TTL, the expiry of queues, retention, timestamps."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, io: IOThread) -> None:
        self._io = io

    def now(self) -> float:
        """Seconds since 1970, as the broker sees it."""
        with self._io.lock:
            return self._io.server.clock.time()

    def advance(self, seconds: float, heartbeats: bool = False) -> None:
        """Move the clock forward; what is due on the way happens before this returns, in its order.

        heartbeats: move the clock of heartbeats, too. Clients go by real time, so the broker then finds those silent
        who have negotiated less than half of *seconds*, and closes their connections. Raises ValueError for a
        negative number.
        """
        with self._io.lock:
            self._io.server.clock.advance(seconds)
            if heartbeats:
                self._io.server.real_clock.advance(seconds)
            self._io.server.run_later()
        self._io.wake()


class Service(Orders, Assertions):
    """State and thread. The arguments are those of ``Broker``."""

    def __init__(
        self,
        like: str,
        users: Mapping[str, str] | None,
        vhosts: Iterable[str],
        heartbeat: int,
        frame_max: int,
        channel_max: int,
        max_message_size: int | None,
        deprecated_features: bool,
        consumer_timeout: float | None,
        history: int,
        name: str,
    ) -> None:
        version = version_like(like)
        self.like = f'rabbitmq-{like.removeprefix("rabbitmq-")}'
        clock, real_clock = Clock(time.monotonic, time.time), Clock(time.monotonic, time.time)
        self._server = Server(version, clock, real_clock, history, name)
        self._server.heartbeat, self._server.frame_max, self._server.channel_max = heartbeat, frame_max, channel_max
        self._server.refuses_deprecated = version.deprecates and not deprecated_features
        self._server.consumer_timeout = consumer_timeout
        if max_message_size is not None:
            self._server.max_message_size = max_message_size
        for vhost in vhosts:
            self._server.add_vhost(vhost)
        for user, password in ({'guest': 'guest'} if users is None else users).items():
            self._server.add_user(user, password, ('administrator',))
        self._io = IOThread(self._server)
        #: Moves the time of TTLs and expiry, see ``TestClock``.
        self.clock = TestClock(self._io)

    # Seen from the test.

    @property
    def connections(self) -> list[ConnectionView]:
        """The open connections, oldest first."""
        with self._io.lock:
            return [ConnectionView(self._io.lock, one) for one in self._server.sessions if one.phase.name == 'RUNNING']

    @property
    def connections_in_all(self) -> int:
        """How many connections were opened since the start, also those that have ended."""
        with self._io.lock:
            return self._server.opened_in_all

    def queue(self, name: Name, vhost: str = '/') -> QueueView:
        """A queue. Raises LookupError, which names those that there are."""
        with self._io.lock:
            host = self._host(vhost)
            found = host.queues.get(name)
            if found is None:
                names = ', '.join(sorted(map(repr, host.queues))) or 'none'
                raise LookupError(f'there is no queue {name!r} in virtual host {vhost!r}; there are: {names}')
            return QueueView(self._io.lock, found)

    def queues(self, vhost: str = '/') -> dict[Name, QueueView]:
        """All queues of a virtual host, by name."""
        with self._io.lock:
            return {name: QueueView(self._io.lock, one) for name, one in self._host(vhost).queues.items()}

    def exchanges(self, vhost: str = '/') -> dict[Name, str]:
        """The types of all exchanges of a virtual host, by name."""
        with self._io.lock:
            return {name: one.type for name, one in self._host(vhost).exchanges.items()}

    def published(self, exchange: Name = '', routing_key: Name | None = None, vhost: str = '/') -> list[SeenMessage]:
        """What clients have published to an exchange ('' is the default one), oldest first.

        routing_key: only what came with this key. Raises LookupError when the broker's *history* was too small for all.
        """
        with self._io.lock:
            messages = self._server.history.published(self._host(vhost).name, exchange)
            return [seen(one) for one in messages if routing_key is None or one.routing_key == routing_key]

    def forget_published(self) -> None:
        """Begin the history anew."""
        with self._io.lock:
            self._server.history.clear()

    def wait_until(self, condition: Callable[[], _T], timeout: float = 5.0) -> _T:
        """Wait until *condition* returns something true, and return that.

        A condition that raises LookupError (a queue that is not there yet) is not true. In a hub of gevent or eventlet
        only the calling greenlet waits. timeout: real seconds; then an AssertionError that shows what the broker holds.
        Raises RuntimeError in a running asyncio loop.
        """
        return wait_until(condition, timeout, _POLL, lambda: f'; the broker now:\n{self.describe()}')

    def leaks(self) -> list[str]:
        """What a test has left: each connection that is open, and how many messages it holds. A line each."""
        with self._io.lock:
            lines = []
            for session in self._server.sessions:
                if session.phase.name == 'RUNNING':
                    held = sum(len(channel.unacked) for channel in session.channels.values())
                    unacked = f', with {held} unacked messages' if held else ''
                    lines.append(f'connection {session.name} is open{unacked}')
            return lines

    def describe(self) -> str:
        """What the broker holds, as text of several lines."""
        lines = []
        with self._io.lock:
            for session in self._server.sessions:
                lines.append(f'  {session!r}')
            for vhost in self._server.vhosts.values():
                lines += [f'  {queue!r}, {len(queue.consumers)} consumers' for queue in vhost.queues.values()]
        return '\n'.join(lines) or '  nothing'
