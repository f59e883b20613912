"""A private node of a RabbitMQ that is installed: ports, name and folder of its own, gone when it is stopped.

Layer 5. Its calls block the thread. Does not belong here: what is done with the node, see ``rabbitmq``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
from collections.abc import Iterable

from ..green.os_threads import original
from .management import Management, ManagementError

__all__ = ('RabbitMQNode', 'installed_server')

_PATIENCE = 60.0  # seconds for a start, which takes about five
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
collect_statistics_interval = 500
disk_free_limit.absolute = 50MB
log.console = false
log.file = rabbit.log
"""


def installed_server() -> str | None:
    """Where the program rabbitmq-server is; None if RabbitMQ is not installed."""
    # Debian's command is one that wants to be root, or rabbitmq, and runs this one.
    debian = '/usr/lib/rabbitmq/bin/rabbitmq-server'
    return debian if os.access(debian, os.X_OK) else shutil.which('rabbitmq-server')


class RabbitMQNode:
    """A running node. config: more lines of rabbitmq.conf. Raises RuntimeError if it does not start, or there is none.

    It is in the process group of the test, and stopped by ``stop``.
    """

    def __init__(self, config: Iterable[str] = ()) -> None:
        server = installed_server()
        if server is None:
            raise RuntimeError('RabbitMQ is not installed: there is no program rabbitmq-server')
        self.port, management, self._names_port, distribution = _free_ports(4)
        self.management = Management(f'http://127.0.0.1:{management}', 'guest', 'guest')
        self._folder = tempfile.mkdtemp(prefix='gamqp-testing-')
        self._write('rabbit.conf', _CONFIG.format(port=self.port, management=management) + '\n'.join(config) + '\n')
        self._write('plugins', '[rabbitmq_management].\n')
        self._environment = {
            **os.environ,
            'HOME': self._folder,  # of the cookie
            'ERL_EPMD_PORT': str(self._names_port),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODENAME': f'gamqp-testing-{os.getpid()}-{self.port}@localhost',
            'RABBITMQ_MNESIA_BASE': f'{self._folder}/data',
            'RABBITMQ_LOG_BASE': f'{self._folder}/log',
            'RABBITMQ_CONFIG_FILE': f'{self._folder}/rabbit.conf',
            'RABBITMQ_CONF_ENV_FILE': '/dev/null',
            'RABBITMQ_ENABLED_PLUGINS_FILE': f'{self._folder}/plugins',
            'RABBITMQ_DIST_PORT': str(distribution),
            'RUNNING_UNDER_SYSTEMD': 'true',  # the script becomes the server, instead of staying as its parent
        }
        with open(f'{self._folder}/output', 'wb') as output:
            self._process = subprocess.Popen([server], env=self._environment, stdout=output, stderr=output)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """The AMQP URL of its default virtual host."""
        return f'amqp://guest:guest@127.0.0.1:{self.port}/%2F'

    def stop(self) -> None:
        """End it at once, with all that it has. Idempotent."""
        self._process.kill()
        self._process.wait()
        # The name server of Erlang was started beside it, and would stay.
        with contextlib.suppress(OSError):
            subprocess.run(['epmd', '-kill'], env=self._environment, capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.management.get('overview')
                return
            except (OSError, urllib.error.URLError, ManagementError):
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(f'{self._folder}/output', encoding='utf-8', errors='replace') as output:
                    raise RuntimeError(f'RabbitMQ does not start: {output.read()[-2000:]}')
            original('time', 'sleep')(0.05)

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self._folder, name), 'w', encoding='utf-8') as file:
            file.write(text)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    make = original('socket', 'socket')
    sockets = [make() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(('127.0.0.1', 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
