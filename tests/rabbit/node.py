"""Private RabbitMQ nodes: any number side by side, each with a folder, ports and processes of its own.

Job: `Node('3.10').start()` for a test that wants a broker to itself, `Node.attach(entry)` for one that shares
the broker of the whole run, and the command that gives a run its brokers:

    python tests/rabbit/node.py install --rabbitmq 3.10,4.3
    python tests/rabbit/node.py run --rabbitmq 3.10,4.3 -- COMMAND…

The first only installs what is missing, or says why that cannot be. The command of the second finds the brokers in
GAMQP_TEST_NODES (JSON, a list of `Node.entry()`) and the first one's URL in AMQP_URL. Nothing stays behind when a run
ends, not even after SIGKILL: see process_supervisor.py.

Ban: standard library only, Python 3.10 and newer; knows nothing of gamqp. Blocking calls: in a program that
is not monkey-patched they stop every greenlet for as long as they last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import process_supervisor
from install import CannotInstall, Server, install, namespaces, say
from node_admin import BIN, Admin, NodeError
from ports import bindable, broker_version, free_ports

# Erlang sizes itself for the whole machine; a test node shares it with the tests and with other nodes.
_ERLANG_ARGS = '+S 2:2 +SDcpu 2:2 +SDio 4 +A 4'

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
{ipv6}listeners.tcp.2 = ::1:{port}
loopback_users = none
# A run opens hundreds of connections at once; the default backlog of 128 makes some wait a second.
tcp_listen_options.backlog = 4096
# Setting one of them unsets the others; these are as they come.
tcp_listen_options.nodelay = true
tcp_listen_options.linger.on = true
tcp_listen_options.linger.timeout = 0
tcp_listen_options.exit_on_close = false
num_acceptors.tcp = 4
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.4
log.console = false
log.file = rabbit.log
log.file.level = info
"""

_MANAGEMENT = """\
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
# Counters every second instead of every five, for those who wait for them.
collect_statistics_interval = 1000
"""


# What some tests want of the brokers of the whole run.
_RUN_PLUGINS = ('rabbitmq_consistent_hash_exchange',)


