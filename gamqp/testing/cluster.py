"""``Cluster``: several brokers as one, whose nodes can be killed, stopped and drained.

Layer 5. The nodes share all exchanges, bindings and users; a queue lives on the node through which it was declared, its
leader. Does not belong here: one broker, see ``broker``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType

from .io.io_thread import Listener
from .service import Service
from .state.queue import Queue
from .state.server import Node

__all__ = ('Cluster', 'ClusterNode')


class ClusterNode:
    """One node of a cluster.

    name: as RabbitMQ calls it. host, port: where it listens.
    """

    def __init__(self, cluster: Cluster, number: int, host: str) -> None:
        self._cluster = cluster
        self._state = Node(f'node{number}@localhost')
        self.name = self._state.name
        self.host = host
        self.port = 0
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f'<ClusterNode {self.name} on {self.host}:{self.port}{"" if self.running else ", down"}>'

    @property
    def url(self) -> str:
        """Its AMQP URL; the port stays the same when it comes back."""
        return f'amqp://guest:guest@{self.host}:{self.port}/%2F'

    @property
    def running(self) -> bool:
        """Whether it is up, perhaps drained."""
        return self._state.running

    def kill(self) -> None:
        """As ``kill -9``: connections are reset, its queues lead elsewhere or are out of reach until ``start``."""
        self._cluster._leave(self, abrupt=True, maintenance=False)

    def stop(self) -> None:
        """The same in order: connections are closed with 320."""
        self._cluster._leave(self, abrupt=False, maintenance=False)

    def drain(self) -> None:
        """Maintenance mode: connections are closed with 320, leaders of quorum queues move, classic queues stay."""
        self._cluster._leave(self, abrupt=False, maintenance=True)

    def start(self) -> None:
        """Come back after ``kill``, ``stop`` or ``drain``, with the durable queues that live here."""
        self._cluster._come_back(self)

    def _listen(self) -> None:
        """For the cluster: take connections."""
        self._listener = self._cluster._io.listen(self._state, self.host, self.port)
        self.port = self._listener.port
        self._state.running = self._state.listening = True

    def _close_port(self) -> None:
        """For the cluster: take no connections."""
        self._state.listening = False
        if self._listener is not None:
            self._cluster._io.close_listener(self._listener)
            self._listener = None


class Cluster(Service):
    """*size* brokers as one: ``with Cluster(3) as cluster: connect(cluster.urls)``.

    What a test sees and orders is as for ``Broker``, for all nodes together; ``nodes`` are the single ones. The
    arguments, ``like`` among them, are those of ``Broker``. Raises ValueError for a size below 1.
    """

    def __init__(
        self,
        size: int = 3,
        like: str = 'rabbitmq-4.3',
        *,
        host: str = '127.0.0.1',
        users: Mapping[str, str] | None = None,
        vhosts: Iterable[str] = ('/',),
        heartbeat: int = 60,
    ) -> None:
        if size < 1:
            raise ValueError(f'size: a number from 1 on is expected, not {size!r}')
        super().__init__(
            like, users, vhosts, heartbeat, 131072, 2047, None, True, 1800.0, 256 * 1024 * 1024, 'gamqp.testing'
        )
        self.nodes = [ClusterNode(self, number, host) for number in range(1, size + 1)]
        self._server.nodes += [node._state for node in self.nodes]
        self._started = False

    def __repr__(self) -> str:
        return f'<Cluster of {len(self.nodes)} like {self.like}>'

    @property
    def urls(self) -> list[str]:
        """The URLs of all nodes."""
        return [node.url for node in self.nodes]

    @property
    def url(self) -> str:
        """The URL of the first node."""
        return self.nodes[0].url

    def start(self) -> Cluster:
        """Listen; returns the cluster itself. Raises RuntimeError if it was started."""
        if self._started:
            raise RuntimeError('this cluster was started already')
        self._io.start(self._listen)
        self._started = True
        return self

    def _listen(self) -> None:
        for node in self.nodes:
            node._listen()

    def stop(self) -> None:
        """Close all connections and ports. Idempotent."""
        if self._started:
            self._started = False
            self._io.stop()
            if self._io.failure is not None:
                raise self._io.failure

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def leader(self, queue: str, vhost: str = '/') -> ClusterNode:
        """The node that a queue lives on. Raises LookupError."""
        name = self.queue(queue, vhost).leader
        return next(node for node in self.nodes if node.name == name)

    def _leave(self, node: ClusterNode, abrupt: bool, maintenance: bool) -> None:
        with self._io.lock:
            node._close_port()
            if not abrupt:
                self._server.close_all(node._state, maintenance)
            else:
                node._state.running = False
            for session in list(self._server.sessions):
                if session.node is node._state:
                    if abrupt:
                        session.end_at_once(reset=True)
                    self._io.drop(session)
            node._state.running = maintenance
            self._move_leaders(node._state, maintenance)
            self._server.run_later()
        self._io.wake()

    def _move_leaders(self, gone: Node, maintenance: bool) -> None:
        up = [node._state for node in self.nodes if node._state.running and node._state is not gone]
        majority = len(up) + maintenance > len(self.nodes) // 2
        for vhost in self._server.vhosts.values():
            vhost.generation += 1
            for queue in list(vhost.queues.values()):
                if queue.leader is not gone:
                    continue
                if queue.kind != 'classic' and majority and up:
                    queue.leader = up[0]
                elif not maintenance:
                    self._lose(queue)

    def _lose(self, queue: Queue) -> None:
        """The only node of a queue is down: its consumers are cancelled, and what is not durable is gone."""
        if not queue.durable:
            queue.host.delete_queue(queue)
            return
        for consumer in list(queue.consumers):
            queue.consumers.remove(consumer)
            consumer.channel.consumers.pop(consumer.tag, None)
            consumer.channel.notify_cancelled(consumer)
        for session in self._server.sessions:
            for channel in session.channels.values():
                channel.lose(queue)
        queue.forget_transient()

    def _come_back(self, node: ClusterNode) -> None:
        with self._io.lock:
            if not node._state.listening:
                node._listen()
                for vhost in self._server.vhosts.values():
                    vhost.generation += 1
        self._io.wake()
