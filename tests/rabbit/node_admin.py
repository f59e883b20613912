"""Orders to a running node: Erlang expressions, and the management HTTP API.

Job: the half of `Node` (node.py) that works just as well in a process that did not start the node.

Ban: starts and ends nothing. Blocking calls, standard library only.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

BIN = '/usr/lib/rabbitmq/bin/'


class NodeError(RuntimeError):
    """A node did not start, or refused an order; the text holds what it said."""


class Admin:
    """What can be asked of a node, given the few facts below."""

    label: str
    version: str | None = None
    nodename: str
    pid: int | None = None
    port = 0
    epmd_port = 0
    home = ''
    chroot = ''
    management: str | None = None

    def url(self, vhost: str = '/', user: str = 'guest', password: str = 'guest') -> str:
        return f'amqp://{user}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe="")}'

    # Not by rabbitmqctl: it takes seconds of a processor, and it starts a name server (epmd) where there is none, as
    # when the node has just ended, and leaves it behind.

    def eval(self, expression: str) -> str:
        """The value of an Erlang expression, which ends in a full stop, evaluated in the node."""
        with open(f'{self.home}/.erlang.cookie') as file:
            cookie = file.read()
        # By default all of one user have the same name, and only one of them gets in.
        name = f'tests{random.randrange(16**9):x}'
        argv = ['env', '--chdir=/', '-i', *(f'{k}={v}' for k, v in self.environment().items())]
        argv += ['erl_call', '-c', cookie, '-h', name, '-n', self.nodename, '-e']
        pid = self.server_pid()
        if self.chroot:
            argv = ['nsenter', f'--target={pid}', '--mount', '--root', *argv]
        done = subprocess.run(argv, input=f'{expression}\n'.encode(), capture_output=True, timeout=60)
        said = done.stdout.decode(errors='replace').strip()
        if done.returncode != 0 or not said.startswith('{ok, '):
            raise NodeError(f'{expression} status {done.returncode}\n{said}{done.stderr.decode(errors="replace")}')
        return said.removeprefix('{ok, ').removesuffix('}')

    def set_memory_watermark(self, fraction: float) -> None:
        """0 blocks every publishing connection (connection.blocked), 0.4 is the normal value."""
        # The alarm is raised by one process and passed on by another. Once that one answers, it has passed it on:
        # what a connection's process reads from its socket from now on comes behind the alarm.
        self.eval(f'vm_memory_monitor:set_vm_memory_high_watermark({float(fraction)}), rabbit_alarm:get_alarms().')

    def api(self, path: str, method: str = 'GET', body: Any = None, **headers: str) -> Any:
        """A request to the management HTTP API: `api('queues/%2F')` is the decoded JSON, None if empty."""
        if self.management is None:
            raise NodeError(f'{self!r} has no management API')
        data = None if body is None and method == 'GET' else json.dumps(body or {}).encode()
        request = urllib.request.Request(f'{self.management}/api/{path.lstrip("/")}', data, method=method)
        request.add_header('Authorization', 'Basic Z3Vlc3Q6Z3Vlc3Q=')  # guest:guest
        request.add_header('Content-Type', 'application/json')
        for name, value in headers.items():
            request.add_header(name.replace('_', '-'), value)
        # No proxies: the machine's settings may name one even for this address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors='replace')
            raise NodeError(f'{method} {path}: {error.code} {error.reason} {said}') from error
        return json.loads(text) if text else None

    def add_vhost(self, name: str) -> str:
        """Make a virtual host that guest may use; its URL."""
        self.api(f'vhosts/{quote(name, safe="")}', 'PUT')
        everything = {'configure': '.*', 'write': '.*', 'read': '.*'}
        self.api(f'permissions/{quote(name, safe="")}/guest', 'PUT', everything)
        return self.url(name)

    def delete_vhost(self, name: str) -> None:
        self.api(f'vhosts/{quote(name, safe="")}', 'DELETE')

    def connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.api(
            f'vhosts/{quote(vhost, safe="")}/connections' if vhost else 'connections'
        )
        return listed

    def close_connections(self, vhost: str, *, reason: str = 'closed by a test', expect: int = 1) -> int:
        """Close the connections of a virtual host from the broker's side, as its operator would; how many.

        Waits, at most 30 s, until at least `expect` are there: the broker knows of one a moment after it opened.
        """
        deadline = time.monotonic() + 30
        those = (
            f'[P || P <- rabbit_networking:connections(), '
            f'(catch rabbit_networking:connection_info(P, [vhost])) =:= [{{vhost, {erlang_binary(vhost)}}}]]'
        )
        while (count := int(self.eval(f'length({those}).'))) < expect:
            if time.monotonic() > deadline:
                raise NodeError(f'{count} connections of {vhost}, expected {expect}')
            time.sleep(0.05)
        closed = f'[P || P <- {those}, (catch rabbit_networking:close_connection(P, {erlang_binary(reason)})) =:= ok]'
        return int(self.eval(f'length({closed}).'))

    def environment(self) -> dict[str, str]:
        """For the node, and for programs beside it. A name server (epmd) per node, so that it can go with it."""
        return {
            'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
            'LANG': 'C.UTF-8',
            'HOME': self.home,
            'ERL_EPMD_PORT': str(self.epmd_port),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_CRASH_DUMP_BYTES': '0',
            'RABBITMQ_NODENAME': self.nodename,
            'RABBITMQ_CONF_ENV_FILE': '/dev/null',
        }

    def server_pid(self) -> int:
        """The process to send signals to."""
        if self.pid is None:
            raise NodeError(f'{self!r}: not running, or not ours')
        return self.pid


def erlang_binary(text: str) -> str:
    """An Erlang binary of this text, as source."""
    return '<<' + ','.join(map(str, text.encode())) + '>>'
