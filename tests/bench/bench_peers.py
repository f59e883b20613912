"""The clients that are compared, and how each is called; which of them are here, and why the others are not.

The programs in C and Go are compiled here. Does not belong here: jobs, figures.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ('BASELINE', 'NAMES', 'PROGRAMS', 'Peer', 'find')

PROGRAMS = Path(__file__).parent / 'programs'

#: What the others are compared with.
BASELINE = 'py-amqp'

# name -> (program, module that it needs, environment, whether it runs with gamqp's Python)
_PYTHON: dict[str, tuple[str, str, dict[str, str], bool]] = {
    'gamqp': ('gamqp_client.py', 'gamqp.wire', {'GAMQP_PURE_PYTHON': ''}, True),
    'gamqp-pure': ('gamqp_client.py', 'gamqp', {'GAMQP_PURE_PYTHON': '1'}, True),
    'gamqp-recover': ('gamqp_client.py', 'gamqp.wire', {'GAMQP_PURE_PYTHON': '', 'RECOVER': '1'}, True),
    'py-amqp': ('amqp_client.py', 'amqp', {}, False),
    'py-amqp-gevent': ('amqp_client.py', 'amqp', {'GREEN': 'gevent'}, False),
    'pika': ('pika_client.py', 'pika', {}, False),
    'aio-pika': ('aio_pika_client.py', 'aio_pika', {}, False),
    'amqpstorm': ('amqpstorm_client.py', 'amqpstorm', {}, False),
    'librabbitmq': ('librabbitmq_client.py', 'librabbitmq', {}, False),
    'socket': ('socket_client.py', 'socket', {}, False),
    'socket-gevent': ('socket_client.py', 'gevent', {'GREEN': 'gevent'}, True),
}
# name -> (program, what compiles it, what it lacks where that fails)
_COMPILED = {
    'c': (
        'client.c',
        (os.environ.get('CC', 'cc'), '-O2', '{source}', '-o', '{result}', '-lrabbitmq'),
        'the headers of rabbitmq-c (Debian: librabbitmq-dev)',
    ),
    'go': (
        'client.go',
        ('go', 'build', '-o', '{result}', '{source}'),
        'the package amqp091-go (Debian: golang-github-rabbitmq-amqp091-go-dev)',
    ),
}
NAMES = (*_PYTHON, *_COMPILED)


@dataclasses.dataclass
class Peer:
    """A client: its name, and the beginning of the command that does a job with it."""

    name: str
    command: list[str]
    environment: dict[str, str]


def find(wanted: list[str], python: str, others_python: str, folder: Path) -> tuple[list[Peer], dict[str, str]]:
    """The clients that can be run, and for each other one why it cannot.

    python: the interpreter that has gamqp. others_python: the one that has the others. folder: for compiled programs.
    """
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for name in wanted:
        if name in _COMPILED:
            found = _compile(name, folder)
        else:
            program, module, environment, is_own = _PYTHON[name]
            interpreter = python if is_own else others_python
            lack = _lacks(interpreter, module, environment)
            found = lack or Peer(name, [interpreter, str(PROGRAMS / program)], environment)
        if isinstance(found, Peer):
            peers.append(found)
        else:
            absent[name] = found
    return peers, absent


def _lacks(python: str, module: str, environment: dict[str, str]) -> str:
    """What is missing for a module; '' for nothing."""
    check = f'import importlib.util, sys; sys.exit(importlib.util.find_spec("{module}") is None)'
    if module == 'gamqp.wire':
        check = 'import sys, gamqp.wire; sys.exit(not gamqp.wire.COMPILED)'
    # Not from the tree's folder: the package of the tree would be found, which is not compiled.
    done = subprocess.run([python, '-c', check], env={**os.environ, **environment}, cwd=PROGRAMS, capture_output=True)
    if not done.returncode:
        return ''
    return 'gamqp is not compiled here' if module == 'gamqp.wire' else f'{module} is not installed'


def _compile(name: str, folder: Path) -> Peer | str:
    source, command, lack = _COMPILED[name]
    compiler = shutil.which(command[0])
    result = folder / f'client-{name}'
    if compiler is None:
        return f'no {command[0]} to compile it'
    environment = {'GO111MODULE': 'off', 'GOPATH': '/usr/share/gocode', 'GOFLAGS': ''} if name == 'go' else {}
    if not result.exists() or result.stat().st_mtime < (PROGRAMS / source).stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        words = [word.format(source=PROGRAMS / source, result=result) for word in command]
        done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
        if done.returncode:
            return f'it does not compile; most often it lacks {lack}'
    # A program of Go would otherwise be the only one with more than one processor.
    return Peer(name, [str(result)], {'GOMAXPROCS': '1'} if name == 'go' else {})
