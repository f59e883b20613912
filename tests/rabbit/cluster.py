"""Three RabbitMQ nodes that are one cluster, for tests of what clients see when nodes fail, leave and come back.

Job: `Cluster('4.3').start()`. Each of its `nodes` is a `Node` (node.py), with all that those can do: stop, kill,
restart, be suspended. Here is what only a cluster has: who leads a queue, who is connected where, nodes that are
drained and revived, and `heal`, after which all nodes are there again, whatever a test has done to them.

Ban: as node.py; blocking, too. Queues stay from one test to the next: a test takes names of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import process_supervisor
from install import Server, install, namespaces
from node import Node, make_home
from node_admin import NodeError, erlang_binary
from ports import free_ports

# A node that says nothing is given up by the others after 6 to 10 s, not after a minute.
_ERLANG_ARGS = '-kernel net_ticktime 8'

_CONFIG = [
    'cluster_partition_handling = pause_minority',
    'cluster_formation.peer_discovery_backend = classic_config',
    'cluster_formation.discovery_retry_interval = 100',
    'cluster_formation.discovery_retry_limit = 1000',
]

# Seconds for nodes that start, all at once, on a machine that does much else.
_STARTING = 120
# How often a cluster may start, where it does not come up.
_ATTEMPTS = 3


@dataclass(frozen=True)
class ConsumerAt:
    """A consumer as the broker lists it: the node that its connection is at; active: the one that a queue with a
    single active consumer feeds."""

    tag: str
    node: Node
    active: bool


class Cluster:
    """A few nodes (three). As a context manager: started at entry, closed at exit."""

    def __init__(
        self,
        label: str = '3.10',
        *,
        size: int = 3,
        plugins: Iterable[str] = (),
        config: Iterable[str] = (),
        management: bool = False,
    ) -> None:
        """The arguments are those of `Node`. Without the management API it starts faster."""
        self.label = label
        self.size = size
        self.nodes: list[Node] = []
        self._settings: dict[str, Any] = {'plugins': list(plugins), 'management': management}
        self._config = list(config)
        self._folder: Path | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f'<Cluster {self.nodes}>'

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> Cluster:
        """Start all nodes at the same time; return when they are one cluster.

        Now and then nodes of 3.10 that join at the same time do not agree on their tables, and end: they start anew.
        """
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(NodeError):
                return self._begin()
        return self._begin()

    def _begin(self) -> Cluster:
        server = install(self.label)
        self._folder = Path(tempfile.mkdtemp(prefix='gamqp-cluster-'))
        try:
            home = make_home(self._folder)
            epmd_port = self._start_epmd(server)
            for _ in range(self.size):
                node = Node(
                    self.label,
                    server=server,
                    home=home,
                    epmd_port=epmd_port,
                    erlang_args=_ERLANG_ARGS,
                    **self._settings,
                )
                self.nodes.append(node)
            for node in self.nodes:
                node.configure(self._config + self._formation(node))
            _at_once(_start, self.nodes)
            self._await_all_together(_STARTING)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all processes at once, and remove everything."""
        for node in self.nodes:
            node.close()
        if self._epmd is not None:
            self._epmd.stdin.close()  # type: ignore[union-attr]
            self._epmd.wait()
            self._epmd = None
        self.nodes = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Cluster:
        return self if self.nodes else self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def heal(self) -> None:
        """Bring all nodes back: let those run that are suspended, start those that ended or whose application was
        stopped, revive those that were drained, restart those that the others do not see. Costs milliseconds where
        nothing is to be done."""
        for node in self.nodes:
            if node.running and node.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGCONT)
        _at_once(self._bring_back, self.nodes)
        try:
            self._await_all_together(20)
        except NodeError:
            apart = [node for node in self.nodes if len(self._seen_by(node)) < self.size]
            _at_once(_start, apart)
            self._await_all_together(_STARTING)

    # -- what is done to a node ----------------------------------------------------------------------------

    def stop_app(self, node: Node) -> None:
        """Stop RabbitMQ in a node whose Erlang goes on: as `rabbitmqctl stop_app`."""
        node.eval('rabbit:stop().')

    def start_app(self, node: Node) -> None:
        """Undo `stop_app`; does nothing where RabbitMQ runs."""
        node.eval('case rabbit:is_running() of true -> ok; _ -> rabbit:start() end.')

    def drain(self, node: Node) -> None:
        """Put a node into maintenance, as `rabbitmq-upgrade drain`: it takes no connections, closes those it has with
        320, and other nodes lead its queues."""
        said = node.eval('rabbit_maintenance:drain().')
        if said != 'ok':
            raise NodeError(f'drain of {node!r}: {said}')

    def revive(self, node: Node) -> None:
        """Undo `drain`; does nothing where there is nothing to be undone."""
        node.eval(
            'case rabbit_maintenance:is_being_drained_local_read(node()) of '
            'true -> rabbit_maintenance:revive(); _ -> ok end.'
        )

    def upgrade(self, node: Node) -> None:
        """What an upgrade of the whole cluster does to one node after the other: drain, stop, start."""
        self.drain(node)
        node.restart()
        self._await_all_together(_STARTING)

    def kill(self, node: Node) -> None:
        """SIGKILL to the server alone, like `kill -9`; `heal` starts it again."""
        os.kill(node.server_pid(), signal.SIGKILL)

    # -- what there is -------------------------------------------------------------------------------------

    def urls(self, vhost: str = '/') -> list[str]:
        return [node.url(vhost) for node in self.nodes]

    def others(self, *those: Node) -> list[Node]:
        """All nodes but these."""
        return [node for node in self.nodes if node not in those]

    def leader(self, queue: str, vhost: str = '/', timeout: float = 60) -> Node:
        """The node that leads a quorum queue. Waits while there is none, as after the last one's end."""
        asked = (
            f'{{ok, Q}} = rabbit_amqqueue:lookup({_resource(queue, vhost)}), {{Name, _}} = amqqueue:get_pid(Q), '
            '{ok, _, {_, Leader}} = ra:members({Name, node()}, 5000), [[atom_to_list(Leader)]]'
        )
        return self._node(self._patiently(lambda: self._ask(asked)[0][0], timeout))

    def transfer(self, queue: str, node: Node, vhost: str = '/') -> None:
        """Make another node the leader of a quorum queue, and return when it is."""
        asked = (
            f'{{ok, Q}} = rabbit_amqqueue:lookup({_resource(queue, vhost)}), {{Name, _}} = amqqueue:get_pid(Q), '
            f'{{ok, _, Leader}} = ra:members({{Name, node()}}, 5000), ra:transfer_leadership(Leader, '
            f"{{Name, '{node.nodename}'}}), {{ok, _, {{_, Now}}}} = ra:members({{Name, node()}}, 5000), "
            '[[atom_to_list(Now)]]'
        )

        def transferred() -> None:
            if self._ask(asked)[0][0] != node.nodename:
                raise NodeError(f'{node!r} does not lead {queue}')

        self._patiently(transferred, 60)

    def consumers(self, queue: str, vhost: str = '/') -> list[ConsumerAt]:
        """The consumers of a queue, in the order in which the broker has them."""
        rows = self._ask(
            f'{{ok, Q}} = rabbit_amqqueue:lookup({_resource(queue, vhost)}), '
            '[[element(2, C), atom_to_list(node(element(1, C))), atom_to_list(element(5, C))] '
            '|| C <- rabbit_amqqueue:consumers(Q)]'
        )
        return [ConsumerAt(tag, self._node(name), active == 'true') for tag, name, active in rows]

    def connections(self) -> Counter[Node]:
        """How many AMQP connections each node has; a node that cannot be asked has none."""
        found: Counter[Node] = Counter()
        for node in self.nodes:
            found[node] = 0
            with contextlib.suppress(NodeError):
                found[node] = int(node.eval('length(rabbit_networking:local_connections()).'))
        return found

    def add_vhost(self, name: str) -> list[str]:
        """Make a virtual host that guest may use; its URLs."""
        vhost = erlang_binary(name)
        self.nodes[0].eval(
            f'rabbit_vhost:add({vhost}, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, {vhost}, <<".*">>, <<".*">>, <<".*">>, '
            '<<"tests">>).'
        )
        return self.urls(name)

    # -- how -----------------------------------------------------------------------------------------------

    def _start_epmd(self, server: Server) -> int:
        """One name server for all: with one of them each, nodes would not find each other. Its port."""
        [port] = free_ports(1)
        spec: dict[str, Any] = {
            'argv': ['/usr/bin/epmd', '-port', str(port), '-address', '127.0.0.1'],
            'env': {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'},
            'folder': str(self._folder),
            'log': f'{self._folder}/epmd.log',
            'root': server.root,
            'shared': tempfile.gettempdir(),
        }
        self._epmd = subprocess.Popen(
            [*namespaces(), sys.executable, '-S', '-E', process_supervisor.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

        def listening() -> None:
            # A node that finds none would start one of its own, which would end with that node.
            try:
                socket.create_connection(('127.0.0.1', port), 5).close()
            except OSError as error:
                raise NodeError(f'epmd does not listen at {port}') from error

        self._patiently(listening, _STARTING)
        return port

    def _formation(self, node: Node) -> list[str]:
        """The configuration by which a node finds the others at its first start.

        3.10 waits for one that is there already, so the first must wait for nobody; 4.3 agrees on one to begin with.
        """
        others = self.nodes
        if self.label == '3.10':
            others = [] if node is self.nodes[0] else [self.nodes[0], node]
        names = enumerate((other.nodename for other in others), 1)
        return _CONFIG + [f'cluster_formation.classic_config.nodes.{number} = {name}' for number, name in names]

    def _bring_back(self, node: Node) -> None:
        if not node.running or not _alive(node):
            _start(node)
            return
        with contextlib.suppress(NodeError, subprocess.TimeoutExpired):  # `heal` looks whether it has helped
            self.start_app(node)
            self.revive(node)

    def _await_all_together(self, timeout: float) -> None:
        """Wait until every node sees all."""

        def together() -> None:
            for node in self.nodes:
                seen = self._seen_by(node)
                if len(seen) < self.size:
                    raise NodeError(f'{node!r} sees {seen}, of {self.nodes}\n{node.log(10)}')

        self._patiently(together, timeout)

    def _seen_by(self, node: Node) -> list[str]:
        """The nodes that run RabbitMQ as far as this one knows."""
        function = 'all_running' if node.label == '3.10' else 'list_running'
        try:
            rows = self._ask(f'[[atom_to_list(N)] || N <- rabbit_nodes:{function}()]', node)
        except NodeError:
            return []
        return [name for (name,) in rows]

    def _ask(self, expression: str, node: Node | None = None) -> list[list[str]]:
        """The value of an Erlang expression that is a list of lists of texts. Any node answers, or the one given."""
        error: NodeError | None = None
        asked = [node] if node is not None else [each for each in self.nodes if each.running and _alive(each)]
        for each in asked:
            try:
                said = each.eval(
                    f'unicode:characters_to_list([[[[F, "|"] || F <- R], "; "] || R <- begin {expression} end]).'
                )
            except (NodeError, subprocess.TimeoutExpired) as failure:
                error = NodeError(str(failure))
                continue
            return [row.split('|')[:-1] for row in said.strip('"').split('; ')[:-1]]
        raise error or NodeError('no node runs')

    def _patiently(self, call: Callable[[], Any], timeout: float) -> Any:
        """What a call returns, as soon as it raises no NodeError."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return call()
            except NodeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.nodename == name)


def _at_once(do: Callable[[Node], object], nodes: list[Node]) -> None:
    """Do something with nodes at the same time: one may have to wait for another."""
    failures: list[BaseException] = []

    def attempt(node: Node) -> None:
        try:
            do(node)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _start(node: Node) -> None:
    node.kill()  # what is left of it
    node.start(timeout=_STARTING)


def _alive(node: Node) -> bool:
    """Has the server a process, and does that run?"""
    if node.pid is None:
        return False
    with contextlib.suppress(OSError):
        return Path(f'/proc/{node.pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZXT'
    return False


def _resource(queue: str, vhost: str) -> str:
    return f'rabbit_misc:r({erlang_binary(vhost)}, queue, {erlang_binary(queue)})'
