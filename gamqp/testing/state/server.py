"""The whole broker as state: virtual hosts, users, sessions, faults. Several nodes of a cluster share one.

Layer 5, pure. Everything here is used under one lock, see ``io_thread``. Does not belong here: sockets, threads.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .clock import Clock
from .errors import Refusal, not_found
from .faults import Faults
from .history import History
from .queue import Queue
from .session import Session
from .users import Permissions, Users
from .versions import Version
from .virtual_host import VirtualHost

if TYPE_CHECKING:
    from .channel import ServerChannel

__all__ = ('Node', 'Server')

_SHUTDOWN = "broker forced connection closure with reason 'shutdown'"
_MAINTENANCE = 'Node was put into maintenance mode'


class Node:
    """One node of a cluster; a single broker is one, too."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Whether its queues can be used.
        self.running = True
        #: Whether it takes connections.
        self.listening = True

    def __repr__(self) -> str:
        return f'<Node {self.name} {"running" if self.running else "down"}>'


class Server:
    """The state that all connections share."""

    def __init__(self, version: Version, clock: Clock, real_clock: Clock, history: int, name: str) -> None:
        self.version = version
        self.clock = clock
        #: For heartbeats and delays, which clients measure by their own clocks.
        self.real_clock = real_clock
        self.name = name
        self.refuses_deprecated = False
        self.max_message_size = version.max_message_size
        self.channel_max, self.frame_max, self.heartbeat = 2047, 131072, 60
        self.history = History(history)
        self.faults = Faults()
        self.users = Users()
        self.vhosts: dict[str, VirtualHost] = {}
        self.nodes: list[Node] = []
        self.sessions: list[Session] = []
        self.outgoing: set[Session] = set()
        self.reply_channels: dict[str, ServerChannel] = {}
        self.blocked_reason: str | None = None
        #: Seconds that a delivery may be unacked; None: for ever.
        self.consumer_timeout: float | None = 1800.0
        #: Set by a test: no confirms are sent.
        self.holds_confirms = False
        #: How many connections were opened in all.
        self.opened_in_all = 0
        #: What waits for the end of a method.
        self.deferred: deque[Callable[[], None]] = deque()
        self._random = random.Random(os.urandom(16))

    def random_bytes(self, count: int) -> bytes:
        """For names that the broker makes."""
        return self._random.randbytes(count)

    def add_vhost(self, name: str) -> VirtualHost:
        """Add a virtual host, unless it is there."""
        if name not in self.vhosts:
            self.vhosts[name] = VirtualHost(self, name)
        return self.vhosts[name]

    def add_user(self, name: str, password: str, tags: tuple[str, ...] = ()) -> None:
        """Add a user who may do everything everywhere."""
        user = self.users.add(name, password, tags)
        for vhost in self.vhosts:
            user.permissions[vhost] = Permissions()

    # Sessions.

    def opened(self, session: Session) -> None:
        """A connection is open."""
        self.opened_in_all += 1

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        if session in self.sessions:
            self.sessions.remove(session)
        self.outgoing.discard(session)

    def later(self, fn: Callable[[], None]) -> None:
        """Have *fn* called after the reply to the method that is being handled."""
        self.deferred.append(fn)

    def run_later(self) -> None:
        """Call what waits for the end of a method."""
        while self.deferred:
            self.deferred.popleft()()

    # Faults of the whole.

    def block(self, reason: str) -> None:
        """Block each connection that publishes from now on, as RabbitMQ does at an alarm."""
        self.blocked_reason = reason

    def unblock(self) -> None:
        """Let all publish again."""
        self.blocked_reason = None
        for session in list(self.sessions):
            session.unblock()

    def close_all(self, node: Node | None, maintenance: bool = False) -> None:
        """Close the connections of a node (None: all), as a broker that shuts down or is drained."""
        text = _MAINTENANCE if maintenance else _SHUTDOWN
        for session in list(self.sessions):
            if node is None or session.node is node:
                session.close(Refusal(320, text), (0, 0))
        self.run_later()

    def check_leader(self, queue: Queue) -> None:
        """Raise a Refusal if the node that a queue lives on is down."""
        if queue.leader is not None and not queue.leader.running:
            raise not_found(f"home node '{queue.leader.name}' of durable {queue.label} is down or inaccessible")

    def forget(self, keep: str) -> None:
        """What a restart leaves. keep: 'durable' (queues, with their persistent messages), 'all' or 'nothing'."""
        for vhost in self.vhosts.values():
            for queue in list(vhost.queues.values()):
                if keep == 'nothing' or (keep == 'durable' and not queue.durable):
                    vhost.delete_queue(queue)
                elif keep == 'durable':
                    queue.forget_transient()
            for exchange in list(vhost.exchanges.values()):
                named = exchange.name and not str(exchange.name).startswith('amq.')
                if named and (keep == 'nothing' or (keep == 'durable' and not exchange.durable)):
                    vhost.delete_exchange(exchange)
        self.run_later()
