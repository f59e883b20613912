"""Keeps the processes of one private broker together, and ends them with the one who asked for it.

Job: run as `python process_supervisor.py SPEC` between a `Node` and its server. Standard input is a pipe whose
other end only the owner holds: when the owner dies, however it dies, the pipe ends, and the supervisor kills everything
below it and removes the node's folder. Erlang leaves a name server (epmd) behind when a node stops; the
supervisor adopts it (it is a "subreaper", or process 1 of a process namespace) and kills that too.

Ban: standard library only, nothing of ours, no configuration of RabbitMQ: it is told what to run.

SPEC is JSON: `argv`, `env`, `folder`, `log`, and `root` with `shared`, when the server lives in a folder of
its own (see install.py): then it gets /proc, /dev and the folder `shared` mounted, in namespaces of its own
(`install.namespaces`), so that the mounts vanish with the last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: What the owner writes to have everything killed at once and the folder left in place.
KILL = b'k'


def follow_parent(signum: int) -> None:
    """Ask the kernel to send `signum` to this process when its parent dies (Linux; elsewhere nothing)."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, parents before children; `pid` itself is not among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/stat', 'rb') as stat:
                # The command name, in parentheses, may hold anything: count from its end.
                parent = int(stat.read().rpartition(b')')[2].split()[1])
        except OSError:
            continue  # ended while we were looking
        children.setdefault(parent, []).append(int(name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def send(pids: list[int], signum: int) -> None:
    """Signal each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _mount(root: str, shared: str) -> str:
    """Show the system in `root` at a place of ours, with /proc, /dev and `shared` in it; return the place.

    The place is a folder of /proc because that one mount is certainly ours alone: unshare has just made it.
    Mounts made in `root` itself could spread to the rest of the machine, when this is run inside a chroot.
    """
    place = '/proc/fs'
    for argv in (
        ['--bind', root, place],
        ['--make-private', place],
        ['-t', 'proc', 'proc', f'{place}/proc'],
        ['--bind', '/dev', f'{place}/dev'],
        ['--bind', shared, place + shared],
    ):
        if argv[0] == '--bind':
            os.makedirs(argv[-1], exist_ok=True)
        subprocess.run(['mount', *argv], check=True)
    return place


def _wait(server: int, wake: int) -> tuple[int | None, bool]:
    """Wait for the server's end or the owner's word: (exit status if it ended, is the owner gone?)."""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 512)
            status = _reap(server)
            if status is not None:
                return status, False
        if 0 in ready:
            return None, os.read(0, 1) != KILL


def _reap(server: int) -> int | None:
    """Collect whoever ended; the server's exit status if it was among them."""
    result = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == server:
                result = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        pass
    return result


def _kill_all() -> None:
    """Kill until nothing is left below us. In rounds: one that is dying may just have started another."""
    while below := descendants(os.getpid()):
        send(below, signal.SIGKILL)
        _reap(0)
        time.sleep(0.01)


def main(spec: dict[str, Any]) -> int:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the byte in the pipe is all we need
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    argv = spec['argv']
    if spec['root']:
        argv = ['chroot', _mount(spec['root'], spec['shared']), *argv]
    with open(spec['log'], 'ab') as log:
        server = subprocess.Popen(
            argv,
            env=spec['env'],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd='/',
            # Without a process namespace this is what is left if the supervisor itself is killed.
            preexec_fn=lambda: follow_parent(signal.SIGKILL),
        )
    status, orphaned = _wait(server.pid, wake)
    _kill_all()
    if orphaned:
        shutil.rmtree(spec['folder'], ignore_errors=True)
    return 0 if status is None else status & 0xFF


if __name__ == '__main__':
    sys.exit(main(json.loads(sys.argv[1])))
