"""A web application of ``examples/`` behind gunicorn, as processes of their own, and clients that load it.

    with Gunicorn('flask_app', {'AMQP_URL': rabbit.url}, tmp_path, workers=2) as server:
        status, headers, body = server.request('GET', '/readyz')
        with Load(server.port, 20, 'POST', '/orders') as load:
            load.answered(100)
            server.signal_worker(signal.SIGTERM)
        load.outcomes

Blocks the whole process while it waits, as a user's shell would: no connection of the test is open meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from program_output import printed_line

import gamqp

EXAMPLES = Path(__file__).parents[2] / 'examples'
LOAD = Path(__file__).parent / 'programs' / 'http_load.py'
PATIENCE = 90.0  # seconds; what takes a second on an idle machine may take many

CONFIG = """\
import pathlib
exec(pathlib.Path({0!r}).read_text())
{1}
def post_worker_init(worker):
    pathlib.Path({2!r}, str(worker.pid)).touch()
"""


class Gunicorn:
    """gunicorn with the settings of ``examples/gunicorn.conf.py``, and *settings* in place of some of them.

    application: a program of ``examples/`` that starts gunicorn itself, or ``module:name`` as gunicorn takes it.
    """

    def __init__(self, application: str, environment: Mapping[str, str], folder: Path, **settings: Any) -> None:
        self.application = application
        self._log = folder / 'gunicorn.log'
        self._config = folder / 'gunicorn.conf.py'
        self._started = folder / 'started'
        self._started.mkdir()
        settings['control_socket_disable'] = True  # it is one for all gunicorns of a user
        lines = [f'{name} = {value!r}' for name, value in settings.items()]
        self._config.write_text(CONFIG.format(str(EXAMPLES / 'gunicorn.conf.py'), '\n'.join(lines), str(self._started)))
        self._environment = {**os.environ, 'PYTHONPATH': str(Path(gamqp.__file__).parents[1]), **environment}
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._process: Any = None

    def __enter__(self) -> Gunicorn:
        arguments = ['--config', str(self._config), '--bind', f'fd://{self._listener.fileno()}']
        if ':' in self.application:
            command = ['-m', 'gunicorn', *arguments, '--pythonpath', str(EXAMPLES), self.application]
        else:
            command = [str(EXAMPLES / f'{self.application}.py'), *arguments]
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                env=self._environment,
                pass_fds=[self._listener.fileno()],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # From now on it is gunicorn's alone: when that closes it, clients are refused.
        self._listener.close()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace')

    def workers(self) -> list[int]:
        """The processes of the workers, those that are just starting or ending included."""
        path = Path(f'/proc/{self._process.pid}/task/{self._process.pid}/children')
        return [int(word) for word in path.read_text().split()]

    def signal_worker(self, number: int) -> None:
        """Send a signal to the oldest worker."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.workers()[0], number)

    def signal_master(self, number: int) -> None:
        self._process.send_signal(number)

    def reload(self) -> None:
        """SIGHUP, and wait until all workers have been replaced."""
        old = set(self.workers())
        self.signal_master(signal.SIGHUP)
        for _ in self._until('the workers have been replaced'):
            if not old & set(self.workers()):
                return

    def stop(self) -> int:
        """SIGTERM, and wait for the end. Returns the exit status."""
        # A worker that has just been forked does not hear a SIGTERM, goes on, and is killed after graceful_timeout.
        for _ in self._until('all workers have started'):
            if all((self._started / str(worker)).exists() for worker in self.workers()):
                break
        self.signal_master(signal.SIGTERM)
        return int(self._process.wait(PATIENCE))

    def request(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body) of one request. Waits for the server to start."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {'Connection': 'close', **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _until(self, what: str) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            yield
            assert self._process.poll() is None, f'gunicorn has ended:\n{self.log}'
            time.sleep(0.02)
        raise AssertionError(f'not within {PATIENCE} s: {what}\n{self.log}')


class Load:
    """Clients that send requests as fast as they are answered, in the ``with`` block."""

    def __init__(self, port: int, clients: int, method: str, path: str) -> None:
        self._arguments = [str(port), str(clients), method, path]
        self._process: Any = None
        self._answered = 0
        self.outcomes: dict[int, int | str] = {}  # number of the request -> status, or the name of the error

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            [sys.executable, str(LOAD), *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: Any, *exc_info: object) -> None:
        if kind is not None:
            self._process.kill()
        out, _ = self._process.communicate(timeout=PATIENCE)
        if kind is None:
            self.outcomes = {int(number): outcome for number, outcome in json.loads(out.splitlines()[-1]).items()}

    def answered(self, more: int) -> None:
        """Wait until that many more requests have been answered."""
        wanted = self._answered + more
        while self._answered < wanted:
            line = printed_line(self._process)
            assert line, 'the clients have ended'
            self._answered = int(line)

    def answered_with(self, *statuses: int) -> list[int]:
        """The numbers of the requests that were."""
        return sorted(number for number, outcome in self.outcomes.items() if outcome in statuses)
