"""Whole programs over TLS, patched early, late or not at all, and one that ends without closing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import pytest

import gamqp

PROGRAMS = Path(__file__).parent / 'programs'
# Each program once: with the greenlet library of this run.
every_library = pytest.mark.parametrize('library', [greenlets.GREEN])
# Seconds that a program may take; it takes three or four.
PATIENCE = 120


def run(program: str, *args: str) -> str:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(PROGRAMS / program), *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@every_library
@pytest.mark.parametrize('when', ['early', 'late', 'not'])
def test_many_greenlets_share_connections_whatever_is_patched(secure: Any, library: str, when: str) -> None:
    told = json.loads(run('secure_traffic.py', library, when, secure.url, secure.trust['ca_certs']))
    assert told['backend'] == library
    assert told['results'] == [10] * (7 if when == 'late' else 2)
    assert told['ticks'] >= 10
    assert 'the certificate is refused' in told['refused']


@every_library
def test_what_was_published_before_the_end_arrives(secure: Any, library: str) -> None:
    """At the end of the interpreter what is queued, and what is encrypted, is sent."""
    queue = f'leaving.{uuid.uuid4()}'
    run('secure_leaving.py', library, secure.url, secure.trust['ca_certs'], queue, '8000')
    with gamqp.connect(secure.url, ssl=secure.trust) as connection:
        channel = connection.channel()
        broker_tools.wait_ready(channel, queue, 8000)
        channel.queue_delete(queue)