class Node(Admin):
    """One RabbitMQ node. `start`, `stop`, `kill`, `restart` are for the process that made it; the rest also
    for those that attached to it. As a context manager: started at entry, closed at exit."""

    def __init__(
        self,
        label: str = '3.10',
        *,
        plugins: Iterable[str] = (),
        config: Iterable[str] = (),
        management: bool = True,
        server: Server | None = None,
        home: str = '',
        epmd_port: int = 0,
        erlang_args: str = '',
    ) -> None:
        """`config`: more lines of rabbitmq.conf, such as a TLS listener on one of `free_ports()`; files they
        name must lie in the folder for temporary files (4.3 sees no other). `home` (the folder with the cookie) and
        `epmd_port` are the node's own unless they are given: nodes of a cluster share them (cluster.py)."""
        self.label = label
        self._server = server
        self.home = home
        self.epmd_port = epmd_port
        self._erlang_args = f'{_ERLANG_ARGS} {erlang_args}'.rstrip()
        self._plugins = [*(['rabbitmq_management'] if management else []), *plugins]
        self._config = list(config)
        self._attached = False
        self._keeper: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.nodename = f'gamqp-{os.getpid()}-{random.randrange(16**6):06x}@localhost'
        self._url: str | None = None
        self.management = 'wanted' if management else None

    def configure(self, lines: Iterable[str]) -> None:
        """Further lines of rabbitmq.conf, before the first start."""
        self._config += lines

    def __repr__(self) -> str:
        state = f'up, pid {self.pid}' if self.pid else 'down'
        return f'<Node {self.label} ({self.version}) at {self.port}: {state}>'

    # -- life ----------------------------------------------------------------------------------------------

    def start(self, timeout: float = 60) -> Node:
        """Start, and return when clients can connect. A stopped node starts with the data it had."""
        self._need_ownership()
        if self.running:
            raise NodeError(f'{self!r} was started already')
        self.kill()  # it may have ended by itself: then there is something to tidy up
        if self._server is None:
            self._server = install(self.label)
        if self._folder is None:
            self._prepare(self._server.root)
        self._launch()
        try:
            self._await_ready(time.monotonic() + timeout)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout: float = 30) -> None:
        """Stop in order: clients are told (320, CONNECTION_FORCED), data is kept for the next `start`."""
        self._need_ownership()
        if self._keeper is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
                os.kill(self.pid, signal.SIGCONT)  # it may be suspended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End at once, like a power cut; what was on disk is kept for the next `start`."""
        self._need_ownership()
        running, self._keeper, self.pid = self._keeper, None, None
        if running is None:
            return
        with contextlib.suppress(BrokenPipeError), running.stdin as order:  # type: ignore[union-attr]
            order.write(process_supervisor.KILL)
        running.wait()

    def restart(self) -> Node:
        """Stop and start; port, name and durable data stay."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """End at once and remove everything."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Node:
        return self if self._keeper else self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """A peer that is there and says nothing, for as long as the block lasts (SIGSTOP, SIGCONT)."""
        os.kill(self.server_pid(), signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server_pid(), signal.SIGCONT)

    @property
    def log_file(self) -> Path | None:
        """Where the broker writes its log; None for one that is not ours."""
        return None if self._folder is None else self._folder / 'log' / 'rabbit.log'

    def log(self, lines: int = 30) -> str:
        """The end of what the node wrote: its log, and what came before there was one."""
        if self._folder is None:
            return ''
        text = ''
        for name in ('console', 'log/rabbit.log'):
            with contextlib.suppress(OSError):
                text += (self._folder / name).read_text(errors='replace')
        return '\n'.join(text.splitlines()[-lines:])

    # -- where it is ---------------------------------------------------------------------------------------

    def url(self, vhost: str = '/', user: str = 'guest', password: str = 'guest') -> str:
        # Somebody else's broker: as its owner wrote it.
        return self._url if self._url is not None else super().url(vhost, user, password)

    def entry(self) -> dict[str, Any]:
        """What another process needs for `attach`."""
        result = {name: getattr(self, name) for name in _SHARED}
        return {**result, 'folder': str(self._folder), 'url': self.url()}

    @classmethod
    def attach(cls, entry: dict[str, Any]) -> Node:
        """The handle of a node that another process started."""
        node = cls(entry['label'])
        for name in _SHARED:
            setattr(node, name, entry[name])
        node._folder = Path(entry['folder'])
        node._attached = True
        if node.label == 'external':
            node._url = entry['url']
        return node

    @classmethod
    def external(cls, url: str) -> Node:
        """A broker that is not ours, by its URL: nothing but its URL, port and version is known."""
        node = cls('external', management=False)
        parts = urlsplit(url)
        secure = parts.scheme == 'amqps'
        node.port = parts.port or (5671 if secure else 5672)
        node.version = None if secure else broker_version(parts.hostname or '127.0.0.1', node.port)
        if node.version is None and not secure:
            raise NodeError(f'no AMQP broker answers at {parts.hostname}:{node.port} (AMQP_URL)')
        node._url = url
        return node

    # -- how -----------------------------------------------------------------------------------------------

    def _need_ownership(self) -> None:
        if self._attached:
            raise NodeError(f'{self!r} belongs to another process: start a Node of your own for that')

    def _prepare(self, root: str) -> None:
        """The folder, with all that the node reads."""
        self._folder = Path(tempfile.mkdtemp(prefix='gamqp-rabbit-'))
        self.chroot = root
        self.port, management, epmd_port, self._dist_port = free_ports(4)
        self.epmd_port = self.epmd_port or epmd_port
        ipv6 = '' if bindable('::1', self.port) else '# no IPv6: '
        config = _CONFIG.format(port=self.port, ipv6=ipv6)
        if self.management is not None:
            self.management = f'http://127.0.0.1:{management}'
            config += _MANAGEMENT.format(management=management)
        config += ''.join(f'{line}\n' for line in self._config)
        (self._folder / 'rabbit.conf').write_text(config)
        (self._folder / 'plugins').write_text(f'[{",".join(self._plugins)}].\n')
        if not self.home:
            self.home = make_home(self._folder)

    def _launch(self) -> None:
        folder = str(self._folder)
        environment = {
            **self.environment(),
            'RABBITMQ_MNESIA_BASE': f'{folder}/mnesia',
            'RABBITMQ_LOG_BASE': f'{folder}/log',
            'RABBITMQ_CONFIG_FILE': f'{folder}/rabbit.conf',
            'RABBITMQ_ENABLED_PLUGINS_FILE': f'{folder}/plugins',
            'RABBITMQ_DIST_PORT': str(self._dist_port),
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': self._erlang_args,
            # Makes the script become the server instead of staying as its parent.
            'RUNNING_UNDER_SYSTEMD': 'true',
        }
        spec: dict[str, Any] = {
            'argv': [f'{BIN}rabbitmq-server'],
            'env': environment,
            'folder': folder,
            'log': f'{folder}/console',
            'root': self.chroot,
            'shared': tempfile.gettempdir(),
        }
        with open(spec['log'], 'ab') as log:
            self._keeper = subprocess.Popen(
                [*namespaces(), sys.executable, '-S', '-E', process_supervisor.__file__, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; the nodes end when these have ended
            )

    def _await_ready(self, deadline: float) -> None:
        while not self._ready():
            if not self.running:
                raise NodeError(f'{self.nodename} ended while it started:\n{self.log()}')
            if time.monotonic() > deadline:
                raise NodeError(f'{self.nodename} is not ready in time:\n{self.log()}')
            time.sleep(0.1)
        self.pid = self._find_server()

    def _ready(self) -> bool:
        self.version = broker_version('127.0.0.1', self.port)
        if self.version is None:
            return False
        if self.management is None:
            return True
        try:
            return bool(self.api('overview')['node'] == self.nodename)
        except (OSError, NodeError):
            return False

    def _find_server(self) -> int:
        assert self._keeper is not None
        for pid in process_supervisor.descendants(self._keeper.pid):
            with contextlib.suppress(OSError):
                if Path(f'/proc/{pid}/comm').read_text().startswith('beam'):
                    return pid
        raise NodeError(f'{self.nodename} answers, but its process is not to be found')


def make_home(folder: Path) -> str:
    """A home for nodes below `folder`, with a cookie: who has the same may give them orders."""
    home = folder / 'home'
    home.mkdir()
    cookie = home / '.erlang.cookie'
    cookie.write_text(f'{random.getrandbits(80):020x}')
    cookie.chmod(0o400)
    return str(home)


_SHARED = ('label', 'version', 'port', 'management', 'pid', 'nodename', 'epmd_port', 'chroot', 'home')


# -- the command -------------------------------------------------------------------------------------------


def install_all(labels: list[str]) -> list[Server]:
    """Install servers. A label that ends in '?' is left out, with a word, if it cannot be had."""
    servers = []
    for label in labels:
        try:
            servers.append(install(label.rstrip('?')))
        except CannotInstall as error:
            if not label.endswith('?'):
                raise
            say(f'going on without {label.rstrip("?")}: {error}')
    return servers


def start_all(servers: list[Server]) -> list[Node]:
    """Start nodes at the same time."""
    nodes = [Node(server.label, server=server, plugins=_RUN_PLUGINS) for server in servers]
    if servers:
        say(f'starting {" and ".join(server.version for server in servers)}')
    failures: list[BaseException] = []

    def start(node: Node) -> None:
        try:
            node.start()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(node,)) for node in nodes]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    except BaseException:
        for node in nodes:
            node.close()
        raise
    return nodes


