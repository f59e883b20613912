"""The commands of ``gamqp`` as processes of their own, in the way a shell starts them.

Job: start one, end it in any case, give exit code and outputs. Standard library only. Waiting for a process blocks
the thread: where the test is the peer of the process as well, it waits by ``broker_tools.in_thread``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ('PATIENCE', 'Done', 'finished', 'gamqp', 'started')

# Seconds that a command may take; it takes one or two.
PATIENCE = 120


class Done(NamedTuple):
    """How a command has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """The lines of JSON on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@contextlib.contextmanager
def started(*arguments: str, url: str = '', **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command under way, which is killed at the end if it still runs. url: what AMQP_URL says."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'AMQP_URL': url}
    process = subprocess.Popen(
        [sys.executable, '-m', 'gamqp', *arguments],
        cwd='/',  # -m would put a tree that it finds here before what is installed
        env={**environment, **how.pop('env', {})},
        **{'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **how},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Done:
    """Wait for the end of a command. Raises subprocess.TimeoutExpired for one that is stuck."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    return Done(process.returncode, (out or b'').decode(), (err or b'').decode())


def gamqp(*arguments: str, url: str = '', stdin: bytes | str | None = None, **how: Any) -> Done:
    """Run a command to its end."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    how = how if data is None else {'stdin': subprocess.PIPE, **how}
    with started(*arguments, url=url, **how) as process:
        return finished(process, data)