def run(nodes: list[Node], command: list[str]) -> int:
    """Run a command with these nodes; its exit status. Signals that were meant for us go to all of it."""
    environment = {**os.environ, 'GAMQP_TEST_NODES': json.dumps([node.entry() for node in nodes])}
    if nodes:
        environment.setdefault('AMQP_URL', nodes[0].url())
    watched = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process_supervisor.follow_parent(signal.SIGTERM)

    process = subprocess.Popen(command, env=environment, preexec_fn=prepare)
    while process.poll() is None:
        info = signal.sigwaitinfo(watched)
        # A key pressed at the terminal reaches the command without us: the kernel signals the whole group.
        if info.si_signo != signal.SIGCHLD and info.si_code <= 0:
            process_supervisor.send([process.pid, *process_supervisor.descendants(process.pid)], info.si_signo)
    for node in nodes:
        if node.label != 'external' and not node.running:
            say(f'{node.version} ended before the command did; its last words:\n{node.log(10)}')
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        usage='%(prog)s [options] install | run -- COMMAND', description='Private RabbitMQ nodes for a command.'
    )
    parser.add_argument(
        'action', choices=['install', 'run'], help='install: only that; prints the list without those it cannot have'
    )
    parser.add_argument(
        '--rabbitmq',
        default='3.10',
        metavar='LIST',
        help="3.10, 4.3, or both with a comma; '?' behind one: if possible; 'none'; 'external': AMQP_URL",
    )
    parser.add_argument('--with-parent', action='store_true', help='end when the calling process ends')
    arguments, command = sys.argv[1:], []
    if '--' in arguments:
        at = arguments.index('--')
        arguments, command = arguments[:at], arguments[at + 1 :]
    options = parser.parse_args(arguments)
    if bool(command) != (options.action == 'run'):
        parser.error('run needs a command, after --; install takes none')
    if options.with_parent:
        process_supervisor.follow_parent(signal.SIGTERM)
    nodes: list[Node] = []
    try:
        if options.rabbitmq == 'external':
            nodes = [Node.external(os.environ['AMQP_URL'])]
            found = options.rabbitmq
        else:
            servers = [] if options.rabbitmq == 'none' else install_all(options.rabbitmq.split(','))
            found = ','.join(server.label for server in servers) or 'none'
            if options.action == 'run':
                nodes = start_all(servers)
        if options.action == 'run':
            return run(nodes, command)
        print(found)
        return 0
    except (CannotInstall, NodeError) as error:
        say(str(error))
        return 3
    except KeyboardInterrupt:
        return 130
    finally:
        for node in nodes:
            node.close()


if __name__ == '__main__':
    sys.exit(main())
